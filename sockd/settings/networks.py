# SPDX-License-Identifier: MIT
"""Networks as people write them, in the rules of listeners: an address, or one with the length of its prefix."""

from __future__ import annotations

import ipaddress
from typing import Literal, TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

UNIX_CLIENTS: Literal["unix:"] = "unix:"
"""In the list of proxies: whoever connects over a Unix socket."""
MAPPED_BITS = 96
"""RFC 4291: ::ffff:0:0/96 holds the IPv4 addresses."""


def read_network(text: str) -> Network:
    """Read `10.0.0.0/8`, `::1` or `192.0.2.7`.

    Raises:
        ValueError: it is no network, or matches nobody; the message is to stand behind the text.
    """
    if "%" in text:
        raise ValueError("names an interface, but sources are matched without one; remove the % and what follows")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        examples = '"192.0.2.7", "10.0.0.0/8" or "2001:db8::/32"'
        raise ValueError(f"is not a network; write an address or a prefix, such as {examples}") from None
    if (meant := mapped(network)) is not None:
        raise ValueError(f'never matches, because IPv4 clients are matched as IPv4; write "{meant}"')
    if network.network_address != ipaddress.ip_interface(text).ip:
        raise ValueError(f'has bits set after its prefix; write "{network}", or the address alone')
    return network


def read_proxy(text: str) -> Network | Literal["unix:"]:
    """Read a network of proxies, or `unix:`; raises ValueError as read_network()."""
    return UNIX_CLIENTS if text == UNIX_CLIENTS else read_network(text)


def mapped(network: Network) -> ipaddress.IPv4Network | None:
    """Return the IPv4 network that is written as one of IPv6; None where it is none."""
    inner = getattr(network.network_address, "ipv4_mapped", None)
    if inner is None or network.prefixlen < MAPPED_BITS:
        return None
    return ipaddress.IPv4Network((inner, network.prefixlen - MAPPED_BITS))


__all__ = ["UNIX_CLIENTS", "Network", "mapped", "read_network", "read_proxy"]
