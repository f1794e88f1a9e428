# SPDX-License-Identifier: MIT
"""A socket unit of systemd with its service -> a draft: where it listens, and who is accepted.

Source: systemd.socket(5), systemd.resource-control(5).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from sockd.importer import systemd_service
from sockd.importer.model import Draft, Place
from sockd.importer.networks import without
from sockd.importer.systemd_unit import seconds, size, specifier, truth
from sockd.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sockd.importer.model import Host, Value
    from sockd.importer.systemd_unit import Unit, UnitPair, UnitSetting
    from sockd.settings.networks import Network

LISTENS = {
    "ListenStream": ("tcp", "unix"), "ListenDatagram": ("udp", "unixgram"),
    "ListenSequentialPacket": ("", "unixpacket"),
}  # fmt: skip
"""Schemes of ports, and of paths."""
OTHER_LISTENS = ("ListenFIFO", "ListenNetlink", "ListenSpecial", "ListenMessageQueue", "ListenUSBFunction")
DEFAULT_CONNECTIONS = 64
"""MaxConnections."""
DEFAULT_MODE = "0666"
"""SocketMode."""
WITHOUT_EFFECT = {
    "Unit": ("Description", "Documentation", "After", "Before", "Wants", "PartOf", "DefaultDependencies"),
    "Socket": (
        "Accept", "Service", "MaxConnections", "SocketMode", "FileDescriptorName", "RemoveOnStop", "IPAddressAllow",
        "IPAddressDeny",
    ),
}  # fmt: skip
"""What does not change what a client meets, or is read elsewhere."""
SYMBOLIC = {
    "any": ("0.0.0.0/0", "::/0"),
    "localhost": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/64"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
}
"""systemd.resource-control(5), IPAddressAllow."""


def translate(pair: UnitPair, host: Host) -> Draft:
    """Make a draft of a socket unit.

    Args:
        pair: the unit, and its service.
        host: properties of the host.
    """
    unit = pair.socket
    service = pair.service.file if pair.service else unit.service_name()
    origin = f"{unit.name}.socket, {service.rpartition('/')[2]}"
    draft = Draft(place=Place(unit.file, 1), name=unit.name, origin=origin)
    accepts = unit.is_true("Socket", "Accept")
    _Socket(draft, unit, accepts)
    if pair.service is None:
        draft.leave_out(f"{service} was not found, beside it or where systemd looks; put it beside {unit.name}.socket")
    else:
        systemd_service.translate(draft, pair.service, host, accepts=accepts)
    _filter(draft, unit.settings)
    return draft


class _Socket:
    """The settings of a socket unit; the draft has them when the constructor returns."""

    def __init__(self, draft: Draft, unit: Unit, accepts: bool) -> None:
        self._draft = draft
        self._unit = unit
        self._accepts = accepts
        for place, line in unit.unread:
            draft.lose(f"{line!r} is not a setting; the form is NAME=VALUE in a [section]", place)
        for one in unit.settings:
            self._read(one)
        if not draft.addresses and not draft.is_left_out:
            draft.leave_out("has no ListenStream=, ListenDatagram= or ListenSequentialPacket=")
        if any(address.startswith("unix") and ":@" not in address for address in draft.addresses):
            draft.listen["mode"] = unit.last("Socket", "SocketMode") or DEFAULT_MODE
        if accepts:
            self._limit()

    def _read(self, one: UnitSetting) -> None:
        keys: dict[str, tuple[str, Callable[[str], Value]]] = {
            "SocketUser": ("owner", str), "SocketGroup": ("group", str), "BindToDevice": ("interface", str),
            "Backlog": ("backlog", int), "Mark": ("mark", int), "NoDelay": ("nodelay", truth),
            "ReusePort": ("reuse_port", truth), "FreeBind": ("free_bind", truth),
            "Broadcast": ("broadcast", truth), "ReceiveBuffer": ("receive_buffer", _bytes),
            "SendBuffer": ("send_buffer", _bytes), "BindIPv6Only": ("ipv6_only", _only_ipv6),
            "DeferAcceptSec": ("defer_accept", _span), "MaxConnectionsPerSource": ("max_connections_per_source", int),
        }  # fmt: skip
        if one.section == "Install" or one.key in WITHOUT_EFFECT.get(one.section, ()):
            return
        if one.section == "Socket" and one.key in LISTENS:
            self._listen(one)
        elif one.section == "Socket" and specifier(one.value):
            self._draft.leave_out(f"{one}: {specifier(one.value)} is replaced by systemd; write its value", one.place)
        elif one.section == "Socket" and one.key in OTHER_LISTENS:
            self._draft.leave_out(f"{one}: sockd serves streams, datagrams and packets", one.place)
        elif one.section == "Socket" and one.key.startswith("KeepAlive"):
            self._keepalive(one)
        elif one.section == "Socket" and one.key in keys:
            name, read = keys[one.key]
            try:
                self._draft.listen[name] = read(one.value)
            except ValueError:
                self._draft.leave_out(f"{one}: is not a value of {one.key}", one.place)
        else:
            text = (
                f"has no equivalent in [[listen]]; see {MANUALS.get(one.section, 'systemd.unit(5)')} for what it does"
            )
            self._draft.lose(f"{one} {text}", one.place)

    def _listen(self, one: UnitSetting) -> None:
        at_port, at_path = LISTENS[one.key]
        if self._accepts and one.key == "ListenDatagram":
            self._draft.leave_out(f"{one}: Accept=yes is for connections; systemd ignores it here", one.place)
        elif "%" in one.value:
            self._draft.leave_out(f"{one}: is a specifier; write a path or a port", one.place)
        elif one.value.startswith("vsock:") and one.key == "ListenStream":
            self._draft.addresses.append(one.value)
        elif one.value.startswith("vsock"):
            self._draft.leave_out(f"{one}: of vsock, sockd serves streams alone", one.place)
        elif one.value.startswith(("/", "@")):
            self._draft.addresses.append(f"{at_path}:{one.value}")
        elif not at_port:
            self._draft.leave_out(f"{one}: is not a path", one.place)
        else:
            host, _, port = one.value.rpartition(":")
            self._draft.addresses.append(f"{at_port}://{host}:{port}")

    def _keepalive(self, one: UnitSetting) -> None:
        table = self._draft.listen.setdefault("keepalive", {})
        names = {"KeepAliveTimeSec": "idle", "KeepAliveIntervalSec": "interval"}
        try:
            if not isinstance(table, dict):
                return
            if one.key in names:
                table[names[one.key]] = _span(one.value)
            elif one.key == "KeepAliveProbes":
                table["count"] = int(one.value)
            else:
                table["on"] = truth(one.value)
        except ValueError:
            self._draft.leave_out(f"{one}: is not a value of {one.key}", one.place)

    def _limit(self) -> None:
        """Set how many are served at once: systemd closes the connections of others."""
        text = self._unit.last("Socket", "MaxConnections")
        if text and not text.isdecimal():
            return self._draft.leave_out(f"MaxConnections={text}: is not a number")
        self._draft.program["max_instances"] = int(text or DEFAULT_CONNECTIONS)
        self._draft.listen["at_limit"] = "refuse"
        if "max_connections_per_source" in self._draft.listen:
            self._draft.listen["source_prefix_ipv6"] = 128
        else:
            self._draft.listen["max_connections_per_source"] = 0
        return None


FILTERS = ("IPAddressAllow", "IPAddressDeny")
MANUALS = {"Socket": "systemd.socket(5)", "Service": "systemd.exec(5) and systemd.service(5)"}


def _filter(draft: Draft, settings: Iterable[UnitSetting]) -> None:
    """Set allow and deny: in systemd, who is allowed is so although denied.

    Those of a service do not hold for sockets that systemd passes to it.
    """
    found: dict[str, list[Network]] = {"IPAddressAllow": [], "IPAddressDeny": []}
    for one in settings:
        for word in one.value.split() if one.section == "Socket" and one.key in FILTERS else ():
            try:
                found[one.key] += (ipaddress.ip_network(text) for text in SYMBOLIC.get(word, (word,)))
            except ValueError:
                draft.leave_out(f"{one}: {word} is not a network", one.place)
    allowed, denied = found["IPAddressAllow"], found["IPAddressDeny"]
    everybody = {ipaddress.ip_network(text) for text in SYMBOLIC["any"]}
    if everybody <= {*denied}:
        draft.listen |= {"allow": [str(one) for one in allowed]} if allowed else {}
        if not allowed:
            draft.leave_out("IPAddressDeny=any: no client would be accepted")
    elif rest := [str(part) for one in denied for part in without(one, allowed)]:
        draft.listen["deny"] = rest


def _bytes(text: str) -> int:
    return size(text) or 0


def _span(text: str) -> str:
    return format_duration(seconds(text) or 0)


def _only_ipv6(text: str) -> bool:
    return text == "ipv6-only" or (text not in ("both", "default") and truth(text))


__all__ = ["translate"]
