# SPDX-License-Identifier: MIT
"""What can be set of a SOCKS server."""

from __future__ import annotations

import ipaddress
import re
from typing import TypeAlias

from sockd.lazy import pattern
from sockd.settings.field import setting, textual
from sockd.settings.networks import Network, mapped
from sockd.text import show, suggest
from sockd.units import Duration
from sockd.values import dataclass, replace

DEFAULT_MAX_CLIENTS = 4096
"""Of a SOCKS service without max_connections; each may hold two descriptors, four with UDP."""


IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


KINDS = ("loopback", "link-local", "private", "multicast", "own", "reserved")
"""Addresses that are not connected to unless a rule names them; which these are: sockd.services.socks.rules."""


_EXAMPLE = 'such as "10.0.0.0/8:443", "*.example.com" or "user alice to private:22"'


_NAME = pattern(r"(\*\.)?(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


_PORTS = pattern(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


_MAX_PORT = 65_535


@dataclass(frozen=True)
class Rule:
    """One rule; a part that is None or empty matches everything.

    Attributes:
        text: as written.
        source: of the client.
        user: that has logged in.
        network: of the address that is connected to.
        kind: one of KINDS, of that address.
        name: that the client asked for, in lower case; ".example.com" for all names below it.
        ports: first and last.
    """

    text: str
    source: Network | None = None
    user: str | None = None
    network: Network | None = None
    kind: str | None = None
    name: str | None = None
    ports: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.text


def parse_rule(text: str) -> Rule:
    """Read a rule.

    Raises:
        ValueError: it is not one; the message follows the text.
    """
    parts = dict[str, str]()
    words = text.split()
    while words:
        word = words.pop(0)
        key, value = (word, words.pop(0) if words else "") if word in ("from", "user", "to") else ("to", word)
        if not value:
            raise ValueError(f'has nothing after "{word}"; a rule is {_EXAMPLE}')
        if key in parts:
            more = suggest(value, ("from", "user", "to")) if key == "to" else ""
            raise ValueError(f'has "{key}" twice; a rule is {_EXAMPLE}{more}')
        parts[key] = value
    if not parts:
        raise ValueError(f"is empty; a rule is {_EXAMPLE}")
    source = _network(parts["from"]) if "from" in parts else None
    rule = Rule(text, source=source, user=parts.get("user"))
    return _with_destination(rule, parts.get("to", "*"))


def _with_destination(rule: Rule, text: str) -> Rule:
    bare, ports = _split_ports(text)
    where: Rule = replace(rule, ports=ports)
    if bare == "*":
        return where
    if bare in KINDS:
        return replace(where, kind=bare)
    if re.fullmatch(r"[0-9.]+(/[0-9]*)?|.*:.*", bare):
        return replace(where, network=_network(bare))
    name = bare.lower().removesuffix(".")
    if not _NAME.fullmatch(name) or len(name) > 253:  # RFC 1035
        raise ValueError(f"has {show(bare)}, which is not a network, a host name or one of {', '.join(KINDS)}")
    near = "" if "." in name else suggest(name, (*KINDS, "from", "user"))
    if near:
        raise ValueError(f"has {show(bare)}, which is not a kind of address{near}")
    return replace(where, name=name.removeprefix("*"))


def _split_ports(text: str) -> tuple[str, tuple[int, int] | None]:
    """Split off the ports; an IPv6 network with ports is in brackets."""
    if text.startswith("["):
        bare, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"has {show(text)}; write [NETWORK]:PORT")
        return bare, _ports(rest[1:]) if rest else None
    if text.count(":") != 1:
        return text, None
    bare, _, ports = text.partition(":")
    return bare or "*", _ports(ports)


def _ports(text: str) -> tuple[int, int]:
    found = _PORTS.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not 0 <= first <= last <= _MAX_PORT:
        raise ValueError(f"has the ports {show(text)}; write a number, or a range such as 8000-8999, up to {_MAX_PORT}")
    return first, last


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"has {show(text)}, which is not a network; write 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"
        ) from None
    if "%" in text:
        raise ValueError(f"has {show(text)}, which names an interface; remove the % and what follows")
    if (meant := mapped(network)) is not None:
        raise ValueError(f"has {show(text)}, which never matches, because these are matched as IPv4; write {meant}")
    if network.network_address != ipaddress.ip_interface(text).ip:
        raise ValueError(f"has {show(text)}, which has bits set after its prefix; write {network}")
    return network


def read_source(text: str) -> IPAddress:
    """Read an address of ours.

    Raises:
        ValueError: it is not one; the message follows the text.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or address.is_multicast or "%" in text:
        raise ValueError('is not the address of a host; write a local IP address, such as "192.0.2.1"')
    return address


@dataclass(frozen=True, kw_only=True)
class SocksSettings:
    """socks = { ... } of a service: SOCKS 4, 4a and 5."""

    users: str | None = setting(
        None,
        help="absolute path of a user file with lines NAME:HASH; if set, every client must log in, which only SOCKS 5 "
        "supports; unset: no login",
        source="RFC 1929; sockctl password prints such a line",
    )
    allow: tuple[Rule, ...] = setting(
        (),
        help='rules that allow a destination: "[from NETWORK] [user NAME] [to] WHERE[:PORTS]"; all others are refused; '
        "unset: all public addresses",
        source="docs/socks.md",
        parse=textual(parse_rule),
    )
    deny: tuple[Rule, ...] = setting(
        (),
        help="rules that deny a destination, in the same form; deny takes precedence over allow",
        source="docs/socks.md",
        parse=textual(parse_rule),
    )
    source: IPAddress | None = setting(
        None,
        help="local source address of outgoing connections; unset: chosen by the system",
        source="FAQ III.6",
        parse=textual(read_source),
    )
    negotiation_timeout: Duration = setting(
        Duration(10),
        help="time limit from the connection to the complete request, including login",
        source="a few round trips on a slow network, plus the time of a password hash",
        unit="seconds",
        low=0.1,
        high=600,
    )
    connect_timeout: Duration = setting(
        Duration(30),
        help="time limit for name resolution and all connection attempts together; also for the peer of a BIND",
        source="FAQ III.5; Linux retransmits a SYN four times in this time",
        unit="seconds",
        low=0.1,
        high=600,
    )
    idle_timeout: Duration = setting(
        Duration(3600),
        help="close a connection made for a client after this time without traffic",
        source="HAProxy, timeout tunnel; interactive shells stay open while idle",
        unit="seconds",
        low=0.1,
        high=7 * 86_400,
    )
    half_close_timeout: Duration = setting(
        Duration(60),
        help="after an end of file from one side, how long the other side may be idle",
        source="FAQ II.6; HAProxy, timeout client-fin",
        unit="seconds",
        low=0.1,
        high=86_400,
    )
    udp: bool = setting(True, help="serve UDP ASSOCIATE", source="RFC 1928, section 7")
    bind: bool = setting(True, help="serve BIND", source="RFC 1928, section 4")


__all__ = ["DEFAULT_MAX_CLIENTS", "KINDS", "Network", "Rule", "SocksSettings", "parse_rule"]
