# SPDX-License-Identifier: MIT
"""The addresses of a datagram: its sender, and where it arrived, in bytes as the kernel has them until they are read.

A socket bound to every address has none of its own: the kernel would choose the source of a reply by its route, and a
client that sent to 192.0.2.2 ignores a reply of 192.0.2.1.  So the local address of each datagram is requested, and
csrc/datagram_control.c makes the control data of a reply out of that of the datagram.  Source: IP_PKTINFO of ip(7),
IPV6_RECVPKTINFO of RFC 3542, section 6.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

from sockd._sockbuf import ffi, lib
from sockd.net.address.sockaddr import SocketAddress

if TYPE_CHECKING:
    from sockd.net.address.sockaddr import SockAddr

REMEMBERED = 1024
"""Names whose address is kept: it is what a client with many datagrams is asked for again and again."""
NAME_FAMILY = struct.Struct("=H") if sys.platform == "linux" else struct.Struct("=xB")
"""sa_family; systems of BSD have the length of the name before it."""
IP_PKTINFO = 8
"""linux/in.h."""


@lru_cache(REMEMBERED)
def read_name(name: bytes) -> SockAddr | bytes | None:
    """Return a sender as recvfrom() of the socket module does; None for one without a name.

    Args:
        name: a struct sockaddr_in, sockaddr_in6 or sockaddr_un, as long as it is filled in (unix(7)).
    """
    if len(name) <= NAME_FAMILY.size:
        return None
    if NAME_FAMILY.unpack_from(name)[0] != socket.AF_UNIX:
        return SocketAddress.unpack(name).sockaddr
    path = name[NAME_FAMILY.size :]
    return path if path.startswith(b"\0") else os.fsdecode(path.partition(b"\0")[0])


def request_pktinfo(sock: socket.socket) -> bool:
    """Request the local address of each datagram, if the socket is bound to every address.

    Returns:
        Whether the kernel reports it: not for a socket with one address, and only on Linux.
    """
    if sys.platform != "linux" or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    host = sock.getsockname()[0]
    if host == "0.0.0.0":  # noqa: S104 - asked, not bound
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    elif host == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    return host in ("0.0.0.0", "::")  # noqa: S104 - likewise


def asked_address(control: bytes) -> str:
    """Return the local address of a datagram by its control data, numeric; empty if the kernel does not report it."""
    if not control:
        return ""
    room = ffi.new("char[16]")
    size = lib.sb_datagram_asked(control, len(control), room)
    family = {4: socket.AF_INET, 16: socket.AF_INET6}.get(size)
    return "" if family is None else socket.inet_ntop(family, ffi.unpack(room, size))


__all__ = ["NAME_FAMILY", "asked_address", "read_name", "request_pktinfo"]
