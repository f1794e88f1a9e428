# SPDX-License-Identifier: MIT
"""Tables of TOML -> the dataclasses of sockd.settings, value by value.

Rules: a wrong value is a Problem and its default replaces it, so that one reading finds all errors.  msgspec converts
each value strictly (no number from text, unless that is of the environment; no integer from true); the fields
themselves define what is allowed.  Rules between several keys belong to sockd.config.load.
"""

from __future__ import annotations

from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from sockd.config.substitute import FromEnvironment
from sockd.errors import AddressError
from sockd.lazy import msgspec
from sockd.settings import (
    DaemonSettings,
    Duration,
    LogLevel,
    LogSettings,
    RelaySettings,
    Settings,
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
from sockd.text import TYPE_NAMES, KeyPath, quote, quote_key, show, suggest
from sockd.units import format_duration, format_size, parse_duration, parse_size
from sockd.values import dataclass, fields, is_dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

    from sockd.settings.address import Services
    from sockd.settings.field import About

    Table = TypeVar("Table", bound=DataclassInstance)


_HEADERS: dict[type, str] = {
    DaemonSettings: "[daemon]",
    LogSettings: "daemon.log",
    ListenSettings: "[[listen]]",
    KeepaliveSettings: "keepalive",
    HostsAccessSettings: "hosts_access",
    RateSettings: "rate",
    TotalRateSettings: "total_rate",
    ServiceSettings: "[service.NAME]",
    ProgramLimits: "limits",
    FramingSettings: "framing",
    ProxyProtocolSettings: "proxy_protocol",
    TlsSettings: "tls",
    RelaySettings: "relay",
    CheckSettings: "check",
    SocksSettings: "socks",
    Settings: "the file",
}
_EXAMPLES = {
    "listen": "[[listen]]",
    "service": "[service.NAME]",
    "daemon": "[daemon]",
    "log": 'log = { level = "info" }',
    "keepalive": 'keepalive = { idle = "2m", interval = "30s", count = 4 }',
    "framing": 'framing = { type = "prefix", width = 4 }',
    "limits": 'limits = { cpu = "10s", memory = "64 MiB", wall = "1m" }',
    "proxy_protocol": 'proxy_protocol = { from = ["10.0.0.1"] }',
    "tls": 'tls = { certificate = "/etc/ssl/my.pem", key = "/etc/ssl/my.key" }',
    "relay": 'relay = { to = ["tcp://10.0.0.5:25"] }',
    "check": 'check = { interval = "10s" }',
    "socks": 'socks = { users = "/etc/sockd/users" }',
    "total_rate": 'total_rate = { connections = 50, per = "1s", pause = "10s" }',
    "hosts_access": 'hosts_access = { daemon = "in.fingerd" }',
    "rate": 'rate = { connections = 10, per = "1s", burst = 20 }',
}
MAX_PROBLEMS = 100
"""Errors reported at once."""
_WRONG = object()  # stands for a value that was reported


@dataclass(frozen=True)
class Problem:
    """One error: its key, the problem and the remedy; `value` helps to find its line.

    `missing` names the keys of which one is required; such a problem is dropped when one of them is present but
    misspelt or wrong, which is a problem of its own.
    """

    path: KeyPath
    text: str
    value: object = None
    missing: tuple[str, ...] = ()


class TooManyProblems(Exception):
    """More errors than anyone reads; each costs a search for what was meant."""


class Problems(list[Problem]):
    """The mistakes that are named.

    Args:
        services: the ports that have names, for those who read an address; None: as services(5) says.
    """

    def __init__(self, services: Services | None = None) -> None:
        super().__init__()
        self.services = services

    def append(self, problem: Problem) -> None:
        """Add one; raises TooManyProblems."""
        if len(self) >= MAX_PROBLEMS:
            raise TooManyProblems
        super().append(problem)


def read(document: Mapping[str, object], services: Services | None = None) -> tuple[Settings, Problems]:
    """Convert a whole document.

    Args:
        document: the result of the TOML parser.
        services: as of Problems.

    Returns:
        The settings, with the default for each wrong value, and the problems; if there are too many, the first ones,
        and no settings.
    """
    problems = Problems(services)
    try:
        return _read_table(Settings, document, (), problems), problems
    except TooManyProblems:
        return Settings(), problems


def choice(kind: type[DataclassInstance], key: str, value: str) -> Problem | None:
    """Check one value that did not come from a file, such as an option of the command line.

    Args:
        kind: a class of sockd.settings.
        key: one of its fields.
        value: the value to check.

    Returns:
        The problem, or None.
    """
    problems = Problems()
    _read_table(kind, {key: value}, (), problems)
    return problems[0] if problems else None


@cache
def field_types(kind: type[DataclassInstance]) -> dict[str, object]:
    """Resolve the types of the fields without None: what a file can hold.

    Args:
        kind: a class of sockd.settings.

    Returns:
        The type by key.
    """
    hints = get_type_hints(kind)
    return {toml_key(field.name): _without_none(hints[field.name]) for field in fields(kind) if field.metadata}


def allowed(hint: object, about: About) -> str:
    """Return what a value may be, as text.

    Args:
        hint: the field's type, from field_types.
        about: the field's metadata.

    Returns:
        Such as "1 to 65535 connections", '"text" or "json"', "1ms to 7d".
    """
    if about.get("parse"):
        return "a list of text values" if get_origin(hint) is tuple else "text"
    if get_origin(hint) is Union:
        return f"{allowed(get_args(hint)[0], about)}, or a table"
    if get_origin(hint) is Literal:
        *others, last = (quote(name) for name in get_args(hint))
        return f"{', '.join(others)} or {last}" if others else last
    if hint is bool:
        return "true or false"
    if hint in (int, float, Size, Duration):
        unit = f" {about['unit']}" if hint is int and about.get("unit") else ""
        low, high = (_number(hint, about.get(end)) for end in ("low", "high"))
        return (f"{low} to {high}" if high else f"{low} or more" if low else "a number") + unit
    return "a list of text values" if get_origin(hint) is tuple else "text"


def _read_table(kind: type[Table], raw: Mapping[str, object], path: KeyPath, problems: Problems) -> Table:
    values: dict[str, object] = {}
    known = {toml_key(field.name): field for field in fields(kind) if field.metadata}
    for key, value in raw.items():
        here = (*path, key)
        if key not in known:
            problems.append(Problem(here, _unknown_key(kind, key, list(known))))
            continue
        result = _read_value(field_types(kind)[key], known[key].metadata, value, here, problems)
        if result is not _WRONG:
            values[known[key].name] = result
    return kind(**values)


def _read_value(hint: object, about: About, raw: object, path: KeyPath, problems: Problems) -> object:
    if about.get("parse"):
        return _read_text(hint, about, raw, path, problems)
    if get_origin(hint) is Union:  # a word, or a table that says more
        word, table = get_args(hint)
        return _read_value(table if isinstance(raw, dict) else word, about, raw, path, problems)
    many = get_origin(hint)
    element = get_args(hint)[0] if many is tuple else get_args(hint)[1] if many is dict else hint
    if not (isinstance(element, type) and is_dataclass(element)):
        return _read_scalar(hint, about, raw, path, problems)
    if isinstance(raw, list) and many is tuple:
        return tuple(_read_element(element, item, (*path, index), problems) for index, item in enumerate(raw))
    if isinstance(raw, dict) and many is dict:
        return {name: _read_element(element, item, (*path, name), problems) for name, item in raw.items()}
    if isinstance(raw, dict) and many is None:
        return _read_table(element, raw, path, problems)
    inside_service = len(path) == 2 and path[0] == "service"
    wanted = f"[service.{quote_key(str(path[1]))}]" if inside_service else _EXAMPLES.get(str(path[-1]), "a table")
    if inside_service and str(path[1]) in field_types(element):
        wanted = "[service.NAME] in place of [service], with the name that service of [[listen]] has"
    if path[-1] == "log" and isinstance(raw, str) and raw not in get_args(LogLevel):
        wanted = f"log = {{ to = {quote(raw)} }}"
    problems.append(Problem(path, f"{_describe(raw)} is not allowed here; write {wanted}", raw))
    return _WRONG


def _read_text(hint: object, about: About, raw: object, path: KeyPath, problems: Problems) -> object:
    """Read what a text says, or each text of a list."""
    if get_origin(hint) is tuple and isinstance(raw, list):
        found = [_read_text(str, about, item, (*path, index), problems) for index, item in enumerate(raw)]
        return tuple(item for item in found if item is not _WRONG)
    if isinstance(raw, list) and path[-1] == "address":
        problems.append(Problem(path, "a list is not valid here; write addresses = [...]", raw))
        return _WRONG
    if get_origin(hint) is tuple or not isinstance(raw, str):
        return _read_scalar(tuple[str, ...] if get_origin(hint) is tuple else str, {}, raw, path, problems)
    try:
        return about["parse"](str(raw), problems.services)
    except AddressError as error:
        problems.append(Problem(path, str(error), raw))
    except ValueError as error:
        problems.append(Problem(path, f"{show(raw)} {error}", raw))
    return _WRONG


def _read_element(kind: type[DataclassInstance], raw: object, path: KeyPath, problems: Problems) -> DataclassInstance:
    """Convert one table of several; a wrong one still counts, as a listener and as the name of a service."""
    value = _read_value(kind, {}, raw, path, problems)
    return kind() if value is _WRONG else cast("DataclassInstance", value)


def _read_scalar(hint: object, about: About, raw: object, path: KeyPath, problems: Problems) -> object:
    if get_origin(hint) is tuple and isinstance(raw, list):
        found = [_read_scalar(get_args(hint)[0], {}, item, (*path, i), problems) for i, item in enumerate(raw)]
        return tuple(item for item in found if item is not _WRONG)
    outside = isinstance(raw, FromEnvironment)  # which has only texts: here "2" is 2
    try:
        value = msgspec.convert(str(raw) if outside else raw, hint, strict=not outside, dec_hook=_convert_unit)
    except msgspec.ValidationError as error:
        reason = _reason(hint, raw, error)
    else:
        reason = _out_of_range(value, about)
        if not reason:
            return value
    what, meant, near = reason.rpartition("; did you mean")
    text = f"{show(raw)} {what or near}; allowed: {allowed(hint, about)}{meant}{near if meant else ''}"
    if isinstance(raw, str) and get_origin(hint) is tuple:
        words = raw.split() if path[-1] == "exec" else [raw]
        text = f"{show(raw)} {what or near}; write {path[-1]} = [{', '.join(map(quote, words))}]"
    elif hint is str and reason.endswith((TYPE_NAMES[int], TYPE_NAMES[float])):
        text += ", in quotes"
    problems.append(Problem(path, text, raw))
    return _WRONG


def _convert_unit(kind: type, raw: object) -> object:
    if kind is Size:
        return parse_size(cast("str | int", raw))
    if kind is Duration:
        return parse_duration(cast("str | float", raw))
    raise NotImplementedError(kind)


def _reason(hint: object, raw: object, error: msgspec.ValidationError) -> str:
    if isinstance(error.__cause__, ValueError):
        return str(error.__cause__)
    if get_origin(hint) is Literal and isinstance(raw, str):
        return f"is not valid{suggest(raw, get_args(hint))}"
    if isinstance(raw, (list, dict)):
        return "is not valid here"
    return f"is {_kind(raw)}"


def _out_of_range(value: object, about: About) -> str:
    if not isinstance(value, (int, float)):
        return ""
    low, high = about.get("low"), about.get("high")
    if value != value:  # IEEE 754: neither below nor above anything
        return "is not a number"
    if low is not None and value < low:
        return "is too small"
    return "is too large" if high is not None and value > high else ""


def _unknown_key(kind: type, key: str, known: list[str]) -> str:
    homes = [header for other, header in _HEADERS.items() if other is not kind and key in field_types(other)]
    if homes:
        where = "the top of the file, before all tables" if homes[0] == _HEADERS[Settings] else homes[0]
        return f"unknown key; {quote_key(key)} belongs to {where}"
    near = suggest(key, known)
    if near:
        return f"unknown key{near}"
    return f"unknown key; the keys of {_HEADERS[kind]} are {', '.join(known)}"


def _describe(raw: object) -> str:
    shown = show(raw)
    return shown if shown.startswith("a ") else f"{shown}, {_kind(raw)},"


def _kind(raw: object) -> str:
    return next((text for kind, text in TYPE_NAMES.items() if isinstance(raw, kind)), "a date or time")


def _number(hint: object, number: float | None) -> str:
    if number is None:
        return ""
    if hint in (int, float):
        return f"{number:.10g}" if hint is float else str(int(number))
    return format_size(int(number)) if hint is Size else format_duration(number)


def _without_none(hint: object) -> object:
    if NoneType not in get_args(hint):
        return hint
    kinds = tuple(kind for kind in get_args(hint) if kind is not NoneType)
    return kinds[0] if len(kinds) == 1 else Union[kinds]  # noqa: UP007 - of as many as there are
