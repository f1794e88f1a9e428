"""A packed sockaddr, as the C table keeps it, as the socket module's tuple and as text."""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import TYPE_CHECKING

from sockd.net.endpoint import format_sockaddr

if TYPE_CHECKING:
    from sockd.net.endpoint import SockAddr

_FAMILY = struct.Struct("=H") if sys.platform == "linux" else struct.Struct("=xB")


def pack(host: str, port: int) -> bytes:
    """Return a struct sockaddr_in or sockaddr_in6, as the C table keeps it.

    Args:
        host: a numeric address; behind a % the interface of an IPv6 one.
        port: 0 to 65535.

    Raises:
        OSError, ValueError: it is no numeric address, or there is no such interface.
    """
    bare, _, scope = host.partition("%")
    if ":" not in bare:
        head = _FAMILY.pack(socket.AF_INET) + struct.pack("!H", port)
        return head + socket.inet_pton(socket.AF_INET, host) + bytes(8)
    index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope) if scope else 0
    head = _FAMILY.pack(socket.AF_INET6) + struct.pack("!H", port)
    return head + bytes(4) + socket.inet_pton(socket.AF_INET6, bare) + index.to_bytes(4, sys.byteorder)


def pack_peer(peer: SockAddr) -> bytes:
    """Return what the table keeps of a peer: nothing for a Unix socket."""
    return b"" if isinstance(peer, str) else pack(peer[0], peer[1])


def unpack(packed: bytes, fd: int = -1) -> tuple[int, SockAddr]:
    """Return (family, sockaddr) of a struct sockaddr_in or sockaddr_in6.

    Args:
        packed: 16 or 28 bytes; empty for a peer over a Unix socket, whose name may be too long for the table.
        fd: its descriptor, asked for that name; few clients have bound one (unix(7)).
    """
    if not packed:
        return socket.AF_UNIX, _unix_name(fd)
    (family,) = _FAMILY.unpack_from(packed)
    (port,) = struct.unpack_from("!H", packed, 2)
    if family == socket.AF_INET:
        return family, (socket.inet_ntop(socket.AF_INET, packed[4:8]), port)
    flow = int.from_bytes(packed[4:8], "big")
    host = socket.inet_ntop(socket.AF_INET6, packed[8:24])
    return family, (host, port, flow, int.from_bytes(packed[24:28], sys.byteorder))


def _unix_name(fd: int) -> str:
    if fd < 0:
        return ""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd)
    try:
        return os.fsdecode(sock.getpeername())  # bytes for an abstract name
    except OSError:
        return ""
    finally:
        sock.detach()


def text(packed: bytes, fd: int = -1) -> str:
    """Return the address of a stream's peer as text: `tcp://127.0.0.1:40000`, `unix:/path`, or `unix:` without a name.

    Args:
        packed, fd: as for unpack.
    """
    family, sockaddr = unpack(packed, fd)
    return format_sockaddr(family, socket.SOCK_STREAM, sockaddr)


def host(packed: bytes) -> str:
    """Return the numeric address alone, empty for a peer without one."""
    sockaddr = unpack(packed)[1]
    return "" if isinstance(sockaddr, str) else sockaddr[0]
