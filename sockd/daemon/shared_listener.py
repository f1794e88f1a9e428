# SPDX-License-Identifier: MIT
"""A listening socket that other processes accept from, or receive on, while this one keeps it open."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from sockd.net.kernel import accept_queue
from sockd.net.listen.listener import DatagramCounts, ListenerCounts
from sockd.net.listen.syn_filter import HANDSHAKE_SECONDS, refuse_new_clients
from sockd.values import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.net.kernel import AcceptQueue
    from sockd.net.listen.bind import ServerSocket


class SharedListener:
    """A listener (sockd.net.listen.listener) that does not accept: other processes do, and report their counts.

    Args:
        listening: closed by close(); new clients wait in its queue meanwhile, whatever happens to the other processes.

    Attributes:
        counts: as reported by the others.
        is_idle: nothing is pending here.
        groups: none.
    """

    def __init__(self, listening: ServerSocket) -> None:
        self._listening = listening
        self._is_stream = listening.endpoint.type != socket.SOCK_DGRAM
        self.counts = ListenerCounts() if self._is_stream else ListenerCounts.from_datagrams(DatagramCounts())
        self.is_idle = True
        self.groups: Sequence[int] = ()

    def __str__(self) -> str:
        return str(self._listening)

    def start(self) -> None:
        """Nothing: other processes accept."""

    def accept_rest(self) -> None:
        """Nothing: others accept what waits."""

    def detach(self) -> None:
        """Nothing: other processes know."""

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
        """The kernel's accept queue; none if it is not available."""
        queue = accept_queue(self._listening.socket)
        return () if queue is None else (queue,)

    def running(self) -> list[int]:
        """None: no program has its socket."""
        return []

    def await_programs(self, descriptors: Sequence[int]) -> None:
        """Nothing: no program has its socket."""

    def refuse_new_clients(self) -> float:
        """Refuse new clients, and remove the Unix path; the others accept those already connecting."""
        if self._listening.path is not None:
            self._listening.path.unlink_if_ours()
        if self._listening.is_ours and self._is_stream:
            refuse_new_clients(self._listening.socket)
        return HANDSHAKE_SECONDS

    def hand_over(self) -> None:
        """Close this descriptor only: another process has the socket, and keeps using it."""
        self._listening.socket.close()

    def close(self) -> None:
        """Close it."""
        self._listening.close()


__all__ = ["SharedListener"]
