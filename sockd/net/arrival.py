"""A connection between accept() and whoever serves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from sockd.net.loop import EventLoop
    from sockd.net.proxied import Proxied
    from sockd.net.socket_address import SocketAddress
    from sockd.net.tls import Handshakes
    from sockd.net.tls_context import TlsContext
    from sockd.net.tls_pair import Secured


@dataclass(eq=False)
class Arrival:
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
    proxied: Proxied | None = None
    secured: Secured | None = None
    has_place: bool = False
    source: str = ""


def handshakes(tls: TlsContext, address: str, loop: EventLoop) -> Handshakes:
    """Return what connections of a listener make their handshakes with."""
    from sockd.net.tls import Handshakes  # here, for it takes OpenSSL along

    return Handshakes(tls, address, loop)


__all__ = ["Arrival", "handshakes"]
