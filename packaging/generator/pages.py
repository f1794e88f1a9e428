# SPDX-License-Identifier: MIT
"""The parts of the manual pages that the program knows: options and keys, as mdoc(7)."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, get_args, get_origin

from generator import commands, outside
from generator.mdoc import escape, from_markdown, sentences, word
from sockd.config.convert import allowed, field_types
from sockd.settings import (
    DaemonSettings,
    Duration,
    LogSettings,
    RelaySettings,
    Size,
    SocksSettings,
    toml_key,
)
from sockd.settings.framing import FramingSettings
from sockd.settings.listen import (
    HostsAccessSettings,
    KeepaliveSettings,
    ListenSettings,
    ProxyProtocolSettings,
    RateSettings,
    TotalRateSettings,
)
from sockd.settings.program import ProgramLimits
from sockd.settings.relay import CheckSettings
from sockd.settings.service import ServiceSettings
from sockd.settings.tls import TlsSettings
from sockd.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from generator.commands import Argument, Command

TABLES = {
    "daemon": DaemonSettings,
    "log": LogSettings,
    "listen": ListenSettings,
    "keepalive": KeepaliveSettings,
    "hosts_access": HostsAccessSettings,
    "rate": RateSettings,
    "total_rate": TotalRateSettings,
    "proxy_protocol": ProxyProtocolSettings,
    "tls": TlsSettings,
    "service": ServiceSettings,
    "limits": ProgramLimits,
    "framing": FramingSettings,
    "relay": RelaySettings,
    "check": CheckSettings,
    "socks": SocksSettings,
}


def all_pages(directory: Path) -> dict[Path, str]:
    """Return the whole text of each page, its made parts as they should be."""
    tables = {f"keys {name}": list(_keys(table)) for name, table in TABLES.items()}
    sockctl = commands.sockctl()
    verbs = {f"verb {verb.name}": list(_verb(verb)) for verb in sockctl.verbs}
    parts = {
        "sockd.8": {"options": list(_options(commands.sockd().arguments))},
        "sockctl.1": {"synopsis": list(_synopsis(sockctl)), "options": list(_options(sockctl.arguments)), **verbs},
        "sockd.toml.5": {"files and values": list(from_markdown(outside.TEXT)), **tables},
    }
    return {directory / name: _filled(directory / name, given) for name, given in parts.items()}


def _filled(path: Path, parts: dict[str, list[str]]) -> str:
    text = path.read_text()
    for name, lines in parts.items():
        pattern = rf'(\.\\" made: {re.escape(name)}\n).*?(\.\\" end\n)'
        body = "".join(f"{line}\n" for line in lines)
        text, count = re.subn(pattern, lambda match, body=body: match[1] + body + match[2], text, flags=re.S)
        if count != 1:
            raise SystemExit(f"{path.name}: wants the marks of {name!r} once, has them {count} times")
    return text


# ---- commands


BEHIND = {"bind": (".Fl \\-", ".Ar PROGRAM", ".Op Ar ARG ...")}
"""What stands behind the arguments of a verb and is not its parser's."""


def _synopsis(program: Command) -> Iterator[str]:
    for verb in program.verbs:
        yield from (".Nm", f".Cm {word(verb.name)}")
        for one in verb.arguments:
            value = f" Ar {word(one.metavar)}" if one.metavar else ""
            if one.flags and "--help" not in one.flags:
                yield f".Op Fl {word(one.flags[-1][1:])}{value}"
        for one in verb.arguments:
            if not one.flags:
                words = f"Ar {word(one.metavar)}" + (" ..." if one.count else "")
                yield f".Op {words}" if one.count == "*" else f".{words}"
        yield from BEHIND.get(verb.name, ())


def _verb(verb: Command) -> Iterator[str]:
    yield from sentences(verb.description)
    yield from _options(argument for argument in verb.arguments if "--help" not in argument.flags)


def _options(arguments: Iterator[Argument] | tuple[Argument, ...]) -> Iterator[str]:
    yield ".Bl -tag -width indent"
    for one in arguments:
        value = f" Ar {word(one.metavar)}" if one.metavar else ""
        flags = (f"Fl {word(flag[1:])}{value}" for flag in one.flags)
        yield ".It " + (" , ".join(flags) if one.flags else value.strip())
        yield from sentences(one.help)
        if one.values and not all(value in one.help for value in one.values):
            yield from sentences(f"One of {', '.join(one.values)}.")
    yield ".El"


# ---- keys


def _keys(table: type) -> Iterator[str]:
    yield ".Bl -tag -width indent"
    for field in fields(table):
        key = toml_key(field.name)
        hint, about = field_types(table)[key], field.metadata
        yield f".It Ic {key}"
        yield from sentences(about["help"])
        yield from sentences(_value(hint, about))
        default = _default(field)
        if default:
            yield f"Default: {escape(default)}."
        if about["source"]:
            yield from sentences(f"Source: {about['source']}")
    yield ".El"


def _value(hint: object, about: dict) -> str:
    if get_origin(hint) is tuple and is_dataclass(get_args(hint)[0]) and not about["parse"]:
        return ""
    if is_dataclass(hint) and not about["parse"]:
        return "A table, see below."
    kind = {Size: "a size", Duration: "a time", int: "a number", float: "a number"}.get(hint, "")
    text = allowed(hint, about)
    return f"{kind}, {text}" if kind and text != "a number" else text


def _default(field: object) -> str:
    value = field.default
    if value is MISSING:
        return ""
    if value is None:
        value = field.metadata["otherwise"]
    if value is None or value in ((), ""):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Size):
        return f'"{format_size(value)}"'
    if isinstance(value, Duration):
        return f'"{format_duration(value)}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{one}"' for one in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)
