# SPDX-License-Identifier: MIT
"""The local address of a datagram, so that its reply has it as source.

A socket bound to every address has none of its own: the kernel would choose the source of a reply by its route, and a
client that sent to 192.0.2.2 ignores a reply of 192.0.2.1.  Source: IP_PKTINFO of ip(7), IPV6_RECVPKTINFO of RFC 3542,
section 6.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import TypeAlias

Ancillary: TypeAlias = list[tuple[int, int, bytes]]

IP_PKTINFO = 8
"""linux/in.h."""
_IPV4 = struct.Struct("=i4s4s")  # struct in_pktinfo: interface, local address, destination in the header
_IPV6 = struct.Struct("=16sI")  # struct in6_pktinfo: address, interface
ANCILLARY_BYTES = socket.CMSG_SPACE(_IPV6.size) + socket.CMSG_SPACE(_IPV4.size)
LINK_LOCAL = (b"\xfe\x80", b"\xfe\xbf")
MULTICAST = 0xFF


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
    return host in ("0.0.0.0", "::")  # noqa: S104


def asked_address(ancillary: Ancillary) -> str:
    """Return the local address of a datagram, numeric; empty if the kernel does not report it."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO) and len(data) >= _IPV4.size:
            return socket.inet_ntop(socket.AF_INET, _IPV4.unpack_from(data)[1])
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) >= _IPV6.size:
            return socket.inet_ntop(socket.AF_INET6, _IPV6.unpack_from(data)[0])
    return ""


def answer_from(ancillary: Ancillary) -> Ancillary:
    """Convert the control message of a datagram to that of its reply; empty if the kernel may choose.

    The interface is left to routing except for a link-local address, which needs it.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO) and len(data) >= _IPV4.size:
            local = _IPV4.unpack_from(data)[1]
            return [(level, kind, _IPV4.pack(0, local, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) >= _IPV6.size:
            address, interface = _IPV6.unpack_from(data)
            if address[0] == MULTICAST:
                return []
            scoped = LINK_LOCAL[0] <= address[:2] <= LINK_LOCAL[1]
            return [(level, kind, _IPV6.pack(address, interface if scoped else 0))]
    return []
