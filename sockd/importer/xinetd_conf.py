# SPDX-License-Identifier: MIT
"""xinetd.conf as text -> entries with their attributes, without interpreting these.

Reads as xinetd does: a line is a comment if "#" is its first character, "{" and "}" have lines of their own, a blank
precedes the operator, values are separated by blanks and have no quotes, and the case of keywords and attributes does
not matter. An entry with another line is one that xinetd skips. Source: xinetd.conf(5); parse.c of xinetd 2.3.15.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from sockd.importer.model import Note, Place, numbered_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind: TypeAlias = Literal["defaults", "service"]

_ATTRIBUTE = re.compile(r"\s*(?P<name>[A-Za-z_0-9]+)\s+(?P<operator>[+-]?=)\s*(?P<values>.*)")


@dataclass(frozen=True)
class Attribute:
    """One line of an entry; the operator is =, += or -=."""

    place: Place
    name: str
    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """defaults, or a service of that name.

    Attributes:
        flaw: why xinetd skips it as a whole; None if it does not.
    """

    place: Place
    kind: Kind
    name: str
    attributes: tuple[Attribute, ...]
    flaw: Note | None = None


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
        word, *others = line.split()
        keyword = word.lower()
        if keyword in ("include", "includedir") and others:
            yield Include(place, others[0], keyword == "includedir")
        elif keyword == "defaults" or (keyword == "service" and others):
            yield _section(place, [keyword, *others[: keyword == "service"]], lines)
        else:
            last = _skip(place, lines)
            text = f"{line.strip()!r} does not begin an entry; xinetd knows service, defaults, include, includedir"
            yield Note(place, f'{text}, and skips all lines up to a "}}", here line {last.line}')


def _skip(place: Place, lines: Iterator[tuple[Place, str]]) -> Place:
    """Skip the rest of an entry; returns the place of its last line."""
    for here, line in lines:
        place = here
        if line.strip() == "}":
            break
    return place


def _lines(text: str, file: str) -> Iterator[tuple[Place, str]]:
    for place, line in numbered_lines(text, file):
        if line.strip() and not line.lstrip().startswith("#"):
            yield place, line


def _section(place: Place, words: list[str], lines: Iterator[tuple[Place, str]]) -> Section:
    kind: Kind = "defaults" if words[0] == "defaults" else "service"
    name = "" if kind == "defaults" else words[1]
    title = " ".join(words)
    flaw: Note | None = None
    if next(lines, (place, ""))[1].strip() != "{":
        flaw = Note(place, f'{title} has no "{{" alone on the next line; xinetd skips it', leaves_out=True)
    attributes: list[Attribute] = []
    for here, line in lines:
        if line.strip() == "}":
            return Section(place, kind, name, tuple(attributes), flaw)
        if match := _ATTRIBUTE.fullmatch(line):
            values = tuple(match["values"].split())
            attributes.append(Attribute(here, match["name"].lower(), match["operator"], values))
        elif flaw is None:
            text = f"{line.strip()!r} is not of the form NAME = VALUE, with a blank before the operator"
            flaw = Note(here, f"{text}; xinetd skips {title}", leaves_out=True)
    flaw = flaw or Note(place, f'{title} has no "}}"; xinetd skips it', leaves_out=True)
    return Section(place, kind, name, tuple(attributes), flaw)
