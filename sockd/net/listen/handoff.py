# SPDX-License-Identifier: MIT
"""Connections on their way out of sockd: accepted and let in, then another's.

A listener whose service is a program hands its connections over here instead of to the
set.  They never have a row of the table: the row's epoll would go on reporting a descriptor
that a child still holds, and its close would shut down a socket that is not ours any more.
Where clients' names are wanted, a connection waits for its own, no longer than the resolver's
deadline; others are not held up by it.  A client that is gone by then, or was before it was accepted, gets nothing:
no name, no program, no target.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.connection.peer_gone import is_gone
from sockd.net.listen.refusal import RefusalReason

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.connect.reverse_dns import ReverseDns
    from sockd.net.connection.sources import Sources


logger = logging.getLogger("sockd.listener")


class WhenDone(Protocol):
    """Called once, when a connection has ended."""

    def __call__(self, reason: RefusalReason | None = None, /) -> None:
        """Count it as ended; by a reason why it was not served, if it was not."""


class ConnectionOwner(Protocol):
    """Serves connections by itself."""

    def serve(self, sock: socket.socket, peer: SocketAddress, done: WhenDone) -> None:
        """Own a connected, non-blocking socket from now on; done() is called once, when it is served."""


class BatchAcceptor(Protocol):
    """Accepts connections by itself, many at once."""

    def accept(self, listener: int, max_count: int) -> tuple[int, int]:
        """Accept up to so many; returns as ConnectionTable.accept."""


class Handoff:
    """Hands the connections of one listener over.

    Args:
        owner: gets them.
        resolver: asked for the names of both ends first; None where nobody wants them.
        door: makes what accepts in place of the listener, from what it calls for each connection that has
            ended and where connections count; None where each is accepted by itself.
    """

    def __init__(
        self,
        owner: ConnectionOwner,
        resolver: ReverseDns | None,
        door: Callable[[Callable[[], None], Sources | None], BatchAcceptor | None] | None = None,
    ) -> None:
        self._owner = owner
        self._resolver = resolver
        self._door = door
        self._waiting: dict[socket.socket, tuple[SocketAddress, WhenDone, set[str]]] = {}

    def door(self, done: Callable[[], None], sources: Sources | None) -> BatchAcceptor | None:
        """Return what accepts by itself; None: each connection is to be given."""
        return None if self._door is None or self._resolver is not None else self._door(done, sources)

    def give(self, sock: socket.socket, peer: SocketAddress, done: WhenDone) -> None:
        """Hand one over, at once or when its names are known."""
        if is_gone(sock):
            _drop(sock, peer, done)
            return
        local = SocketAddress.from_sockaddr(sock.getsockname()) if self._resolver is not None and peer.host else None
        if self._resolver is None or local is None or not local.host:
            self._owner.serve(sock, peer, done)
            return
        hosts = {peer.host, local.host}
        self._waiting[sock] = peer, done, hosts
        for host in tuple(hosts):
            self._resolver.ask(host, lambda _name, host=host: self._answered(sock, host))  # type: ignore[misc]

    def _answered(self, sock: socket.socket, host: str) -> None:
        if sock not in self._waiting:
            return
        hosts = self._waiting[sock][2]
        hosts.discard(host)
        if not hosts:
            self._release(sock)

    def _release(self, sock: socket.socket) -> None:
        peer, done, _ = self._waiting.pop(sock)
        if is_gone(sock):
            _drop(sock, peer, done)
        else:
            self._owner.serve(sock, peer, done)

    def close(self) -> None:
        """Wait for no name any more."""
        for sock in list(self._waiting):
            self._release(sock)


def _drop(sock: socket.socket, peer: SocketAddress, done: WhenDone) -> None:
    sock.close()
    logger.info("client left before it was served", extra={"event": {"peer": str(peer)}})
    done(RefusalReason.GONE)
