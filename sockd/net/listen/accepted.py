# SPDX-License-Identifier: MIT
"""A connection between accept() and whoever serves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connection.peers import ProxyInfo
    from sockd.net.loop.loop import EventLoop
    from sockd.net.tls.context import TlsContext
    from sockd.net.tls.handshake import Handshakes
    from sockd.net.tls.socket_pair import TlsSocket


@dataclass(eq=False)
class AcceptedConnection:
    """A connection on its way from accept() to whoever serves it, and what it holds of the listener's.

    Attributes:
        sock: the connection; behind a handshake its service's end.
        accepted: the address that accept() gave.
        client: who it is: the same, or what a PROXY header has named.
        has_place: it counts among the connections that are open.
        source: the host that it counts for among the connections of one source; empty for none.
    """

    sock: socket.socket
    accepted: SocketAddress
    client: SocketAddress
    proxied: ProxyInfo | None = None
    secured: TlsSocket | None = None
    has_place: bool = False
    source: str = ""


def handshakes(tls: TlsContext, address: str, loop: EventLoop) -> Handshakes:
    """Return what connections of a listener make their handshakes with."""
    from sockd.net.tls.handshake import Handshakes  # here, for it takes OpenSSL along

    return Handshakes(tls, address, loop)


__all__ = ["AcceptedConnection", "handshakes"]
