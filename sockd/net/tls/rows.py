# SPDX-License-Identifier: MIT
"""Which connections of a table are encrypted, and which may become so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sockd._sockbuf import lib
from sockd.lazy import lazily

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.defects import Defects
    from sockd.net.tls import filter as tls_filter
    from sockd.net.tls.filter import TlsFilter
    from sockd.net.tls.stream import TlsStream
    from sockd.net.tls.wire import TlsWire
else:
    tls_filter = lazily("sockd.net.tls.filter")


class StartsTls(Protocol):
    """The handshakes of connections: those of a listener, or a test's."""

    def start(self, sock: socket.socket, peer: SocketAddress, done: Callable[[TlsWire | None], None], /) -> None:
        """Call `done` with what the connection is encrypted by, or with None when the handshake has failed."""

    def cancel(self, sock: socket.socket, /) -> None:
        """Give the handshake of a connection up that its owner has closed."""


class UnreadError(Exception):
    """A peer has sent data before its connection is encrypted."""

    def __init__(self) -> None:
        super().__init__("the peer sent data before it had the reply, and that data is not protected")


class TlsConnections:
    """The connections of a table that are encrypted.

    Args:
        connections: the table.
        defects: gets what fails that is no failure of a peer's.
    """

    def __init__(self, connections: ConnectionTable, defects: Defects) -> None:
        self._table = connections
        self._defects = defects
        self._filter: TlsFilter | None = None
        self._streams: dict[int, TlsStream] = {}
        self._shaking: dict[int, Callable[[], None]] = {}
        self._offers: dict[int, StartsTls] = {}

    def secure(self, id: int, stream: TlsStream) -> None:
        """Have a connection that has just come go through its stream.

        Raises:
            MemoryError: there is none for the first one; it is closed.
        """
        try:
            self.attach(id)
        except BaseException:
            self._table.abort(id)
            raise
        self.note(id, stream)

    def attach(self, id: int) -> None:
        """Have the bytes of a connection go through the filter; until it is noted, none of them are understood.

        Raises:
            BlockingIOError: not all output has been sent.
            UnreadError: there is input that was not handed out.
            ConnectionError: it is closing.
            MemoryError: there is none for the first one.
        """
        if self._filter is None:
            self._filter = tls_filter.TlsFilter(self._table, self._streams, self._defects)
        code = lib.sb_mux_filter(self._table.handle, id)
        if code == lib.SB_ERR_AGAIN:
            raise BlockingIOError
        if code == lib.SB_ERR_MALFORMED:
            raise UnreadError
        if code < 0:
            raise ConnectionError("the connection has ended")

    def note(self, id: int, stream: TlsStream) -> None:
        """Record what a connection goes through."""
        self._streams[id] = stream

    def is_cut(self, id: int) -> bool:
        """Return whether a connection whose input has ended may have been truncated in the middle of a frame."""
        stream = self._streams.get(id)
        return stream is not None and stream.is_cut

    def find(self, id: int) -> TlsStream | None:
        """Return the encryption state of a connection, None without encryption."""
        return self._streams.get(id)

    def ended(self, id: int) -> None:
        """Drop a connection that has just closed, and its handshake."""
        self._streams.pop(id, None)
        if (cancel := self._shaking.pop(id, None)) is not None:
            cancel()

    # ---- STARTTLS

    def offer(self, group: int, handshakes: StartsTls | None) -> None:
        """Allow STARTTLS for the connections of a group; None: no longer, because the number is reused."""
        if handshakes is None:
            self._offers.pop(group, None)
        else:
            self._offers[group] = handshakes

    def offered(self, id: int) -> StartsTls | None:
        """Return the handshakes for a connection; None if it cannot start TLS."""
        return self._offers.get(self._table.info(id).group)

    def hold(self, id: int, cancel: Callable[[], None]) -> None:
        """Note the handshake of a paused connection: no deadline of the table runs until release().

        Args:
            cancel: ends the handshake, called if the connection ends first.
        """
        self._shaking[id] = cancel
        lib.sb_mux_rest(self._table.handle, id, 1)

    def is_shaking(self, id: int) -> bool:
        """Return whether the handshake of a connection is under way."""
        return id in self._shaking

    def release(self, id: int) -> bool:
        """Let the deadlines of a connection begin, for its handshake is over; return whether it is still there."""
        if self._shaking.pop(id, None) is None:
            return False
        lib.sb_mux_rest(self._table.handle, id, 0)
        return True


__all__ = ["StartsTls", "TlsConnections", "UnreadError"]
