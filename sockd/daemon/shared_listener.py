# SPDX-License-Identifier: MIT
"""A listening socket that other processes accept from, or receive on, while this one keeps it open."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from sockd.net.kernel import accept_queue
from sockd.net.listen.listener import DatagramCounts, ListenerCounts
from sockd.net.listen.syn_filter import SETTLE_SECONDS, take_no_more

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.net.kernel import AcceptQueue
    from sockd.net.listen.bind import ServerSocket


class SharedListener:
    """A listener (sockd.net.listen.listener) that accepts nothing: others do, and tell what they have counted.

    Args:
        listening: closed by close(); who comes meanwhile waits in its queue, whatever becomes of the others.

    Attributes:
        counts: what the others have told.
        is_idle: nothing is on its way here.
        groups: none.
    """

    def __init__(self, listening: ServerSocket) -> None:
        self._listening = listening
        self._is_stream = listening.endpoint.type == socket.SOCK_STREAM
        self.counts = ListenerCounts() if self._is_stream else ListenerCounts.of_datagrams(DatagramCounts())
        self.is_idle = True
        self.groups: Sequence[int] = ()

    def __str__(self) -> str:
        return str(self._listening)

    def start(self) -> None:
        """Nothing: others accept."""

    def accept_rest(self) -> None:
        """Nothing: others accept what waits."""

    def detach(self) -> None:
        """Nothing: others know."""

    def adopt(self, id: int) -> None:
        """Nothing can be adopted.

        Raises:
            LookupError: always.
        """
        raise LookupError(f"the connections of {self} are in other processes, and {id} too")

    def count_on(self, counts: ListenerCounts) -> None:
        """Take note of what the others have counted."""
        self.counts = replace(counts, datagrams={**self.counts.datagrams, **counts.datagrams})

    @property
    def queues(self) -> Sequence[AcceptQueue]:
        """The kernel's accept queue; none where it does not tell."""
        queue = accept_queue(self._listening.socket)
        return () if queue is None else (queue,)

    def take_no_more(self) -> float:
        """Let no new client in, and remove its Unix path; those on their way in are accepted by the others."""
        if self._listening.path is not None:
            self._listening.path.unlink_if_ours()
        if self._listening.is_ours and self._is_stream:
            take_no_more(self._listening.socket)
        return SETTLE_SECONDS

    def hand_over(self) -> None:
        """Keep it open no longer, and nothing else: another process has it, and goes on with it."""
        self._listening.socket.close()

    def close(self) -> None:
        """Keep it open no longer."""
        self._listening.close()


__all__ = ["SharedListener"]
