# SPDX-License-Identifier: MIT
"""Between the two formats: services as sockd would have them, and notes on what is lost.

Knows neither inetd nor xinetd, and of TOML only the names of keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Value: TypeAlias = str | int | float | bool | list[str] | dict[str, str | int | list[str]]
Table: TypeAlias = dict[str, Value]


@dataclass(frozen=True, order=True)
class Place:
    """A line of a file, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def numbered_lines(text: str, file: str) -> Iterator[tuple[Place, str]]:
    """Yield lines, which end at a newline alone: str.splitlines() also ends one at a form feed within a comment."""
    return ((Place(file, number), line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1))


@dataclass(frozen=True)
class Note:
    """A setting of the old configuration that the new one does not have.

    Attributes:
        place: its position.
        text: what it is, and what to do.
        leaves_out: whether the service cannot be served because of it.
    """

    place: Place
    text: str
    leaves_out: bool = False


@dataclass(kw_only=True)
class Draft:
    """One service during conversion; each part of its entry adds to it.

    Attributes:
        place: of its entry.
        name: in the old configuration.
        origin: its entry in one line, for a comment.
        addresses: of the listener.
        listen: further keys of [[listen]].
        builtin: the built-in service; empty: a program.
        program: keys of [service.NAME].
        muxed: the name, with its "+", by which tcpmux (RFC 1078) has it; empty: it has addresses of its own.
        disabled: whether it was disabled.
        notes: what is lost.
    """

    place: Place
    name: str
    origin: str
    addresses: list[str] = field(default_factory=list)
    listen: Table = field(default_factory=dict)
    builtin: str = ""
    program: Table = field(default_factory=dict)
    muxed: str = ""
    disabled: bool = False
    notes: list[Note] = field(default_factory=list)

    def lose(self, text: str, place: Place | None = None) -> None:
        """Note a loss, and serve all the same."""
        self.notes.append(Note(place or self.place, text))

    def leave_out(self, text: str, place: Place | None = None) -> None:
        """Note why it cannot be served."""
        self.notes.append(Note(place or self.place, text, leaves_out=True))

    @property
    def is_left_out(self) -> bool:
        """Whether a note prevents serving it."""
        return any(note.leaves_out for note in self.notes)


@dataclass(frozen=True, kw_only=True)
class Host:
    """Properties of the host that a conversion needs.

    Attributes:
        access_rule: place of the first rule of hosts_access(5); empty when there is none.
        has_groups: whether a user has supplementary groups.
        find_program: gives the path of a program that is named without one, by PATH.
        addresses: gives the numeric addresses of a name; none where it does not resolve.
        port: gives the port of a service and protocol in /etc/services; None where there is none, 0 if nobody knows.
        has_file: whether there is a file of a path.
    """

    access_rule: str
    has_groups: Callable[[str], bool] = lambda user: False
    find_program: Callable[[str], str | None] = lambda name: None
    addresses: Callable[[str], Sequence[str]] = lambda name: (name,)
    port: Callable[[str, str], int | None] = lambda name, protocol: 0
    has_file: Callable[[str], bool] = lambda path: True
