# SPDX-License-Identifier: MIT
"""Clients as xinetd writes them -> networks, and only_from with no_access -> allow with deny.

Pure; no name is looked up, because its address may change. Source: xinetd.conf(5), only_from.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_FACTORED = re.compile(r"(?P<head>(?:\d{1,3}\.){0,3})\{(?P<parts>\d{1,3}(?:,\d{1,3})*)\}")
_PARTS = 4  # of an IPv4 address


def networks(text: str) -> list[Network]:
    """Read one client or many: 10.1.2.3, 10.1.2.0, 10.1.{2,3}, 10.0.0.0/8, ::1, 2001:db8::/32, localhost.

    Args:
        text: as in xinetd.conf.

    Raises:
        ValueError: a name of a host, a domain or a network; the message says which.
    """
    if text == "localhost":
        return [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1")]
    if match := _FACTORED.fullmatch(text):
        return [_by_parts([*match["head"].split(".")[:-1], part]) for part in match["parts"].split(",")]
    if "/" in text:
        return [ipaddress.ip_network(text, strict=False)]
    if re.fullmatch(r"[\d.]+", text):
        return [_by_zeros(text)]
    if ":" in text:
        return [ipaddress.ip_network("::/0" if text == "::" else text)]
    what = "a domain" if text.startswith(".") else "a name"
    raise ValueError(f"{text} is {what}, and networks are numeric")


def _by_parts(parts: list[str]) -> Network:
    whole = ".".join([*parts, *["0"] * (_PARTS - len(parts))])
    return ipaddress.ip_network(f"{whole}/{8 * len(parts)}")


def _by_zeros(text: str) -> Network:
    """Return the network of an address whose last parts are 0: as many bits as the others have."""
    parts = str(ipaddress.IPv4Address(text)).split(".")
    while parts and parts[-1] == "0":
        parts.pop()
    return _by_parts(parts)


def rules(only_from: Iterable[Network], no_access: Iterable[Network]) -> tuple[list[str], list[str]]:
    """Convert two lists of which the better match decides into two of which deny takes precedence.

    Args:
        only_from: accepted clients.
        no_access: refused ones.

    Returns:
        allow and deny; an allowed part of a denied network is cut out of that.
    """
    allow = list(dict.fromkeys(only_from))
    deny: list[Network] = []
    for network in dict.fromkeys(no_access):
        rest = [network]
        for better in allow:
            rest = [piece for one in rest for piece in _without(one, better)]
        deny += rest
    return [_text(one) for one in allow], [_text(one) for one in deny]


def _without(network: Network, better: Network) -> Iterable[Network]:
    if isinstance(network, ipaddress.IPv4Network) and isinstance(better, ipaddress.IPv4Network):
        return network.address_exclude(better) if better != network and better.subnet_of(network) else [network]
    if isinstance(network, ipaddress.IPv6Network) and isinstance(better, ipaddress.IPv6Network):
        return network.address_exclude(better) if better != network and better.subnet_of(network) else [network]
    return [network]


def _text(network: Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
