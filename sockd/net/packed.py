"""A packed sockaddr, as the C table keeps it, as the socket module's tuple and as text."""

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING

from sockd.net.endpoint import format_sockaddr

if TYPE_CHECKING:
    from sockd.net.endpoint import SockAddr

_FAMILY = struct.Struct("=H") if sys.platform == "linux" else struct.Struct("=xB")


def unpack(packed: bytes) -> tuple[int, SockAddr]:
    """Return (family, sockaddr) of a struct sockaddr_in or sockaddr_in6.

    Args:
        packed: 16 or 28 bytes; empty for a peer without a name (unix(7)).
    """
    if not packed:
        return socket.AF_UNIX, ""
    (family,) = _FAMILY.unpack_from(packed)
    (port,) = struct.unpack_from("!H", packed, 2)
    if family == socket.AF_INET:
        return family, (socket.inet_ntop(socket.AF_INET, packed[4:8]), port)
    flow = int.from_bytes(packed[4:8], "big")
    host = socket.inet_ntop(socket.AF_INET6, packed[8:24])
    return family, (host, port, flow, int.from_bytes(packed[24:28], sys.byteorder))


def text(packed: bytes) -> str:
    """Return the address of a stream's peer as text: `tcp://127.0.0.1:40000`, or `unix:`."""
    family, sockaddr = unpack(packed)
    return format_sockaddr(family, socket.SOCK_STREAM, sockaddr)


def host(packed: bytes) -> str:
    """Return the numeric address alone, empty for a peer without one."""
    sockaddr = unpack(packed)[1]
    return "" if isinstance(sockaddr, str) else sockaddr[0]
