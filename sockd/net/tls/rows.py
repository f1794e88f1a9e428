# SPDX-License-Identifier: MIT
"""Which connections of a table are encrypted, and which may become so."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from sockd._sockbuf import lib
from sockd.net.tls.socket_pair import Input
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.tls.socket_pair import SocketPair, TlsSocket


class StartsTls(Protocol):
    """The handshakes of connections whose service has its end of a pair already: those of a listener, or a test's."""

    def start(
        self, sock: socket.socket, peer: SocketAddress, done: Callable[[TlsSocket | None], None], ends: SocketPair, /
    ) -> None:
        """Call `done` with the service's end, or with None when the handshake has failed."""


class UnreadError(Exception):
    """A peer has sent data before its connection is encrypted."""

    def __init__(self) -> None:
        super().__init__("the peer sent data before it had the reply, and that data is not protected")


class TlsConnections:
    """The rows of a table that are one end of a socket pair, at whose other end data is encrypted and decrypted.

    Args:
        connections: the set.
    """

    def __init__(self, connections: ConnectionTable) -> None:
        self._set = connections
        self._ends: dict[int, TlsSocket] = {}
        self._offers: dict[int, StartsTls] = {}

    def note(self, id: int, near: TlsSocket) -> None:
        """Record that a connection is encrypted; when it is lost, its row is told, because its socket does not
        tell.
        """
        self._ends[id] = near

        def lost(error: int) -> None:
            if self._ends.get(id) is near:  # else it has ended
                lib.sb_mux_lost(self._set.handle, id, error)

        near.on_lost = lost

    def is_cut(self, id: int) -> bool:
        """Return whether a connection whose input has ended may have been truncated in the middle of a frame."""
        near = self._ends.get(id)
        return near is not None and near.input in (Input.CUT, Input.LOST)

    def find(self, id: int) -> TlsSocket | None:
        """Return the encryption state of a connection, None without encryption."""
        return self._ends.get(id)

    def count(self, group: int) -> int:
        """Count the connections of a group that are encrypted."""
        return sum(self._set.info(id).group == group for id in self._ends)

    def ended(self, id: int) -> None:
        """Drop a connection that has just closed; incompletely sent data must not look complete."""
        near = self._ends.pop(id, None)
        if near is not None and (
            self._set.info(id).reason is CloseReason.ABORTED or self._set.output_pending_bytes(id)
        ):
            near.abort()

    # ---- STARTTLS

    def offer(self, group: int, handshakes: StartsTls | None) -> None:
        """Allow STARTTLS for the connections of a group; None: no longer, because the number is reused."""
        if handshakes is None:
            self._offers.pop(group, None)
        else:
            self._offers[group] = handshakes

    def offered(self, id: int) -> StartsTls | None:
        """Return the handshakes for a connection; None if it cannot start TLS."""
        return self._offers.get(self._set.info(id).group)

    def swap(self, id: int, near: TlsSocket) -> int:
        """Move a paused connection to another socket, owned by the table from now on.

        No deadline of the table runs until start_deadlines(), because no data can arrive on that socket before.

        Returns:
            The previous descriptor, owned by the caller.

        Raises:
            BlockingIOError: not all output has been sent.
            UnreadError: there is input that was not handed out.
            ConnectionError: it is closing.
            OSError: the socket cannot be watched.
        """
        before = int(lib.sb_mux_swap(self._set.handle, id, near.fileno()))
        if before == lib.SB_ERR_AGAIN:
            raise BlockingIOError
        if before == lib.SB_ERR_MALFORMED:
            raise UnreadError
        if before in (lib.SB_ERR_GONE, lib.SB_ERR_CLOSING):
            raise ConnectionError("the connection has ended")
        if before < 0:
            number = lib.sb_mux_errno(self._set.handle)
            raise OSError(number, os.strerror(number))
        near.detach()
        self.note(id, near)
        lib.sb_mux_rest(self._set.handle, id, 1)
        return before

    def start_deadlines(self, id: int) -> None:
        """Record that a connection is encrypted now; its deadlines start."""
        lib.sb_mux_rest(self._set.handle, id, 0)


__all__ = ["TlsConnections", "UnreadError"]
