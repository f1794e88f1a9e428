# SPDX-License-Identifier: MIT
"""Clients as people write them, in the rules of listeners: an address, one with the length of its prefix, a name."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Literal, TypeAlias

from sockd.lazy import pattern
from sockd.units import parse_whole
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = pattern(rf"\.?(?=.*[A-Za-z])(?:{_LABEL}\.)*{_LABEL}")
_WORDS = ("all", "any", "everybody", "everyone", "known", "local", "nobody", "none", "unknown")
"""Which look like the name of a host, and are meant as something else."""


class ClientName(str):
    """A name of a host, or `.example.com` for all names in a domain; in lower case."""

    def matches(self, name: str) -> bool:
        """Tell whether a name is this one, or in this domain (RFC 4343: whatever its case)."""
        name = name.lower().removesuffix(".")
        return name.endswith(self) if self.startswith(".") else name == self


@dataclass(frozen=True, slots=True)
class ClientCid:
    """A virtual machine, or its host, by its number (vsock(7))."""

    cid: int

    def __str__(self) -> str:
        return f"vsock:{self.cid}"


Client: TypeAlias = Network | ClientName | ClientCid

UNIX_CLIENTS: Literal["unix:"] = "unix:"
"""In the list of proxies: whoever connects over a Unix socket."""
MAX_CID = 2**32 - 2
"""vsock(7): one more is VMADDR_CID_ANY."""
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


def read_client(text: str) -> Client:
    """Read a network, the name of a host, `.example.com` or `vsock:3`; raises ValueError as read_network()."""
    if text.startswith("vsock:"):
        cid = parse_whole(text.removeprefix("vsock:"), MAX_CID)
        if cid is None:
            raise ValueError('is not a client; write "vsock:CID": "vsock:2" is the host of a virtual machine')
        return ClientCid(cid)
    if text.lower() in _WORDS:
        raise ValueError('is not a client; write "0.0.0.0/0" and "::/0" for all of them, or leave the key out')
    if _NAME.fullmatch(text) and not text[-1].isdigit() and ":" not in text:
        return ClientName(text.lower())
    return read_network(text)


def networks_among(clients: Iterable[Client]) -> list[Network]:
    """Return the networks of a list."""
    return [one for one in clients if not isinstance(one, ClientName | ClientCid)]


def names_among(clients: Iterable[Client]) -> list[ClientName]:
    """Return the names of a list."""
    return [one for one in clients if isinstance(one, ClientName)]


def cids_among(clients: Iterable[Client]) -> frozenset[int]:
    """Return the CIDs of a list."""
    return frozenset(one.cid for one in clients if isinstance(one, ClientCid))


def read_proxy(text: str) -> Network | Literal["unix:"]:
    """Read a network of proxies, or `unix:`; raises ValueError as read_network()."""
    return UNIX_CLIENTS if text == UNIX_CLIENTS else read_network(text)


def mapped(network: Network) -> ipaddress.IPv4Network | None:
    """Return the IPv4 network that is written as one of IPv6; None where it is none."""
    inner = getattr(network.network_address, "ipv4_mapped", None)
    if inner is None or network.prefixlen < MAPPED_BITS:
        return None
    return ipaddress.IPv4Network((inner, network.prefixlen - MAPPED_BITS))


__all__ = [
    "UNIX_CLIENTS",
    "Client",
    "ClientCid",
    "ClientName",
    "Network",
    "cids_among",
    "mapped",
    "names_among",
    "networks_among",
    "read_client",
    "read_network",
    "read_proxy",
]
