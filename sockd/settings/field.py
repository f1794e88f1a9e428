# SPDX-License-Identifier: MIT
"""Declaration of a setting: its unit, its default, the source of that, and its range.

The settings themselves are in sockd.settings and beside it, table by table.
"""

# ruff: noqa: ANN401 - setting() is a field specifier, typed and used like dataclasses.field

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sockd.values import field, fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    About = Mapping[str, Any]

KIB = 1024
MIB = 1024 * KIB


def setting(
    default: object,
    *,
    help: str,
    source: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    otherwise: object = None,
    rules: object = None,
    parse: Callable[[str, Any], object] | None = None,
) -> Any:
    """Declare one setting; a callable default makes a fresh value each time.

    Args:
        otherwise: what applies where the default is None, and nothing else says otherwise.
        parse: reads its text, or each text of its list; gets the ports that have names, as `services` of
            Address.parse.  Raises ValueError with what is to stand behind the text, AddressError with all of it.
            What str() makes of the value is a text that reads back as it is.
        rules: of a key that says of which kind its table is (sockd.settings.service).
    """
    about: dict[str, object] = {"help": help, "source": source, "unit": unit, "low": low, "high": high}
    about |= {"otherwise": otherwise, "rules": rules, "parse": parse}
    if callable(default):
        return field(default_factory=default, metadata=about)
    return field(default=default, metadata=about)


def textual(parse: Callable[[str], object]) -> Callable[[str, object], object]:
    """Return a `parse` of setting() that knows of no services."""
    return lambda text, _services: parse(text)


def setting_default(table: type, name: str) -> Any:
    """Return what applies where nothing is set: the one place of a default that a handler may replace."""
    return next(one.metadata["otherwise"] for one in fields(table) if one.name == name)


def toml_key(name: str) -> str:
    """Return the key of a field: its name, without the underscore of one that is a word of Python."""
    return name.removesuffix("_")
