# SPDX-License-Identifier: MIT
"""A listening socket that other processes accept from, or receive on, while this one keeps it open."""

from __future__ import annotations

import socket
from collections import Counter
from typing import TYPE_CHECKING

from sockd.net.kernel import accept_queue
from sockd.net.listen.syn_filter import take_no_more
from sockd.net.udp.listener import DatagramCounts

if TYPE_CHECKING:
    from sockd.net.kernel import AcceptQueue
    from sockd.net.listen.bind import ServerSocket


class SharedListener:
    """Stands where a Listener stands that accepts by itself.

    Args:
        listening: closed by close(); who comes meanwhile waits in its queue, whatever becomes of the others.

    Attributes:
        came, open, refused, counts: what the others tell.
    """

    is_idle = True

    def __init__(self, listening: ServerSocket) -> None:
        self._listening = listening
        self.accepted = self.open = 0
        self.refused: Counter[str] = Counter()
        is_stream = listening.endpoint.type == socket.SOCK_STREAM
        self.counts: DatagramCounts | None = None if is_stream else DatagramCounts()

    def start(self) -> None:
        """Nothing: others accept."""

    def detach(self) -> None:
        """Nothing: others know."""

    @property
    def queue(self) -> AcceptQueue | None:
        """The kernel's accept queue; None where it does not tell."""
        return accept_queue(self._listening.socket)

    def take_no_more(self) -> None:
        """Let no new client in, and remove its Unix path; those on their way in are accepted by the others."""
        if self._listening.path is not None:
            self._listening.path.unlink_if_ours()
        if self._listening.is_ours and self._listening.endpoint.type == socket.SOCK_STREAM:
            take_no_more(self._listening.socket)

    def hand_over(self) -> None:
        """Keep it open no longer, and nothing else: another process has it, and goes on with it."""
        self._listening.socket.close()

    def close(self) -> None:
        """Keep it open no longer."""
        self._listening.close()
