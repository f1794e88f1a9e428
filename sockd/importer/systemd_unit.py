# SPDX-License-Identifier: MIT
"""Units of systemd as text -> their settings, without interpreting these.

A unit is its file and then its drop-ins; a setting that is repeated adds to those before or replaces them, which only
its reader knows, and an empty one drops them.  Source: systemd.syntax(7), systemd.unit(5).
"""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

from sockd.importer.model import Place, numbered_lines
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SOCKET = ".socket"
TRUE, FALSE = ("1", "yes", "y", "true", "t", "on"), ("0", "no", "n", "false", "f", "off")
"""Whatever their case."""
_SPECIFIER = re.compile(r"%(.?)")
_ESCAPE = re.compile(r"\\(.?)")
"""systemd.syntax(7): of a blank, of a byte in numbers, and others."""
_INFINITE = "infinity"
_SPANS = {
    "": 1, "s": 1, "sec": 1, "second": 1, "seconds": 1, "ms": 0.001, "msec": 0.001, "us": 1e-6, "usec": 1e-6,
    "m": 60, "min": 60, "minute": 60, "minutes": 60, "h": 3600, "hr": 3600, "hour": 3600, "hours": 3600,
    "d": 86_400, "day": 86_400, "days": 86_400, "w": 604_800, "week": 604_800, "weeks": 604_800,
}  # fmt: skip
_SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)")


@dataclass(frozen=True)
class UnitSetting:
    """One line: the section it stands in, its key and its value."""

    place: Place
    section: str
    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


class Unit:
    """A unit.

    Args:
        file: its name.
        texts: name and text of the file, and of its drop-ins in their order.

    Attributes:
        file: as given.
        settings: in the order in which systemd reads them, without those that an empty one has dropped.
        unread: lines that are none.
    """

    def __init__(self, file: str, texts: Sequence[tuple[str, str]]) -> None:
        self.file = file
        self.settings: list[UnitSetting] = []
        self.unread: list[tuple[Place, str]] = []
        for name, text in texts:
            self._read(name, text)

    @property
    def name(self) -> str:
        """The name of the unit, without its directory and its type."""
        return os.path.basename(self.file).rpartition(".")[0]

    def _read(self, file: str, text: str) -> None:
        section = ""
        for place, line in _lines(file, text):
            if line.startswith("[") and line.endswith("]"):
                section = line[1:-1]
                continue
            key, equals, value = (part.strip() for part in line.partition("="))
            if not equals or not section:
                self.unread.append((place, line))
            elif value:
                self.settings.append(UnitSetting(place, section, key, value))
            else:
                self._reset(section, key)

    def _reset(self, section: str, key: str) -> None:
        """Drop what a setting was until now; an empty one of the sockets drops those of every kind."""
        is_listen = section == "Socket" and key.startswith("Listen")
        self.settings = [
            one for one in self.settings
            if one.section != section or not (one.key.startswith("Listen") if is_listen else one.key == key)
        ]  # fmt: skip

    def last(self, section: str, key: str) -> str:
        """Return the value of a setting that the last line decides; empty if there is none."""
        return next((one.value for one in reversed(self.settings) if (one.section, one.key) == (section, key)), "")

    def is_true(self, section: str, key: str) -> bool:
        """Tell whether a setting is on; without it, it is off."""
        return self.last(section, key).lower() in TRUE

    def service_name(self) -> str:
        """Return the name of the service of a socket unit; systemd.socket(5)."""
        template = "@" if self.is_true("Socket", "Accept") else ""
        return self.last("Socket", "Service") or f"{self.name}{template}.service"


@dataclass(frozen=True)
class UnitPair:
    """A socket unit, and its service; None: it was not found."""

    socket: Unit
    service: Unit | None


def _lines(file: str, text: str) -> Iterator[tuple[Place, str]]:
    """Yield lines that say something, with those that a backslash continues; comments may stand between these."""
    joined, first = "", Place(file, 0)
    for place, line in numbered_lines(text, file):
        if line.lstrip()[:1] in ("#", ";") or (not joined and not line.strip()):
            continue
        first = first if joined else place
        joined += f"{line[:-1]} " if line.endswith("\\") else line
        if not line.endswith("\\"):
            yield first, joined.strip()
            joined = ""
    if joined.strip():
        yield first, joined.strip()


# ---- values


def specifier(text: str) -> str:
    """Return the first specifier, such as %i; empty: there is none."""
    return next((match[0] for match in _SPECIFIER.finditer(text) if match[1] != "%"), "")


def words(text: str) -> list[str]:
    """Split a value at blanks outside of quotes; a %% becomes %.

    Raises:
        ValueError: a quote has no end, there is a specifier, which only systemd can replace, or one of its escapes.
    """
    if other := specifier(text):
        raise ValueError(f"{other} is replaced by systemd; write its value")
    if other := next((match[0] for match in _ESCAPE.finditer(text) if match[1] not in "\"'\\"), ""):
        raise ValueError(f"{other} is an escape of systemd; write the character itself")
    return [word.replace("%%", "%") for word in shlex.split(text)]


def truth(text: str) -> bool:
    """Read a boolean; raises ValueError."""
    if text.lower() not in (*TRUE, *FALSE):
        raise ValueError("is neither yes nor no")
    return text.lower() in TRUE


def seconds(text: str) -> float | None:
    """Read a time span, such as 5, 1min 30s or 500ms; None for infinity.  Source: systemd.time(7).

    Raises:
        ValueError: it is none.
    """
    if text == _INFINITE:
        return None
    if (
        not (found := _SPAN.findall(text))
        or _SPAN.sub("", text).strip()
        or any(unit not in _SPANS for _, unit in found)
    ):
        raise ValueError("is not a time span")
    return sum(float(number) * _SPANS[unit] for number, unit in found)


def size(text: str) -> int | None:
    """Read a size with K, M, G or T, to the base of 1024; None for infinity.

    Raises:
        ValueError: it is none.
    """
    if text == _INFINITE:
        return None
    if not (match := re.fullmatch(r"(\d{1,15})([KMGT]?)", text)):
        raise ValueError("is not a number")
    return int(match[1]) << 10 * " KMGT".index(match[2] or " ")


__all__ = ["SOCKET", "Unit", "UnitPair", "UnitSetting", "seconds", "size", "specifier", "truth", "words"]
