# SPDX-License-Identifier: MIT
"""Text from anybody in a line of the log, or on a terminal: escaped as Python does it, without a control sequence.

Most of it is plain words, which are found so by one match and left as they are.
"""

from __future__ import annotations

from functools import lru_cache

from sockd.lazy import pattern

_PLAIN = pattern(r"[!#-<>-\[\]-~]+")  # printable ASCII without blank, quote, equals sign, backslash
_NO_KEY = pattern(r"[^A-Za-z0-9_.-]")


@lru_cache(maxsize=256)  # as the code has them: few, and the same again and again
def field_name(key: str) -> str:
    """Return the name of a field, with what would end it replaced."""
    return _NO_KEY.sub("_", key)


def field_text(value: object) -> str:
    """Format the value of a field: bare when it is unambiguous, else in quotes."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        text, quotable = bytes(value).decode("latin-1"), _quotable_byte
    else:
        text, quotable = str(value), _quotable
    return text if _PLAIN.fullmatch(text) else f'"{"".join(map(quotable, text))}"'


def _quotable_byte(mark: str) -> str:
    return _code(mark) if mark > "~" else _quotable(mark)


def _quotable(mark: str) -> str:
    return "\\" + mark if mark in '"\\' else printable(mark)


def printable(text: str) -> str:
    """Escape unprintable characters as Python does: a terminal must not obey what a peer has sent."""
    return text if text.isprintable() else "".join(mark if mark.isprintable() else _code(mark) for mark in text)


def _code(mark: str) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(mark) or (
        f"\\x{ord(mark):02x}" if mark <= "\xff" else mark.encode("ascii", "backslashreplace").decode()
    )
