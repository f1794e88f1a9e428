"""Rules of a SOCKS server as people write them, and what the text alone can tell of its other keys.

A rule is `[from NETWORK] [user NAME] [to] WHERE[:PORTS]`, and matches what all of its parts match.  WHERE is
`*`, a network, the name of a host (`*.example.com` for all below it), or a kind of address; PORTS one number, or
two with a dash between.  To hold rules against addresses is the business of sockd.services.socks.rules.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sockd.config_values import Problem, show, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.settings import ServiceSettings
    from sockd.toml_text import KeyPath

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

KINDS = ("loopback", "link-local", "private", "multicast", "own", "reserved")
"""Addresses that are not connected to unless a rule names them; which these are: sockd.services.socks.rules."""
NEVER_SOCKS = (
    "framing", "max_frame", "idle_timeout", "frame_timeout", "write_timeout", "linger_timeout", "high_water",
    "max_buffer",
)  # fmt: skip

_EXAMPLE = 'such as "10.0.0.0/8:443", "*.example.com" or "user alice to private:22"'
_NAME = re.compile(r"(\*\.)?(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_MAPPED_BITS = 96  # RFC 4291: ::ffff:0:0/96 holds the IPv4 addresses
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


def parse_rule(text: str) -> Rule:
    """Read a rule.

    Raises:
        ValueError: it is none; the message is to stand behind the text.
    """
    parts = dict[str, str]()
    words = text.split()
    while words:
        word = words.pop(0)
        key, value = (word, words.pop(0) if words else "") if word in ("from", "user", "to") else ("to", word)
        if not value:
            raise ValueError(f'has nothing behind "{word}"; a rule is {_EXAMPLE}')
        if key in parts:
            more = suggest(value, ("from", "user", "to")) if key == "to" else ""
            raise ValueError(f'has "{key}" twice; a rule is {_EXAMPLE}{more}')
        parts[key] = value
    if not parts:
        raise ValueError(f"is empty; a rule is {_EXAMPLE}")
    source = _network(parts["from"]) if "from" in parts else None
    where = _where(parts.get("to", "*"))
    return Rule(text, source=source, user=parts.get("user"), **where)


def check_socks(path: KeyPath, service: ServiceSettings) -> Iterator[Problem]:
    """Check the keys of a SOCKS server.

    Args:
        path: of the service's table.
        service: as read.
    """
    if service.socks is None:
        return
    for key in NEVER_SOCKS:
        if getattr(service, key) is not None:
            yield Problem((*path, key), "has no meaning for a SOCKS server; what it has stands in socks = { ... }")
    here = (*path, "socks")
    for key in ("allow", "deny"):
        for index, text in enumerate(getattr(service.socks, key)):
            try:
                rule = parse_rule(text)
            except ValueError as error:
                yield Problem((*here, key, index), f"{show(text)} {error}", text)
                continue
            if rule.user is not None and service.socks.users is None:
                reason = "names a user, and nobody logs in; add users, or remove the user"
                yield Problem((*here, key, index), f"{show(text)} {reason}", text)
    yield from _check_texts(here, service.socks.users, service.socks.source)


def _check_texts(here: KeyPath, users: str | None, source: str | None) -> Iterator[Problem]:
    if users is not None and (not os.path.isabs(users) or users.endswith("/") or "\0" in users):
        reason = "is no absolute path of a file, and a daemon changes its folder; write one, such as /etc/sockd/users"
        yield Problem((*here, "users"), f"{show(users)} {reason}", users)
    if source is not None:
        try:
            address = ipaddress.ip_address(source)
        except ValueError:
            address = None
        if address is None or address.is_multicast or "%" in source:
            reason = 'is no address of a host; write one of ours in numbers, such as "192.0.2.1"'
            yield Problem((*here, "source"), f"{show(source)} {reason}", source)


# ---- the parts of a rule


def _where(text: str) -> dict[str, Any]:
    bare, ports = _split_ports(text)
    where: dict[str, Any] = {"ports": ports}
    if bare == "*":
        return where
    if bare in KINDS:
        return {**where, "kind": bare}
    if re.fullmatch(r"[0-9.]+(/[0-9]*)?|.*:.*", bare):
        return {**where, "network": _network(bare)}
    name = bare.lower().removesuffix(".")
    if not _NAME.fullmatch(name) or len(name) > 253:  # RFC 1035
        raise ValueError(f"has {show(bare)}, which is no network, no name of a host, none of {', '.join(KINDS)}")
    near = "" if "." in name else suggest(name, (*KINDS, "from", "user"))
    if near:
        raise ValueError(f"has {show(bare)}, which is no kind of address{near}")
    return {**where, "name": name.removeprefix("*")}


def _split_ports(text: str) -> tuple[str, tuple[int, int] | None]:
    """Take the ports off; an IPv6 network that has some stands in brackets."""
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
        raise ValueError(f"has {show(text)} as its ports; write a number, or two such as 8000-8999, up to {_MAX_PORT}")
    return first, last


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"has {show(text)}, which is no network; write 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"
        ) from None
    if "%" in text:
        raise ValueError(f"has {show(text)}, which names an interface; remove the % and what follows")
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= _MAPPED_BITS:
        meant = ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_BITS))
        raise ValueError(f"has {show(text)}, which never matches, for these are taken as IPv4; write {meant}")
    if network.network_address != ipaddress.ip_interface(text).ip:
        raise ValueError(f"has {show(text)}, which has bits behind its prefix; write {network}")
    return network


__all__ = ["KINDS", "NEVER_SOCKS", "Network", "Rule", "check_socks", "parse_rule"]
