# SPDX-License-Identifier: MIT
"""Addresses of one configuration that cannot be bound together, found before anything is bound.

Source: socket(7), ipv6(7): the wildcard excludes every address of its family, and [::] also accepts IPv4 clients
unless IPV6_V6ONLY is set; SO_REUSEPORT and SO_BINDTODEVICE let two sockets share an address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sockd.daemon.plan import ListenerPlan
    from sockd.net.address.address import Address
    from sockd.settings.listen import ListenSettings

    Wanted = tuple[Address, ListenSettings]

EVERY_V4, EVERY_V6 = "0.0.0.0", "::"  # noqa: S104 - compared, not bound
EVERY = ("", "*", EVERY_V6)


def conflicts(plans: Iterable[ListenerPlan]) -> Iterator[ConfigurationError]:
    """Yield, for each address that conflicts with an earlier one, an error: which one that is, and the remedy.

    Names are not looked up, and port 0 is a new port each time.
    """
    seen: dict[tuple[str, int], list[Wanted]] = {}
    for one in plans:
        for address in one.addresses:
            if address.path or address.name or not (port := address.port_number()):
                continue
            others = seen.setdefault((address.scheme, port), [])
            for other in others:
                if text := _conflict(other, (address, one.settings)):
                    yield ConfigurationError(text, key=one.find_key(address))
                    break
            others.append((address, one.settings))


def _conflict(first: Wanted, second: Wanted) -> str:
    (one, ours), (other, theirs) = first, second
    shared = ours.reuse_port and theirs.reuse_port
    if one.scheme == "udp":
        shared = shared or bool(ours.reuse_address and theirs.reuse_address)
    if shared or ours.interface != theirs.interface or not _families(first) & _families(second):
        return ""
    if not _is_every(one) and not _is_every(other):
        return f"{other} is configured twice; remove one of the two" if one.host == other.host else ""
    for (address, settings), beside in () if one.scheme == "vsock" else ((first, other), (second, one)):
        if address.host in EVERY and not settings.ipv6_only and _is_ipv4(beside):
            text = f"{address} also accepts IPv4 clients, as {beside} does"
            return f"{text}; write ipv6_only = true for {address}, or remove one of the two"
    wide, narrow = (one, other) if _is_every(one) else (other, one)
    return f"{wide} includes every address, also {narrow}; remove one of the two"


def _is_every(address: Address) -> bool:
    return address.host in EVERY or address.host == EVERY_V4


def _is_ipv4(address: Address) -> bool:
    return address.host not in EVERY and ":" not in address.host


def _families(wanted: Wanted) -> set[int]:
    address, settings = wanted
    if address.host in EVERY:
        return {6} if settings.ipv6_only else {4, 6}
    return {6} if ":" in address.host else {4}


__all__ = ["conflicts"]
