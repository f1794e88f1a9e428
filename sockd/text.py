# SPDX-License-Identifier: MIT
"""Values and names as messages show them: quoted, shortened, with the nearest known name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sockd.lazy import datetime, difflib, json

if TYPE_CHECKING:
    from collections.abc import Iterable


KeyPath = tuple[str | int, ...]
"""Keys and positions in lists, such as ("listen", 0, "address")."""
LONGEST_SHOWN = 60  # characters of a wrong value in a message, so that it stays one line of a terminal


def show(value: object) -> str:
    """Write a value for a message: as TOML does, on one line, long ones cut.

    Args:
        value: any value of a TOML document.

    Returns:
        The text of a scalar; "a list" and "a table" for these.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, (list, dict)):
        return TYPE_NAMES[type(value)]
    if isinstance(value, str):
        return quote(value if len(value) <= LONGEST_SHOWN else value[:LONGEST_SHOWN] + "...")
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else str(value)


def suggest(word: str, known: Iterable[str]) -> str:
    """Name the word that was probably meant.

    Args:
        word: what was written.
        known: what could have been written.

    Returns:
        The end of a message, empty when nothing is near.
    """
    near = nearest(word, known)
    return f"; did you mean {quote(near)}?" if near else ""


def quote(text: str) -> str:
    """Write text as a TOML basic string of printable characters.

    Args:
        text: any text; lone surrogates come out as escapes that TOML does not read back.

    Returns:
        The string in double quotes, on one line, without control characters.
    """
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(mark if mark.isprintable() else _escape(ord(mark)) for mark in quoted)


def keep_references(text: str) -> str:
    """Return a text in which a configuration reads each `${` as what it is, and not as a value from outside."""
    return text.replace("${", "$${")


def dotted(path: KeyPath) -> str:
    """Write the path of a key for a message: `listen[0].address`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{quote_key(key)}" for key in path)
    return text.removeprefix(".")


def quote_key(key: str) -> str:
    """Write one key: bare where TOML allows it, else quoted.

    Args:
        key: any text.

    Returns:
        The key as it stands in a path such as service."a b".handler.
    """
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quote(key)


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Find the word that was probably meant.

    Args:
        word: what was written.
        known: what could have been written.

    Returns:
        The nearest known word, letter case not counted; None when none is near.
    """
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lowered, n=1)
    return lowered[close[0]] if close else None


TYPE_NAMES: dict[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a number with a fraction",
    str: "text",
    list: "a list",
    dict: "a table",
}


__all__ = [
    "LONGEST_SHOWN",
    "TYPE_NAMES",
    "KeyPath",
    "dotted",
    "keep_references",
    "nearest",
    "quote",
    "quote_key",
    "show",
    "suggest",
]
