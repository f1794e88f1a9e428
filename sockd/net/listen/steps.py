# SPDX-License-Identifier: MIT
"""The steps from accept() to the service of a connection, each with one task.

Their order is in sockd.net.listen.pipeline.  Each gets what it needs through a small Protocol, so that it can be
tested without a socket.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from sockd.net.connection.peer_gone import is_gone
from sockd.net.listen.pipeline import AcceptedConnection, AcceptPipeline, Passage
from sockd.net.listen.refusal import RefusalReason

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connection.peers import ProxyInfo
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.listen.admission import Admission
    from sockd.net.listen.handoff import Handoff
    from sockd.net.tls.wire import TlsWire


class HeaderSource(Protocol):
    """Receives PROXY headers (sockd.net.listen.proxy_protocol)."""

    def expects(self, peer: SocketAddress) -> bool:
        """Return whether a connection of this peer begins with a header."""

    def receive(
        self, sock: socket.socket, peer: SocketAddress, done: Callable[[SocketAddress | None, ProxyInfo | None], None]
    ) -> None:
        """Own a connection until its header is there; None: it has not come, and the socket is closed."""


class HandshakeSource(Protocol):
    """Makes handshakes (sockd.net.tls.handshake)."""

    def start(self, sock: socket.socket, peer: SocketAddress, done: Callable[[TlsWire | None], None]) -> None:
        """Own a connection until it is secured; None: it is not, and is closed."""


class RoomStep:
    """Refuses connections without a free place; if those wait in the backlog, none is accepted."""

    def run(self, one: AcceptedConnection, way: AcceptPipeline) -> Passage:
        """Look for a place."""
        if way.places.room > 0:
            return Passage.NEXT
        one.refusal = RefusalReason.FULL
        return Passage.REFUSED


class HeaderStep:
    """Waits for the PROXY header of a connection that has to have one."""

    def __init__(self, headers: HeaderSource) -> None:
        self._headers = headers

    def run(self, one: AcceptedConnection, way: AcceptPipeline) -> Passage:
        """Have a header received, if one has to come."""
        if not self._headers.expects(one.accepted):
            return Passage.NEXT
        way.places.hold(one)  # while its header is waited for
        self._headers.receive(one.sock, one.accepted, partial(self._header_received, one, way))
        return Passage.WAIT

    def _header_received(
        self, one: AcceptedConnection, way: AcceptPipeline, client: SocketAddress | None, proxied: ProxyInfo | None
    ) -> None:
        if client is None:
            way.lose(one, RefusalReason.PROXY)
            return
        one.client, one.proxied = client, proxied
        way.advance(one)


class AdmissionStep:
    """Holds the rules of the listener against a connection's client."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def run(self, one: AcceptedConnection, _way: AcceptPipeline) -> Passage:
        """Check a connection, and count it for its source when it is accepted."""
        # What a header names without an address (a Unix socket) is judged by the proxy's own.
        host = one.client.host or one.accepted.host
        one.refusal = self._admission.judge(host, one.name)
        if one.refusal is not None:
            return Passage.REFUSED
        one.source = host
        return Passage.NEXT


class TlsStep:
    """Waits for the handshake of a connection that is encrypted from its first byte."""

    def __init__(self, handshakes: HandshakeSource, is_gone: Callable[[socket.socket], bool] = is_gone) -> None:
        self._handshakes = handshakes
        self._is_gone = is_gone

    def run(self, one: AcceptedConnection, way: AcceptPipeline) -> Passage:
        """Start the handshake, if the client is still connected."""
        if self._is_gone(one.sock):
            return way.gone(one)
        way.places.hold(one)  # while its handshake goes on
        self._handshakes.start(one.sock, one.client, partial(self._secured, one, way))
        return Passage.WAIT

    def _secured(self, one: AcceptedConnection, way: AcceptPipeline, wire: TlsWire | None) -> None:
        """Go on encrypted."""
        if wire is None:
            way.lose(one, RefusalReason.TLS)
            return
        one.secured = wire
        way.advance(one)


class TableStep:
    """Delivers a connection to the table, into the group of its listener.

    Args:
        let_in: called for each.
        ask: told of the address of each client, where names are wanted, so that they are known when they are.
    """

    def __init__(
        self,
        connections: ConnectionTable,
        group: int,
        admission: Admission,
        let_in: Callable[[], None],
        ask: Callable[[str], None] | None,
    ) -> None:
        self._table = connections
        self._group = group
        self._admission = admission
        self._let_in = let_in
        self._ask = ask

    def run(self, one: AcceptedConnection, way: AcceptPipeline) -> Passage:
        """Deliver one, if the table has room."""
        id = self._table.add(one.sock, self._group, one.client, one.proxied)
        if id is None:
            one.refusal = RefusalReason.DAEMON_FULL
            return Passage.REFUSED
        self._let_in()
        way.places.hold(one)
        self._admission.note(id, one.source)
        if one.secured is not None:
            self._table.tls.secure(id, one.secured.stream())
        if self._ask is not None and one.client.host:
            self._ask(one.client.host)
        return Passage.SERVED


class OwnerStep:
    """Passes a connection to its owner: a program's service, a relay, a SOCKS server.

    Args:
        carry: returns the socket by which its owner has an encrypted one.
    """

    def __init__(
        self, handover: Handoff, let_in: Callable[[], None], carry: Callable[[TlsWire], socket.socket]
    ) -> None:
        self._handover = handover
        self._let_in = let_in
        self._carry = carry

    def run(self, one: AcceptedConnection, way: AcceptPipeline) -> Passage:
        """Deliver one."""
        if one.secured is not None:
            one.sock = self._carry(one.secured)
        self._let_in()
        way.places.hold(one)
        self._handover.give(one.sock, one.client, partial(way.ended, one))
        return Passage.SERVED


__all__ = ["AdmissionStep", "HeaderStep", "OwnerStep", "RoomStep", "TableStep", "TlsStep"]
