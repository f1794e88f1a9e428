# SPDX-License-Identifier: MIT
"""Settings -> TOML that reads back as equal Settings, every default and its reason shown.

Rules: the keys are in the order of sockd.settings; the first table of each kind explains its keys, later ones only
show values; a table within a listener is on one line.  A key that is not set and has a default is written as a
comment, with "#" right before the key.  sockd.config.load reads the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_origin

from sockd.config.convert import allowed, field_types
from sockd.config.substitute import as_written
from sockd.errors import ConfigurationError
from sockd.settings import Duration, LogSettings, Settings, Size, toml_key
from sockd.settings.service import KINDS, ServiceSettings
from sockd.text import quote, quote_key
from sockd.units import format_duration, format_size
from sockd.values import fields, is_dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import DataclassInstance

    from sockd.settings.field import About


def dump(settings: Settings) -> str:
    """Write settings as TOML.

    Args:
        settings: the effective settings.

    Returns:
        The text of a configuration file; sockd.config.load.loads gives equal settings back.

    Raises:
        ConfigurationError: an address or a name is not UTF-8, which TOML cannot hold.
    """
    seen: set[type] = set()
    blocks = ["\n".join(_table(settings.daemon, "[daemon]", seen))]
    blocks += ["\n".join(_table(settings.daemon.log, "[daemon.log]", seen))]
    blocks += ["\n".join(_table(listen, "[[listen]]", seen)) for listen in settings.listen]
    for name, service in settings.service.items():
        blocks.append("\n".join(_table(service, f"[service.{quote_key(name)}]", seen)))
    return "\n\n".join(blocks) + "\n"


def _table(table: DataclassInstance, header: str, seen: set[type]) -> Iterator[str]:
    kind = type(table)
    explain = kind not in seen
    seen.add(kind)
    yield header
    for field in fields(kind):
        key = toml_key(field.name)
        value = getattr(table, field.name)
        default = field.metadata["otherwise"] if _belongs(table, key) else None
        line = _line(key, value, default, field.metadata)
        if line and explain:
            yield from _explain(field_types(kind)[key], field.metadata)
            if is_dataclass(value) and not isinstance(value, type) and not field.metadata["parse"]:
                yield from _explain_parts(type(value))
        if line:
            yield line


def _belongs(table: DataclassInstance, key: str) -> bool:
    """Return whether a key applies to this table: a program has no frames, a handler no user."""
    if not isinstance(table, ServiceSettings):
        return True
    kind = next(iter(table.kinds), "handler")
    return key in KINDS[kind].keys


def _line(key: str, value: object, default: object, about: About) -> str:
    """Return the line of one key; empty for a table with a header, and for a key that is not set and has no
    default.
    """
    if isinstance(value, LogSettings):
        return ""
    if value is not None and value != ():
        return f"{key} = {_value(value, about)}"
    return f"#{key} = {_value(default, about)}" if default is not None else ""


def _value(value: object, about: About) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_value(item, about) for item in value)}]"
    if about.get("parse"):
        return _text(as_written(str(value)))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Size):
        return quote(format_size(value))
    if isinstance(value, Duration):
        return quote(format_duration(value))
    if is_dataclass(value):
        given = ((field, getattr(value, field.name)) for field in fields(value))
        parts = (f"{toml_key(field.name)} = {_value(one, field.metadata)}" for field, one in given if one is not None)
        return f"{{ {', '.join(parts)} }}"
    return _text(as_written(value)) if isinstance(value, str) else str(value)


def _text(value: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ConfigurationError(f"{quote(value)} is not UTF-8, which a TOML file cannot hold")
    return quote(value)


def _explain_parts(kind: type[DataclassInstance]) -> Iterator[str]:
    """Explain the keys of a table on one line."""
    for field in fields(kind):
        key = toml_key(field.name)
        reasons = (field.metadata["help"], *_limits(field_types(kind)[key], field.metadata))
        yield f"#   {key}: {'; '.join(reasons)}"


def _explain(hint: object, about: About) -> Iterator[str]:
    yield f"# {about['help']}"
    reason = "; ".join(_limits(hint, about))
    if reason:
        yield f"# {reason}"


def _limits(hint: object, about: About) -> list[str]:
    limits = allowed(hint, about) if hint in (int, Size, Duration) or get_origin(hint) is Literal else ""
    return [text for text in (limits, about["source"]) if text]
