# SPDX-License-Identifier: MIT
"""Text from anybody in a line of the log, or on a terminal: escaped as Python does it, without a control sequence.

Most of it is plain words, which are found so by one match and left as they are.  The rest costs little for each
character, because it may be what a client has sent.
"""

from __future__ import annotations

import sys
from functools import lru_cache

from sockd.lazy import pattern
from sockd.log.line import bounded

_PLAIN = pattern(r"[!#-<>-\[\]-~]+")  # printable ASCII without blank, quote, equals sign, backslash
_NO_KEY = pattern(r"[^A-Za-z0-9_.-]")


@lru_cache(maxsize=256)  # as the code has them: few, and the same again and again
def field_name(key: str) -> str:
    """Return the name of a field, with what would end it replaced."""
    return _NO_KEY.sub("_", key)


def field_text(value: object) -> str:
    """Format the value of a field: bare when it is unambiguous, else in quotes."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        text, quotable = bytes(value).decode("latin-1"), _quotable_bytes
    else:
        text, quotable = str(value), _quotable
    text = bounded(text)
    return text if _PLAIN.fullmatch(text) else f'"{text.translate(quotable)}"'


def printable(text: str) -> str:
    """Escape unprintable characters as Python does: a terminal must not obey what a peer has sent."""
    return text if text.isprintable() else text.translate(_printable)


class _Escapes(dict[int, str]):
    """What stands for each character, by its number; those of Latin-1 are kept.

    Args:
        quotes: whether quotes and backslashes are escaped, too.
        max_plain: the last character that is left as it is.
    """

    def __init__(self, *, quotes: bool = False, max_plain: str = chr(sys.maxunicode)) -> None:
        super().__init__()
        self._quotes, self._max_plain = quotes, max_plain

    def __missing__(self, number: int) -> str:
        mark = chr(number)
        if self._quotes and mark in '"\\':
            text = "\\" + mark
        else:
            text = mark if mark.isprintable() and mark <= self._max_plain else _code(mark)
        if mark <= "\xff":
            self[number] = text
        return text


_printable = _Escapes()
_quotable = _Escapes(quotes=True)
_quotable_bytes = _Escapes(quotes=True, max_plain="~")


def _code(mark: str) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(mark) or (
        f"\\x{ord(mark):02x}" if mark <= "\xff" else mark.encode("ascii", "backslashreplace").decode()
    )
