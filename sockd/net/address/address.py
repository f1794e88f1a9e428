# SPDX-License-Identifier: MIT
"""From an address as written to what the kernel wants (FAQ II.2, II.3).

An Address (sockd.settings.address) is what a person wrote; an Endpoint is one thing that can be bound or
connected.  Nothing here opens a socket that lives longer than its question.  To
look names up blocks: the loop does it in threads (see sockd.client.connect).
"""

from __future__ import annotations

import ipaddress
import socket
from typing import cast

from sockd.errors import SystemFault, TemporaryFault
from sockd.net.address.sockaddr import AF_VSOCK, CID_ANY, Endpoint, SockAddr, format_sockaddr
from sockd.settings.address import WILDCARDS, Address

__all__ = ["WILDCARDS", "Address", "Endpoint", "format_sockaddr", "resolve_endpoints"]

_KINDS: dict[str, tuple[socket.SocketKind, int]] = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "unix": (socket.SOCK_STREAM, 0),
    "unixgram": (socket.SOCK_DGRAM, 0),
    "unixpacket": (socket.SOCK_SEQPACKET, 0),
    "vsock": (socket.SOCK_STREAM, 0),
}


CID_LOCAL = 1
"""vsock(7), VMADDR_CID_LOCAL: this machine, where the module vsock_loopback is loaded."""


def resolve_endpoints(address: Address, *, passive: bool) -> list[Endpoint]:
    """Find what to bind or to connect.  BLOCKS while a name is looked up.

    Args:
        passive: true to bind, false to connect.

    Returns:
        Numeric first: one for an address in numbers; else every address of the
        name in the resolver's order (RFC 6724), each once.  The wildcard to
        bind is one dual-stack [::], or 0.0.0.0 where there is no IPv6; to
        connect it is loopback.

    Raises:
        SystemFault: unknown host, interface or service; or it is a descriptor, which needs no look-up.
        TemporaryFault: the resolver cannot reply now (EAI_AGAIN).

    Source: getaddrinfo(3), ipv6(7), FAQ III.1.
    """
    if address.scheme == "fd":
        raise SystemFault(f"{address}: a descriptor that is passed to sockd; it can be neither bound nor connected")
    kind, proto = _KINDS[address.scheme]
    if address.path:
        bound = f"\0{address.path[1:]}" if address.is_abstract else address.path
        return [Endpoint(socket.AF_UNIX, kind, proto, bound)]
    port = address.port_number()
    if address.scheme == "vsock":
        return [_vsock_endpoint(address.host, port, passive)]
    hosts = _wildcard_hosts(passive) if address.host in WILDCARDS else (address.host,)
    literals = [_literal(host, port, str(address)) for host in hosts]
    found = [item for item in literals if item is not None] or _look_up(address, port, passive)
    return [
        Endpoint(family, kind, proto, sockaddr, dual_stack=passive and sockaddr[0] == "::")
        for family, sockaddr in dict.fromkeys(found)
    ]


def _vsock_endpoint(cid: str, port: int, passive: bool) -> Endpoint:
    every = CID_ANY if passive else CID_LOCAL
    return Endpoint(cast("socket.AddressFamily", AF_VSOCK), socket.SOCK_STREAM, 0, (int(cid) if cid else every, port))


def _look_up(address: Address, port: int, passive: bool) -> list[tuple[socket.AddressFamily, SockAddr]]:
    kind, proto = _KINDS[address.scheme]
    try:
        rows = socket.getaddrinfo(address.host, port, 0, kind, proto, socket.AI_PASSIVE if passive else 0)
    except (socket.gaierror, UnicodeError) as error:
        later = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        words = error.strerror if isinstance(error, socket.gaierror) else error
        raise (TemporaryFault if later else SystemFault)(f"{address}: host {address.host!r}: {words}") from None
    return [(row[0], cast("SockAddr", row[4])) for row in rows if row[0] in (socket.AF_INET, socket.AF_INET6)]


def _wildcard_hosts(passive: bool) -> tuple[str, ...]:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP).close()
    except OSError:
        return ("0.0.0.0",) if passive else ("127.0.0.1",)  # noqa: S104 - every address is what was asked for
    return ("::",) if passive else ("::1", "127.0.0.1")


def _literal(host: str, port: int, subject: str) -> tuple[socket.AddressFamily, SockAddr] | None:
    if ":" not in host:
        try:
            return socket.AF_INET, (str(ipaddress.IPv4Address(host)), port)
        except ValueError:
            return None
    bare, _, scope = host.partition("%")
    try:
        index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope) if scope else 0
    except OSError:
        raise SystemFault(f"{subject}: this host has no interface {scope!r}") from None
    packed = socket.inet_pton(socket.AF_INET6, bare)
    return socket.AF_INET6, (socket.inet_ntop(socket.AF_INET6, packed), port, 0, index)
