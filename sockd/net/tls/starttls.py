# SPDX-License-Identifier: MIT
"""STARTTLS: a connection that began in plain text is encrypted at the request of its handler.

The handler's output so far is sent in plain text, and the connection is not read meanwhile.  Then the handshake takes
place by a second descriptor of the same socket, as for a connection that is encrypted from its first byte
(sockd.net.tls.handshake), and all that is received and sent after it goes through the row's filter.

Data that the peer has sent after the frame that requested TLS is not protected, and an attacker may have inserted it:
it is not handed out, neither before nor after, and the connection is closed. Source: RFC 3207, 4.2 (the client waits
for the reply); CVE-2011-0411 (what happens if the server serves it).
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

from sockd.net.tls.rows import UnreadError
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection.connection import Connection
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.loop import EventLoop
    from sockd.net.tls.rows import StartsTls
    from sockd.net.tls.wire import TlsWire

logger = logging.getLogger("sockd.tls")


def handshakes_for(connection: Connection, connections: ConnectionTable) -> StartsTls:
    """Return the handshakes for a connection.

    Raises:
        RuntimeError: it can have none.
    """
    if connection.is_closing():
        raise RuntimeError("start_tls(): the connection is closing")
    if connections.tls.find(connection.id) is not None:
        raise RuntimeError("start_tls(): the connection is already encrypted")
    handshakes = connections.tls.offered(connection.id)
    if handshakes is None:
        raise RuntimeError("start_tls(): its [[listen]] has no tls = { certificate = ..., starttls = true }")
    return handshakes


class StartTlsUpgrade:
    """The STARTTLS of one connection.

    Args:
        connection: is not read.
        handshakes: of its listener.
        went_on: called once its row is read and written again, or will not be because it is closing.
        secured: called once the handshake is done.
        unread: of the peer's input.

    Attributes:
        is_held: what is written has to wait.
        is_paused: the handler wants nothing to be delivered, then either.
    """

    def __init__(
        self,
        connection: Connection,
        connections: ConnectionTable,
        loop: EventLoop,
        handshakes: StartsTls,
        went_on: Callable[[], None],
        secured: Callable[[], object],
        unread: bytes,
    ) -> None:
        self._connection = connection
        self._table = connections
        self._loop = loop
        self._handshakes = handshakes
        self._went_on = went_on
        self._secured = secured
        self._unread = unread
        self.is_held = self.is_paused = False

    def try_start(self) -> None:
        """Begin the handshake if all that was written before has left; if not, this is called again once it has."""
        self.is_held = True
        connection = self._connection
        if connection.is_closing():
            self._went_on()
        elif not self._table.tls.is_shaking(connection.id):
            try:
                self._begin()
            except BlockingIOError:
                self._wait()
            except (OSError, UnreadError) as error:
                self._refuse(str(error))

    def _wait(self) -> None:
        """Report when no output is left, as for low water; or when the row waits for nothing more."""
        if self._table.output_pending_bytes(self._connection.id):
            self._table.set_water(self._connection.id, 0, 0)
        else:
            self._loop.call_soon(self.try_start)

    def _begin(self) -> None:
        if self._unread:
            raise UnreadError
        connection, tls = self._connection, self._table.tls
        tls.attach(connection.id)
        sock = socket.socket(fileno=os.dup(self._table.info(connection.id).fd))
        connection.apply_water()
        tls.hold(connection.id, lambda: self._handshakes.cancel(sock))
        self._handshakes.start(sock, self._table.peers.find(connection.id), self._shaken)

    def _shaken(self, wire: TlsWire | None) -> None:
        id = self._connection.id
        if not self._table.tls.release(id):
            return  # it has ended
        if wire is None:
            self._table.abort(id, CloseReason.REFUSED)
            return
        wire.socket.close()
        self._table.tls.note(id, wire.stream())
        self._went_on()
        if not self._connection.is_closing():
            self._secured()

    def _refuse(self, why: str) -> None:
        event = {"peer": self._connection.peer, "why": why}
        logger.warning("no TLS", extra={"event": event})
        self._table.abort(self._connection.id, CloseReason.REFUSED)


__all__ = ["StartTlsUpgrade", "handshakes_for"]
