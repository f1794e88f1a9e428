# SPDX-License-Identifier: MIT
"""Access rules of a SOCKS server: checked on the very address that is connected to.

First the deny rules, whatever is allowed; then kinds of addresses that lead into the own network (loopback, private
and similar), which only a rule that names them opens; then, if there are `allow` rules, one of them must match. An
address that contains an IPv4 address (6to4, NAT64 and similar) is also checked as that one.

Pure except for `is_own`, which asks the kernel.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sockd.settings.socks import Network, Rule

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_RESERVED_AND_ASSIGNED = ("192.88.99.0/24", "198.18.0.0/15", "2001:2::/48", "100::/64")
"""Relays of 6to4 (RFC 7526), benchmarks (RFC 2544, RFC 5180), discard (RFC 6666): a host may have such an address."""

KINDS: dict[str, tuple[Network, ...]] = {
    kind: tuple(ipaddress.ip_network(text) for text in texts)
    for kind, texts in {
        "loopback": ("127.0.0.0/8", "::1/128"),
        "link-local": ("169.254.0.0/16", "fe80::/10"),
        # RFC 1918; RFC 6598, between a carrier and its customers; RFC 4193; RFC 3879, site-local
        "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10"),
        "multicast": ("224.0.0.0/4", "ff00::/8"),
        # RFC 6890: this network, which Linux takes for this host, and its IPv6 form; protocol assignments;
        # what was never given out, with the limited broadcast
        "reserved": ("0.0.0.0/8", "::/128", "192.0.0.0/24", "240.0.0.0/4", *_RESERVED_AND_ASSIGNED),
    }.items()
}
"""Not connected to unless a rule names them; "own" is the sixth kind, and the kernel's to know."""

_ANYBODYS = frozenset(("loopback", "multicast", "reserved"))
"""Every host has these; they are not called own besides, unless they are among ..."""
_ASSIGNED = tuple(map(ipaddress.ip_network, _RESERVED_AND_ASSIGNED))

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291, 2.5.5.2
_LAST_32_BITS = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "::/96",  # IPv4-compatible, RFC 4291, 2.5.5.1; not :: and ::1
        "::ffff:0:0:0/96",  # IPv4-translated, RFC 2765
        "64:ff9b::/96",  # NAT64, RFC 6052
        "64:ff9b:1::/48",  # NAT64 of a site's own, RFC 8215, with the /96 that it commonly has
    )
)
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")  # RFC 3056: the 32 bits behind the prefix
_TEREDO = ipaddress.IPv6Network("2001::/32")  # RFC 4380: the server's behind the prefix, the client's last, inverted
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # RFC 5214: the 32 bits before the last 32
_LOW = 0xFFFF_FFFF


@dataclass(frozen=True)
class AccessRequest:
    """The client and its request.

    Attributes:
        source: the client's address; None for a Unix socket's.
        user: that has logged in.
        name: that was asked for, None where it was an address.
    """

    source: IPAddress | None
    user: str | None
    name: str | None


REMEMBERED = 4096
"""Addresses parsed or classified recently; their properties never change."""


@lru_cache(REMEMBERED)
def parse_ip(host: str) -> IPAddress:
    """Read a numeric address as the kernel or a resolver prints it; an IPv4-mapped one as IPv4, without a scope."""
    return plain(ipaddress.ip_address(host.partition("%")[0]))


@lru_cache(REMEMBERED)
def _address_kinds(address: IPAddress) -> tuple[str, ...]:
    return tuple(kind for kind, networks in KINDS.items() if any(_is_in(address, network) for network in networks))


def _may_be_own(address: IPAddress) -> bool:
    return _ANYBODYS.isdisjoint(_address_kinds(address)) or any(_is_in(address, network) for network in _ASSIGNED)


def plain(address: IPAddress) -> IPAddress:
    """Return an IPv4-mapped address as IPv4, any other as it is."""
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(REMEMBERED)
def forms(address: IPAddress) -> tuple[IPAddress, ...]:
    """Return an address, and the IPv4 addresses that it carries within."""
    if not isinstance(address, ipaddress.IPv6Address):
        return (address,)
    number = int(address)
    carried = []
    if (
        number > 1 and any(address in network for network in (*_LAST_32_BITS, _MAPPED))
    ) or number >> 32 & _LOW in _ISATAP:
        carried.append(number & _LOW)
    if address in _SIX_TO_FOUR:
        carried.append(number >> 80 & _LOW)
    if address in _TEREDO:
        carried += [number >> 64 & _LOW, ~number & _LOW]
    return (address, *map(ipaddress.IPv4Address, carried))


def is_own(address: IPAddress) -> bool:
    """Ask the kernel whether an address is this host's own, one of a network's broadcast included.

    Only a local address can be bound (bind(2), EADDRNOTAVAIL).  If that cannot be determined, it counts as local.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


class Rules:
    """The rules of one service.

    Args:
        allow, deny: deny goes before allow.
        is_own: tells whether an address is this host's.
    """

    def __init__(
        self, allow: Iterable[Rule], deny: Iterable[Rule], *, is_own: Callable[[IPAddress], bool] = is_own
    ) -> None:
        self._allow = [*allow]
        self._deny = [*deny]
        self._is_own = is_own

    def forbids_name(self, asked: AccessRequest, port: int) -> str:
        """Say why a name need not even be looked up, empty when it must be."""
        for rule in self._deny:
            if rule.network is None and rule.kind is None and _suits(rule, asked, port):
                return f'denied by "{rule.text}"'
        if self._allow and not any(_suits(rule, asked, port) for rule in self._allow):
            return "no rule allows it"
        return ""

    def forbids(self, asked: AccessRequest, address: IPAddress, port: int) -> str:
        """Say why an address is not to be connected to, empty when it may be.

        Args:
            address: which will be connected to, and not merely its name.
        """
        address = plain(address)
        every = forms(address)
        for rule in self._deny:
            if _suits(rule, asked, port) and any(self._covers(rule, form) for form in every):
                return f'denied by "{rule.text}"'
        matching = [rule for rule in self._allow if _suits(rule, asked, port) and self._covers(rule, address)]
        for form in every:
            for kind in self._kinds(form):
                if form != address or not any(_opens(rule, kind, address) for rule in matching):
                    return f"{form} is {kind}, and no rule names it"
        return "" if matching or not self._allow else "no rule allows it"

    def is_permanent(self, address: IPAddress) -> bool:
        """Return whether the verdict on an address is permanent: the kernel was not asked for it."""
        return not any(_may_be_own(form) for form in forms(plain(address)))

    def _kinds(self, address: IPAddress) -> tuple[str, ...]:
        kinds = _address_kinds(address)
        if _may_be_own(address) and self._is_own(address):
            return (*kinds, "own")
        return kinds

    def _covers(self, rule: Rule, address: IPAddress) -> bool:
        if rule.kind is not None:
            return rule.kind in self._kinds(address)
        return rule.network is None or _is_in(address, rule.network)


def _suits(rule: Rule, asked: AccessRequest, port: int) -> bool:
    """Tell whether all of a rule matches but the address."""
    if rule.ports is not None and not rule.ports[0] <= port <= rule.ports[1]:
        return False
    if rule.user is not None and rule.user != asked.user:
        return False
    if rule.source is not None and (asked.source is None or not _is_in(asked.source, rule.source)):
        return False
    return rule.name is None or (asked.name is not None and _is_name(asked.name, rule.name))


def _is_name(name: str, wanted: str) -> bool:
    return name.endswith(wanted) if wanted.startswith(".") else name == wanted


def _opens(rule: Rule, kind: str, address: IPAddress) -> bool:
    """Tell whether a matching rule names a kind: by its word, by a network within it, or by the address alone.

    A name never opens one, because its owner can point it anywhere; neither does a network that is wider than the
    kind, because then it was not meant.
    """
    if rule.kind is not None:
        return rule.kind == kind
    if rule.network is None:
        return False
    if rule.network.num_addresses == 1:
        return _is_in(address, rule.network)
    return any(_within(rule.network, network) for network in KINDS.get(kind, ()))


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)


def _is_in(address: IPAddress, network: Network) -> bool:
    return address.version == network.version and address in network


__all__ = ["KINDS", "AccessRequest", "IPAddress", "Rules", "forms", "is_own", "parse_ip", "plain"]
