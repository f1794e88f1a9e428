"""What the kernel binds, connects and reports: a sockaddr with its family, and its text.

The text of every socket and peer is made here, so that a log, a message and a
listing print the same thing the same way (FAQ II.2, IV.9).  Pure but for the
name of an interface; what people write is read in sockd.net.address.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

SockAddr: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing to bind or to connect; `dual_stack` means IPV6_V6ONLY off."""

    family: socket.AddressFamily
    type: socket.SocketKind
    proto: int
    sockaddr: SockAddr
    dual_stack: bool = False

    def __str__(self) -> str:
        return format_sockaddr(self.family, self.type, self.sockaddr)

    @property
    def port(self) -> int:
        """Tell the port; 0 for a Unix path."""
        return 0 if isinstance(self.sockaddr, str) else self.sockaddr[1]

    def with_port(self, port: int) -> Endpoint:
        """Copy it with another port; a Unix path has none and stays as it is."""
        if isinstance(self.sockaddr, str):
            return self
        return replace(self, sockaddr=cast("SockAddr", (self.sockaddr[0], port, *self.sockaddr[2:])))


def format_sockaddr(family: int, type: int, sockaddr: object) -> str:
    """Print a sockaddr, of a peer or of a bound socket, as an address in one line.

    Args:
        family: AF_INET, AF_INET6 or AF_UNIX.
        type: SOCK_STREAM or SOCK_DGRAM.
        sockaddr: as the socket module gives it: a tuple, text, bytes or None.

    Returns:
        tcp://, udp://, unix: or unixgram:.  An IPv4-mapped address (RFC 4291) is
        printed as IPv4, an unnamed Unix peer as `unix:`, an abstract one as
        `unix:@name`; what cannot be printed is escaped, for a peer chooses its name.
    """
    stream = type == socket.SOCK_STREAM
    if family == socket.AF_UNIX:
        return ("unix:" if stream else "unixgram:") + _printable_path(cast("str | bytes | None", sockaddr))
    row = cast("tuple[str, int, int, int]", sockaddr)
    host, port = row[0], row[1]
    if family == socket.AF_INET6:
        host = bracket(_plain_host(host, row[3] if len(row) > 3 else 0))
    return f"{'tcp' if stream else 'udp'}://{host}:{port}"


def format_peer(peer: SockAddr) -> str:
    """Print the peer of a stream, whose kind its sockaddr tells."""
    if isinstance(peer, str):
        return format_sockaddr(socket.AF_UNIX, socket.SOCK_STREAM, peer)
    return format_sockaddr(socket.AF_INET6 if ":" in peer[0] else socket.AF_INET, socket.SOCK_STREAM, peer)


def _plain_host(host: str, scope: int) -> str:
    if host.startswith("::ffff:") and "." in host:
        return host[7:]
    if not scope or "%" in host:
        return host
    try:
        return f"{host}%{socket.if_indextoname(scope)}"
    except OSError:
        return f"{host}%{scope}"


def _printable_path(path: str | bytes | None) -> str:
    text = os.fsdecode(path or "")
    if text.startswith("\0"):
        text = "@" + text[1:]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def bracket(host: str) -> str:
    """Put an IPv6 address into brackets (RFC 3986); leave every other host as it is."""
    return f"[{host}]" if ":" in host else host
