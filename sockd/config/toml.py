# SPDX-License-Identifier: MIT
"""TOML as text: parsed together with the line of every key, and values quoted back.

Rules: pure, opens nothing, knows no setting.  A separate scan finds the lines, because tomllib does not return them; a
key that the scan misses (inside an inline table) gets the line of the enclosing one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property

from sockd.errors import ConfigurationError
from sockd.lazy import pattern, tomllib
from sockd.text import KeyPath, quote

_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_HEADER = pattern(rf"[ \t]*(?P<open>\[\[?)[ \t]*(?P<keys>{_DOTTED})[ \t]*\]")
_ENTRY = pattern(rf"[ \t]*(?P<keys>{_DOTTED})[ \t]*=")
MAX_KEY_PARTS = 32
"""Limit for a dotted key; tomllib needs time proportional to the square of its parts, and no setting is deeper than
5.
"""
_DEEP = pattern(rf"(?:^|[\[{{,])[ \t]*{_KEY}(?:[ \t]*\.[ \t]*{_KEY}){{{MAX_KEY_PARTS}}}", re.MULTILINE)
_BARE = pattern(r"=[ \t]*(?P<value>[A-Za-z0-9./:][\w./: +-]*?)[ \t]*(?:#.*)?$")
TYPOGRAPHIC = tuple("\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb")  # quotes, as web pages and word processors have them
_BARE_WORDS = pattern(r"true|false|[-+0-9._eE]+|inf|nan")
_PLACE = pattern(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)

# How tomllib begins a complaint, and what a person does about it.
_REMEDIES = {
    "Cannot overwrite a value": "the key is already set above",
    "Cannot declare": "the table is already declared above; write a list of tables with two brackets, [[listen]]",
    "Illegal character '\\n'": "a closing quote is missing",
    "Unclosed array": "a closing ] is missing",
    "Unterminated string": 'a closing """ is missing',
}


class Lines:
    """Lines of the keys of a document, counted from 1."""

    def __init__(self, text: str) -> None:
        self._whole = text

    @cached_property
    def _text(self) -> list[str]:
        return self._whole.split("\n")

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:  # scanned when something is wrong
        return _scan(self._text)

    @cached_property
    def _starts(self) -> list[int]:
        return sorted(self._lines.values())

    def find(self, path: KeyPath, value: object = None) -> int | None:
        """Find the line of a key.

        Args:
            path: keys and list positions, such as ("listen", 0, "address").
            value: the value; finds the element of a list that spans several lines.

        Returns:
            Its line, or that of the nearest enclosing table or list; None when there is none.
        """
        for length in range(len(path), 0, -1):
            line = self._lines.get(path[:length])
            if line is not None:
                return line if length == len(path) else self._within(line, value)
        return None

    def _within(self, start: int, value: object) -> int:
        if isinstance(value, str):
            place = bisect_right(self._starts, start)
            end = self._starts[place] if place < len(self._starts) else len(self._text) + 1
            forms = (quote(value), f"'{value}'")
            for line in range(start, end):
                if any(form in self._text[line - 1] for form in forms):
                    return line
        return start


def parse(data: str | bytes, *, name: str) -> tuple[dict[str, object], Lines]:
    """Parse a TOML document.

    Args:
        data: the text; bytes are UTF-8, and a byte order mark is skipped.
        name: the document's name in messages, usually its path.

    Returns:
        The document, and the lines of its keys.

    Raises:
        ConfigurationError: not UTF-8 or not TOML; names document, line, column and what to do.
    """
    text = _decode(data, name) if isinstance(data, bytes) else data
    if deep := _DEEP.search(text):
        line = text.count("\n", 0, deep.start() + 1) + 1
        raise ConfigurationError(f"{name}:{line}: a key has more than {MAX_KEY_PARTS} parts; no setting has that many")
    try:
        return tomllib.loads(text), Lines(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(_syntax_error(text, str(error), name)) from None
    except RecursionError:
        raise ConfigurationError(f"{name}: lists or tables are nested too deeply") from None
    except ValueError:  # int() takes no more than sys.get_int_max_str_digits() digits
        raise ConfigurationError(f"{name}: a number has too many digits") from None


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{name}:{line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None


def _syntax_error(text: str, message: str, name: str) -> str:
    place = _PLACE.fullmatch(message)
    if place is None:
        return f"{name}: {message}"
    what = re.sub(r"\(('[^)]+?),?\)", lambda keys: keys[1].replace("', '", ".").strip("'"), place["what"])
    lines = text.replace("\r\n", "\n").split("\n")
    number = int(place["line"] or len(lines))
    column = int(place["column"] or len(lines[-1]) + 1)
    remedy = next((remedy for start, remedy in _REMEDIES.items() if what.startswith(start)), "")
    remedy = remedy or _remedy(lines[number - 1], column)
    return f"{name}:{number}:{column}: {what[:1].lower()}{what[1:]}" + (f"; {remedy}" if remedy else "")


def _remedy(line: str, column: int) -> str:
    bare = _BARE.search(line)
    if line[column - 1 : column] in TYPOGRAPHIC:
        return 'write straight quotes, "'
    if column == 1 and (_ENTRY.match(line) or _HEADER.match(line)):
        return "a closing ] is missing above"
    if bare and not _BARE_WORDS.fullmatch(bare["value"]):
        return f"write text, sizes and durations in quotes: {quote(bare['value'])}"
    return ""


def _scan(lines: list[str]) -> dict[KeyPath, int]:
    found: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    inside = ""  # the quotes of a string that fills several lines
    for number, line in enumerate(lines, 1):
        if not inside and (header := _HEADER.match(line)):
            table = _enter(_split(header["keys"]), counts, repeated=header["open"] == "[[")
            _note(found, table, 0, number)
        elif not inside and (entry := _ENTRY.match(line)):
            _note(found, table + _split(entry["keys"]), len(table), number)
        for quotes in ('"""', "'''"):
            if inside in ("", quotes) and line.count(quotes) % 2:
                inside = "" if inside else quotes
    return found


def _enter(keys: KeyPath, counts: dict[KeyPath, int], *, repeated: bool) -> KeyPath:
    """Return the path of a header: [[listen]] counts up, [listen.tls] belongs to the latest one."""
    path: KeyPath = ()
    for position, key in enumerate(keys, 1):
        path = (*path, key)
        if repeated and position == len(keys):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _note(found: dict[KeyPath, int], path: KeyPath, known: int, line: int) -> None:
    for length in range(known + 1, len(path) + 1):
        found.setdefault(path[:length], line)


def _split(dotted: str) -> KeyPath:
    return tuple(key.strip("\"'") for key in re.findall(_KEY, dotted))


__all__ = ["Lines", "parse"]
