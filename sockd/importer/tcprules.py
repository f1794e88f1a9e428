# SPDX-License-Identifier: MIT
"""The rules of tcpserver, as tcprules(1) compiles them -> allow, deny, and variables by the client's network.

There, the rule with the most specific address decides, and a client without a rule is accepted; here, deny goes before
allow.  So each denied network is written without the accepted ones in it.  Of two rules for one address the first
counts.  Pure.  Source: tcprules(1), tcprules.c and rules.c of ucspi-tcp 0.88.
"""

from __future__ import annotations

import ipaddress
import re

from sockd.importer.model import Note, Place
from sockd.importer.networks import without, written
from sockd.settings.networks import ClientName, read_client
from sockd.values import dataclass, field

EVERYBODY = ""
"""The address of the rule for all others."""
HIGHEST = 255
"""Of a range; tcprules cuts it there."""
RULE = re.compile(r"^[^:\s]*:(?:allow|deny)\b")
_NUMBER = re.compile(r"[0-9]{0,9}")
_VARIABLE = re.compile(r",(?P<name>[^=,]+)=(?P<quote>.)(?P<value>.*?)(?P=quote)", re.DOTALL)
_PREFIX = re.compile(r"(?:\d{1,3}\.){1,3}|(?:\d{1,3}\.){3}\d{1,3}")


@dataclass(frozen=True)
class TcpRule:
    """One line, or one of those that a range stands for."""

    place: Place
    address: str
    is_allowed: bool
    variables: tuple[str, ...]


@dataclass
class TcpRuleAccess:
    """What rules come to.

    Attributes:
        allow, deny: as in [[listen]]; an empty allow is everybody.
        environment: variables of all clients.
        client_environment: variables by network; then `environment` is empty.
        is_closed: nobody is accepted.
        notes: what is lost.
    """

    allow: list[str] = field(default_factory=list)
    deny: list[str] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)
    client_environment: list[str] = field(default_factory=list)
    is_closed: bool = False
    notes: list[Note] = field(default_factory=list)


def parse(text: str, file: str) -> tuple[list[TcpRule], list[Note]]:
    """Read a file of rules.

    Returns:
        The rules in their order, those of ranges one by one; and what tcprules does not read either.
    """
    rules: list[TcpRule] = []
    notes: list[Note] = []
    for number, line in enumerate((line.rstrip(" \t") for line in text.split("\n")), 1):
        place = Place(file, number)
        if not line or line.startswith("#"):
            continue
        address, colon, instructions = line.partition(":")
        if not colon:
            notes.append(Note(place, f"{line!r} has no colon; tcprules skips it"))
        else:
            try:
                is_allowed, variables = _instructions(instructions)
                rules += (TcpRule(place, one, is_allowed, variables) for one in _expand(address))
            except ValueError:
                text = f"{line!r} is not a rule, and tcprules refuses the file; write ADDRESS:allow, or ADDRESS:deny"
                notes.append(Note(place, text, leaves_out=True))
    return rules, notes


def _instructions(text: str) -> tuple[bool, tuple[str, ...]]:
    """Return whether clients are accepted, and their variables; raises ValueError."""
    word = "allow" if text.startswith("allow") else "deny"
    position, variables = len(word), []
    while match := _VARIABLE.match(text, position):
        variables.append(f"{match['name']}={match['value']}")
        position = match.end()
    if not text.startswith(word) or position != len(text):
        raise ValueError(f"{text} is no instruction")
    return word == "allow", tuple(variables)


def _expand(address: str) -> list[str]:
    """Return the addresses of a range, as doaddressdata() of tcprules.c; those of names and users have none.

    A number that is missing is 0, and only the first dash counts.

    Raises:
        ValueError: there is no number beside the dash, which tcprules refuses.
    """
    low, dash, high = address.partition("-")
    if not dash or "=" in address or "@" in address:
        return [address]
    head, dot, first = low.rpartition(".")
    last, *tail = high.split(".", 1)
    if not (_NUMBER.fullmatch(first) and _NUMBER.fullmatch(last)):
        raise ValueError(f"{address} is not a range")
    behind = "".join(f".{rest}" for rest in tail)
    numbers = range(int(first or 0), min(int(last or 0), HIGHEST) + 1)
    return [f"{head}{dot}{number}{behind}" for number in numbers]


def access(rules: list[TcpRule], *, names: bool, users: bool) -> TcpRuleAccess:
    """Translate rules.

    Args:
        rules: in their order.
        names: whether tcpserver looks up names; else rules with "=" match nobody.
        users: whether it asks for users (RFC 1413); else rules with "@" match nobody.
    """
    found = TcpRuleAccess()
    first: dict[str, TcpRule] = {}
    for one in rules:
        first.setdefault(one.address, one)
    networks = {address: one for address, one in first.items() if _network(address)}
    everybody = first.get(EVERYBODY)
    _networks(found, networks, everybody)
    noted: set[Place] = set()
    for address, one in first.items():
        if "@" in address:
            _note_user(found, one, users)
        elif address.startswith("="):
            _name(found, one, names, is_open=everybody is None or everybody.is_allowed)
        elif address not in networks and address != EVERYBODY and one.place not in noted:
            noted.add(one.place)  # once for a range
            _note_none(found, one)
    _variables(found, networks, everybody)
    found.is_closed = everybody is not None and not everybody.is_allowed and not found.allow
    return found


def _network(address: str) -> ipaddress.IPv4Network | None:
    """Return the network of an address, or of a prefix with its dot; None: it is none, as for 010.1. and 300."""
    if _PREFIX.fullmatch(address) is None:
        return None
    parts = address.removesuffix(".").split(".")
    text = ".".join([*parts, *["0"] * (4 - len(parts))])
    try:
        return ipaddress.IPv4Network(f"{text}/{8 * len(parts)}")
    except ValueError:
        return None


def _networks(found: TcpRuleAccess, rules: dict[str, TcpRule], everybody: TcpRule | None) -> None:
    """Set allow and deny by the addresses."""
    by_network = {network: one for address, one in rules.items() if (network := _network(address))}
    is_open = everybody is None or everybody.is_allowed
    allowed = [network for network, one in by_network.items() if one.is_allowed]
    if not is_open:
        found.allow += (written(one) for one in allowed)
    for network, one in by_network.items():
        within = is_open or any(network.subnet_of(other) for other in allowed)
        if not one.is_allowed and within:
            inner = [other for other in allowed if other.subnet_of(network)]
            found.deny += (written(rest) for rest in without(network, inner))


def _note_none(found: TcpRuleAccess, rule: TcpRule) -> None:
    """Note an address that is none for tcprules of ucspi-tcp; that of ucspi-tcp6 reads the length of a prefix."""
    text = "matches nobody: write an IPv4 address, or numbers and dots"
    is_length = "/" in rule.address
    if is_length:
        text = "is a network for ucspi-tcp6, and matches nobody for ucspi-tcp; write numbers and dots, as in 10.1."
    found.notes.append(Note(rule.place, f"{rule.address} {text}", leaves_out=is_length and not rule.is_allowed))


def _note_user(found: TcpRuleAccess, rule: TcpRule, users: bool) -> None:
    if not users:
        found.notes.append(Note(rule.place, f"{rule.address} matches nobody: tcpserver -R asks for no user"))
    elif rule.is_allowed:
        text = "users decide nothing here, because their own host names them (RFC 1413, 6); the other rules hold"
        found.notes.append(Note(rule.place, f"{rule.address}: {text}"))
    else:
        text = "users decide nothing here, and without it this one would be accepted; deny the address instead"
        found.notes.append(Note(rule.place, f"{rule.address}: {text}", leaves_out=True))


def _name(found: TcpRuleAccess, rule: TcpRule, names: bool, *, is_open: bool) -> None:
    """Add a name of a host or domain, which sockd confirms."""
    what = f"{rule.address}:{'allow' if rule.is_allowed else 'deny'}"
    if not names:
        found.notes.append(Note(rule.place, f"{what} matches nobody: tcpserver -H looks no names up"))
        return
    try:
        client = read_client(rule.address.removeprefix("="))
    except ValueError:
        client = None
    if not isinstance(client, ClientName):
        text = "has no equivalent; write networks, or names of domains"
        found.notes.append(Note(rule.place, f"{what} {text}", leaves_out=not rule.is_allowed))
        return
    if rule.variables:
        text = "variables for a name have no equivalent; write its networks into client_environment"
        found.notes.append(Note(rule.place, f"{what}: {text}"))
    if not rule.is_allowed:
        found.deny.append(client)
        text = "is followed before rules that accept a network, and for confirmed names alone"
        found.notes.append(Note(rule.place, f"{what} {text}"))
    elif found.deny:
        found.notes.append(Note(rule.place, f"{what}: who is in a denied network is denied, whatever its name"))
    if rule.is_allowed and not is_open:
        found.allow.append(client)


def _variables(found: TcpRuleAccess, rules: dict[str, TcpRule], everybody: TcpRule | None) -> None:
    """Set variables; a rule without any hides those of a larger network."""
    common = list(everybody.variables) if everybody and everybody.is_allowed else []
    accepted = {network: one for address, one in rules.items() if one.is_allowed and (network := _network(address))}
    if not any(one.variables for one in accepted.values()) and not (common and accepted):
        found.environment = common
        return
    found.client_environment = [f"0.0.0.0/0 {entry}" for entry in common]
    for network, one in accepted.items():
        hides = common or any(other.variables for larger, other in accepted.items() if network.subnet_of(larger))
        entries = [f"{written(network)} {entry}" for entry in one.variables]
        found.client_environment += entries or ([written(network)] if hides else [])


__all__ = ["RULE", "TcpRule", "TcpRuleAccess", "access", "parse"]
