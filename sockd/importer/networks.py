# SPDX-License-Identifier: MIT
"""Clients and times as xinetd writes them -> allow, deny and hours.

Pure; no name is looked up, because its address may change. Source: xinetd.conf(5), only_from; xinetd 2.3.15 where the
manual says something else: there, the better match of only_from and no_access decides.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from sockd.settings.hours import DAY_MINUTES, DailyHours
from sockd.settings.networks import ClientCid, ClientName, mapped, read_client

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockd.settings.networks import Client, Network

_TIME = re.compile(r"0*(\d{1,2}):0*(\d{1,2})-0*(\d{1,2}):0*(\d{1,2})")
_FACTORED = re.compile(r"(?P<head>(?:\d{1,3}\.){0,3})\{(?P<parts>\d{1,3}(?:,\d{1,3})*)\}")
_PARTS = 4  # of an IPv4 address
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""IPv4 clients of an IPv6 socket (RFC 4291)."""


def networks(text: str) -> list[Network]:
    """Read one client or many: 10.1.2.3, 10.1.2.0, 10.1.{2,3}, 10.0.0.0/8, ::1, 2001:db8::/32, localhost.

    Args:
        text: as in xinetd.conf.

    Raises:
        ValueError: it is none.
    """
    if text == "localhost":
        return [ipaddress.ip_network("127.0.0.1"), ipaddress.ip_network("::1")]
    if match := _FACTORED.fullmatch(text):
        return [_by_parts([*match["head"].split(".")[:-1], part]) for part in match["parts"].split(",")]
    if "/" in text:
        return [_by_length(text)]
    if re.fullmatch(r"[\d.]+", text):
        return [_by_zeros(text)]
    if ":" in text:
        return [_as_ipv4(ipaddress.ip_network(text))]
    raise ValueError(f"{text} is no network")


def _by_length(text: str) -> Network:
    if not text.rpartition("/")[2].isdecimal():
        raise ValueError(f"{text}: a netmask is not the length of a prefix; xinetd takes its first number for one")
    return _as_ipv4(ipaddress.ip_network(text, strict=False))


def _as_ipv4(network: Network) -> Network:
    """Return an IPv4 network that is written as one of IPv6 as what it is."""
    return mapped(network) or network


def _by_parts(parts: list[str]) -> Network:
    whole = ".".join([*parts, *["0"] * (_PARTS - len(parts))])
    return ipaddress.ip_network(f"{whole}/{8 * len(parts)}")


def _by_zeros(text: str) -> Network:
    """Return the network of an address whose last parts are 0: as many bits as the others have."""
    parts = str(ipaddress.IPv4Address(_four_parts(text))).split(".")
    while parts and parts[-1] == "0":
        parts.pop()
    return _by_parts(parts)


def _four_parts(text: str) -> str:
    """Write 127.1 as 127.0.0.1, the last number filling what is left of the address (inet_aton(3))."""
    *first, last = text.split(".")
    size = _PARTS - len(first)
    if any(len(part) > 1 and part.startswith("0") for part in (*first, last)):
        raise ValueError(f"{text} has a number that begins with 0, which xinetd reads as octal; write it without")
    if not 1 <= size <= _PARTS or not last.isdecimal() or int(last) >= 256**size:
        raise ValueError(f"{text} is no address")
    return ".".join([*first, *map(str, int(last).to_bytes(size, "big"))])


def clients(text: str) -> list[Client]:
    """Read one client or many: as networks(), or a host or domain by its name.

    Raises:
        ValueError: it is none of these.
    """
    if "/" in text or re.fullmatch(r"[\d.]+", text):
        return [*networks(text)]
    try:
        return [*networks(text)]
    except ValueError:
        pass
    try:
        return [read_client(text)]
    except ValueError as error:
        raise ValueError(f"{text} {error}") from None


def with_mapped(found: Iterable[Client]) -> list[Client]:
    """Add the IPv4 clients to networks of IPv6 that hold them as ::ffff:0:0/96, as for a socket of both."""
    both: list[Client] = []
    for one in found:
        both.append(one)
        if isinstance(one, ipaddress.IPv6Network) and one.prefixlen <= MAPPED.prefixlen and one.overlaps(MAPPED):
            both.append(ipaddress.ip_network("0.0.0.0/0"))
    return both


def hours(text: str) -> DailyHours:
    """Read an interval of access_times, whose last minute belongs to it (xinetd 2.3.15 serves at 17:00 of 8:00-17:00).

    Raises:
        ValueError: it is none, or ends before it begins, which xinetd refuses.
    """
    if match := _TIME.fullmatch(text):  # 8:0 is 8:00, and so is 008:000
        first_hour, first_minute, last_hour, last_minute = map(int, match.groups())
        text = f"{first_hour}:{first_minute:02}-{last_hour}:{last_minute:02}"
    try:
        found = DailyHours.read(text)
    except ValueError:
        first, _, last = text.partition("-")
        if first != last:
            raise
        found = DailyHours.read(f"{first}-24:00")  # one minute
        return DailyHours(found.first, found.first + 1)
    if found.last < found.first or found.last == DAY_MINUTES:
        raise ValueError(f"{text} is refused by xinetd, whose intervals end at 23:59; write hours for what is meant")
    return DailyHours(found.first, found.last + 1)


def rules(only_from: Iterable[Client], no_access: Iterable[Client]) -> tuple[list[str], list[str]]:
    """Write two lists of clients; a client of both is refused, by xinetd 2.3.15 (access.c) as by sockd.

    Args:
        only_from: accepted clients.
        no_access: refused ones.

    Returns:
        allow and deny.
    """
    return [written(one) for one in dict.fromkeys(only_from)], [written(one) for one in dict.fromkeys(no_access)]


def written(one: Client) -> str:
    """Return a client as [[listen]] has it: a single address without the length of its prefix."""
    if isinstance(one, ClientName | ClientCid):
        return str(one)
    return str(one.network_address) if one.prefixlen == one.max_prefixlen else str(one)


def without(network: Network, holes: Iterable[Network]) -> list[Network]:
    """Return what is left of a network without others, as few networks as possible, in their order."""
    rest = [network]
    for hole in holes:
        kept: list[Network] = []
        for one in rest:
            if one.version != hole.version or not one.overlaps(hole):
                kept.append(one)
            elif one != hole and one.prefixlen < hole.prefixlen:
                kept += one.address_exclude(hole)  # type: ignore[arg-type]  # of the same version
        rest = kept
    return sorted(rest, key=lambda one: (one.network_address.packed, one.prefixlen))
