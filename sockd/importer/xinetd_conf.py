# SPDX-License-Identifier: MIT
"""xinetd.conf as text -> entries with their attributes, without interpreting these.

Reads as xinetd does: a line is a comment if "#" is its first character, "{" and "}" have lines of their own, values
are separated by blanks and have no quotes. Source: xinetd.conf(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from sockd.importer.model import Note, Place, numbered_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind: TypeAlias = Literal["defaults", "service"]

_ATTRIBUTE = re.compile(r"\s*(?P<name>[A-Za-z_0-9]+)\s*(?P<operator>[+-]?=)\s*(?P<values>.*)")


@dataclass(frozen=True)
class Attribute:
    """One line of an entry; the operator is =, += or -=."""

    place: Place
    name: str
    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """defaults, or a service of that name."""

    place: Place
    kind: Kind
    name: str
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True)
class Include:
    """A file to read in this place, or a directory of files."""

    place: Place
    path: str
    is_directory: bool


Item: TypeAlias = Section | Include | Note


def parse(text: str, file: str) -> Iterator[Item]:
    """Read a file.

    Args:
        text: of the file.
        file: its name, for places.

    Returns:
        Its entries, in their order; a Note for what xinetd cannot read either.
    """
    lines = _lines(text, file)
    for place, line in lines:
        words = line.split()
        if words[0] in ("include", "includedir") and len(words) > 1:
            yield Include(place, words[1], words[0] == "includedir")
        elif words[0] == "defaults" or (words[0] == "service" and len(words) > 1):
            yield from _section(place, words, lines)
        else:
            yield Note(
                place, f"{line.strip()!r} does not begin an entry; xinetd knows service, defaults, include, includedir"
            )


def _lines(text: str, file: str) -> Iterator[tuple[Place, str]]:
    for place, line in numbered_lines(text, file):
        if line.strip() and not line.lstrip().startswith("#"):
            yield place, line


def _section(place: Place, words: list[str], lines: Iterator[tuple[Place, str]]) -> Iterator[Item]:
    kind: Kind = "defaults" if words[0] == "defaults" else "service"
    name = "" if kind == "defaults" else words[1]
    if words[-1] == "{":
        yield Note(place, 'xinetd requires "{" alone on the next line; read as if it were there')
    elif next(lines, (place, ""))[1].strip() != "{":
        yield Note(place, f'{" ".join(words)} has no "{{" on the next line; xinetd skips it')
        return
    attributes: list[Attribute] = []
    for here, line in lines:
        if line.strip() == "}":
            yield Section(place, kind, name, tuple(attributes))
            return
        if match := _ATTRIBUTE.fullmatch(line):
            attributes.append(Attribute(here, match["name"], match["operator"], tuple(match["values"].split())))
        else:
            yield Note(here, f"{line.strip()!r} is not an attribute; the form is NAME = VALUE")
    yield Note(place, f'{" ".join(words)} has no "}}"; xinetd skips it')
