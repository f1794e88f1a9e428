# SPDX-License-Identifier: MIT
"""Membership of multicast groups, for a socket of datagrams: ip(7), ipv6(7), RFC 1112, RFC 3493 5.2.

A socket that is bound to every address, or to the group's own, receives what is sent to the group on the interface by
which it has joined.  Membership ends with the socket.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, SystemFault, fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockd.net.address.sockaddr import Endpoint

_MREQN = struct.Struct("=4s4si")
"""struct ip_mreqn of ip(7): group, local address, index of the interface."""
_MREQ6 = struct.Struct("=16sI")
"""struct ipv6_mreq of ipv6(7): group, index of the interface."""


def parse(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, str]:
    """Read `group` or `group%interface`.

    Raises:
        ConfigurationError: it is no multicast address.
    """
    group, _, interface = text.partition("%")
    try:
        address = ipaddress.ip_address(group)
    except ValueError:
        raise ConfigurationError(f'multicast: "{text}" is not an address; write "239.1.2.3%eth0"') from None
    if not address.is_multicast:
        raise ConfigurationError(f'multicast: "{text}" is not a multicast address (224.0.0.0/4, ff00::/8)')
    return address, interface


def join(sock: socket.socket, endpoint: Endpoint, groups: Iterable[str]) -> None:
    """Join the groups that are of the socket's family.

    Args:
        sock: of datagrams.
        endpoint: what will be bound, for messages.
        groups: `group` or `group%interface`; without one the kernel chooses it by its routes.

    Raises:
        SystemFault, PermissionFault: one is refused; names address, group and remedy.
    """
    for text in groups:
        address, interface = parse(text)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        if endpoint.type == socket.SOCK_DGRAM and endpoint.family == family:
            _join(sock, endpoint, text, address, interface)


def _join(
    sock: socket.socket,
    endpoint: Endpoint,
    text: str,
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    interface: str,
) -> None:
    try:
        index = socket.if_nametoindex(interface) if interface else 0
    except OSError:
        here = ", ".join(name for _, name in socket.if_nameindex())
        raise SystemFault(f"{endpoint}: multicast {text}: no interface {interface!r}, this host has {here}") from None
    try:
        if address.version == 4:
            request = _MREQN.pack(address.packed, bytes(4), index)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, _MREQ6.pack(address.packed, index))
    except OSError as error:
        cause = fault(error, f"{endpoint}: multicast {text}")
        raise type(cause)(f'{cause}; name the interface: "{address}%eth0"') from None


__all__ = ["join", "parse"]
