# SPDX-License-Identifier: MIT
"""The address of one end of a connection, as the kernel or a proxy names it: one value for every form.

It is made where accept() returns, or where a PROXY header was read, and everything behind takes this value: nobody
asks the kernel again, and nobody has to know that a Unix socket's name is text, bytes or nothing.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, TypeAlias, cast

from sockd.settings.address import bracket
from sockd.values import dataclass, replace

if TYPE_CHECKING:
    IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_FAMILY = struct.Struct("=H") if sys.platform == "linux" else struct.Struct("=xB")
_PORT = struct.Struct("!H")
_UNSPEC = 0
AF_VSOCK = getattr(socket, "AF_VSOCK", 40)
CID_ANY = PORT_ANY = 0xFFFFFFFF
"""vsock(7): every CID of this machine; a port that the kernel chooses."""
IPPROTO_MPTCP = 262
"""Of linux/in.h; a client of plain TCP is served as ever (RFC 8684)."""


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """Who is at an end of a connection: an Internet address, a Unix socket, a virtual machine, or nobody knows.

    Attributes:
        family: AF_INET, AF_INET6, AF_UNIX, AF_VSOCK, or AF_UNSPEC where it is unknown.
        host: numeric address without its scope; empty for all that have none.
        port: 0 where there is none.
        flow, scope: of IPv6 (RFC 3493, 3.3); a scope is the number of an interface.
        cid: of a virtual machine or its host (vsock(7)); -1 where there is none.
        name: of a Unix socket: its path, or NUL and its abstract name; empty for an unnamed one (unix(7)).
    """

    family: int = _UNSPEC
    host: str = ""
    port: int = 0
    flow: int = 0
    scope: int = 0
    name: bytes = b""
    cid: int = -1

    # ---- made of

    @classmethod
    def from_sockaddr(cls, sockaddr: SockAddr | bytes | None) -> SocketAddress:
        """Make it of what accept(), getpeername() or getsockname() of the socket module return."""
        if sockaddr is None:
            return UNKNOWN
        if isinstance(sockaddr, bytes):
            return cls(socket.AF_UNIX, name=sockaddr)
        if isinstance(sockaddr, str):
            return cls(socket.AF_UNIX, name=os.fsencode(sockaddr))
        if isinstance(sockaddr[0], int):
            return cls(AF_VSOCK, port=sockaddr[1], cid=sockaddr[0])
        if len(sockaddr) == 2:
            return cls(socket.AF_INET, sockaddr[0], sockaddr[1])
        return cls(socket.AF_INET6, sockaddr[0].partition("%")[0], *sockaddr[1:])

    @classmethod
    def parse(cls, host: str, port: int) -> SocketAddress:
        """Make it of a numeric address in text; behind a % the interface of an IPv6 one, by name or number.

        Raises:
            OSError, ValueError: it is no numeric address, or there is no such interface.
        """
        bare, _, interface = host.partition("%")
        if ":" not in bare:
            socket.inet_pton(socket.AF_INET, host)
            return cls(socket.AF_INET, host, port)
        plain = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, bare))
        scope = int(interface) if interface.isdecimal() else socket.if_nametoindex(interface) if interface else 0
        return cls(socket.AF_INET6, plain, port, 0, scope)

    @classmethod
    def unpack(cls, packed: bytes) -> SocketAddress:
        """Make it of a struct sockaddr_in or sockaddr_in6, as the C tables keep it; of nothing or of zeros: unknown."""
        if not any(packed[:2]):
            return UNKNOWN
        (family,) = _FAMILY.unpack_from(packed)
        (port,) = _PORT.unpack_from(packed, 2)
        if family == socket.AF_INET:
            return cls(family, socket.inet_ntop(socket.AF_INET, packed[4:8]), port)
        flow, scope = int.from_bytes(packed[4:8], "big"), int.from_bytes(packed[24:28], sys.byteorder)
        return cls(family, socket.inet_ntop(socket.AF_INET6, packed[8:24]), port, flow, scope)

    @classmethod
    def query_peer(cls, fd: int) -> SocketAddress:
        """Ask the kernel who is connected; UNKNOWN once it does not know any more (ENOTCONN)."""
        sock = socket.socket(fileno=fd)
        try:
            return cls.from_sockaddr(sock.getpeername())
        except OSError:
            return UNKNOWN
        finally:
            sock.detach()

    # ---- as others want it

    def packed(self) -> bytes:
        """Return the struct sockaddr_in or sockaddr_in6 that a C table keeps; empty for an end without a host."""
        if self.family == socket.AF_INET:
            head = _FAMILY.pack(socket.AF_INET) + _PORT.pack(self.port)
            return head + socket.inet_pton(socket.AF_INET, self.host) + bytes(8)
        if self.family == socket.AF_INET6:
            head = _FAMILY.pack(socket.AF_INET6) + _PORT.pack(self.port) + self.flow.to_bytes(4, "big")
            return head + socket.inet_pton(socket.AF_INET6, self.host) + self.scope.to_bytes(4, sys.byteorder)
        return b""

    @property
    def sockaddr(self) -> SockAddr | bytes | None:
        """What getpeername() of the socket module returns of it: a tuple, a path, an abstract name; None if unknown."""
        if self.family == socket.AF_INET:
            return self.host, self.port
        if self.family == socket.AF_INET6:
            return self.host, self.port, self.flow, self.scope
        if self.family == AF_VSOCK:
            return self.cid, self.port
        if self.family == socket.AF_UNIX:
            return self.name if self.name.startswith(b"\0") else os.fsdecode(self.name)
        return None

    @property
    def unix_name(self) -> str:
        """The name of a Unix socket as people write it, `/path` or `@abstract`; empty where there is none."""
        text = os.fsdecode(self.name)
        return "@" + text[1:].replace("\0", "@") if text.startswith("\0") else text

    def __str__(self) -> str:
        """Return `tcp://127.0.0.1:40000`, `unix:/path`, `unix:@abstract`, `unix:`, `vsock:3:5000`, or `unknown`."""
        if self.family == _UNSPEC:
            return "unknown"
        return format_sockaddr(self.family, socket.SOCK_STREAM, self.sockaddr)


UNKNOWN = SocketAddress()


SockAddr: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | tuple[int, int] | str


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
    def is_abstract(self) -> bool:
        """Whether it is a name of Linux's abstract namespace, which is no file."""
        return isinstance(self.sockaddr, str) and self.sockaddr.startswith("\0")

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
        family: AF_INET, AF_INET6, AF_UNIX or AF_VSOCK.
        type: SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
        sockaddr: as the socket module gives it: a tuple, text, bytes or None.

    Returns:
        tcp://, udp://, unix:, unixgram:, unixpacket: or vsock:.  An IPv4-mapped address (RFC 4291) is
        printed as IPv4, an unnamed Unix peer as `unix:`, an abstract one as
        `unix:@name`; what cannot be printed is escaped, for a peer chooses its name.
    """
    stream = type == socket.SOCK_STREAM
    if family == socket.AF_UNIX:
        scheme = "unix" if stream else "unixpacket" if type == socket.SOCK_SEQPACKET else "unixgram"
        return f"{scheme}:" + _printable_path(cast("str | bytes | None", sockaddr))
    if family == AF_VSOCK:
        cid, vsock_port = cast("tuple[int, int]", sockaddr)
        return f"vsock:{'' if cid == CID_ANY else cid}:{0 if vsock_port == PORT_ANY else vsock_port}"
    row = cast("tuple[str, int, int, int]", sockaddr)
    host, port = row[0], row[1]
    if family == socket.AF_INET6:
        host = bracket(_plain_host(host, row[3] if len(row) > 3 else 0))
    return f"{'tcp' if stream else 'udp'}://{host}:{port}"


def format_peer(peer: SockAddr) -> str:
    """Print the peer of a stream, whose kind its sockaddr tells."""
    if isinstance(peer, str):
        return format_sockaddr(socket.AF_UNIX, socket.SOCK_STREAM, peer)
    if isinstance(peer[0], int):
        return format_sockaddr(AF_VSOCK, socket.SOCK_STREAM, peer)
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


def plain(host: str) -> IPAddress:
    """Return the address of a peer; an IPv4-mapped one (RFC 4291) as IPv4, without a scope."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


__all__ = [
    "AF_VSOCK",
    "CID_ANY",
    "IPPROTO_MPTCP",
    "PORT_ANY",
    "UNKNOWN",
    "Endpoint",
    "IPAddress",
    "SockAddr",
    "SocketAddress",
    "format_peer",
    "format_sockaddr",
    "plain",
]
