# SPDX-License-Identifier: MIT
"""Run scripts of sh(1) -> the commands in them that start a server, and what the lines before set.

A script is read, and not run: assignments of plain words are followed as long as nothing else may change them.  What
the shell would put together in another way makes a command unreadable, and every other line that may matter is told.
Source: POSIX, Shell Command Language, 2.2 and 2.3.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from sockd.importer.model import Note, Place
from sockd.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sockd.importer.model import Table

_TOKEN = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^'"\\]+|['"\\]""", re.DOTALL)
_QUOTES = "'\"\\"
_COMMENT = re.compile(r"(?<!\S)#.*")
_PIPE = re.compile(r"\|")
_END = re.compile(";")
_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_ASSIGNMENT = re.compile(rf"(export\s+)?({_NAME})=(\"[^\"]*\"|'[^']*'|[^\s\"']*)")
_EXPORT = re.compile(rf"export((?:\s+{_NAME})+)")
_CHANGES = re.compile(rf"(?<![\w$-])({_NAME})=|\b(?:read|unset|for)\s+({_NAME})")
_VARIABLE = re.compile(rf"\\.|\$(?:({_NAME})|\{{({_NAME})\}})", re.DOTALL)
_REDIRECTIONS = re.compile(r"(?<!\S)(?:[012]?>&[012-]|[012]?<\s*/dev/null)(?!\S)")
_SHELL = re.compile(r"[$`;&<>()*?~]")
_UNKNOWN = re.compile(rf"\$(?:{_NAME}|\{{{_NAME}\}})")
_NOT_PLAIN = re.compile(r"[\\'\"$`|;&<>()*?~#\n]")
_WITHOUT_EFFECT = re.compile(
    r"(?:echo|printf|logger|sleep|test|\[|which|type|command\s+-v|set\s+-[eux]+)(?:\s[^|&]*)?(?:\|\|\s*exit(?:\s+\d+)?)?"
    r"|exec(?:\s+[012]?>&[012])+|then|else|fi|do|done|esac|exit(?:\s+\d+)?|:|true"
)
"""Statements that change nothing for the program."""


@dataclass(frozen=True)
class ScriptCommand:
    """A command that starts a server.

    Attributes:
        place, text: of it.
        words: empty if it cannot be read.
        output: where its output is piped; empty: nowhere.
        error: why it cannot be read.
        exported: variables of its environment.
        program: directory and umask, as keys of [service].
    """

    place: Place
    text: str
    words: tuple[str, ...] = ()
    output: str = ""
    error: str = ""
    exported: dict[str, str] = field(default_factory=dict)
    program: Table = field(default_factory=dict)


class RunScript:
    """A script; complete when the constructor returns.

    Args:
        text: of it.
        file: its name.
        servers: names of programs, whose commands are looked for.

    Attributes:
        commands: in their order.
        notes: lines that are not read, and may matter.
    """

    def __init__(self, text: str, file: str, servers: tuple[str, ...]) -> None:
        self.commands: list[ScriptCommand] = []
        self.notes: list[Note] = []
        self._servers = re.compile(rf"(?<![^\s/\"'])(?:{'|'.join(servers)})(?![^\s\"'])")
        self._variables: dict[str, str] = {}
        self._uncertain: set[str] = set()
        self._exported: set[str] = set()
        self._program: Table = {}
        for place, line in _lines(text, file):
            for statement in _statements(line):
                self._read(place, statement)

    def _read(self, place: Place, text: str) -> None:
        if match := _ASSIGNMENT.fullmatch(text):
            self._assign(match[2], match[3])
            self._exported |= {match[2]} if match[1] else set()
        elif (match := _EXPORT.fullmatch(text)) and {*match[1].split()} <= {*self._variables}:
            self._exported |= {*match[1].split()}
        elif match := re.fullmatch(r"umask\s+([0-7]{1,4})", text):
            self._program["umask"] = match[1]
        elif match := re.fullmatch(r"cd\s+(/[\w./-]*)", text):
            self._program["directory"] = match[1]
        elif not _WITHOUT_EFFECT.fullmatch(text):
            self._command(place, text)

    def _assign(self, name: str, written: str) -> None:
        """Follow an assignment, unless another one may be the one in effect."""
        value = written[1:-1] if written[:1] in ("'", '"') else written
        if _NOT_PLAIN.search(value) or self._variables.get(name, value) != value:
            self._uncertain.add(name)
        self._variables[name] = value

    def _command(self, place: Place, text: str) -> None:
        whole = self._substitute(text)
        if self._servers.search(whole) is None:
            self.notes.append(Note(place, f"{text!r} is not read: see whether it changes something for the program"))
            self._uncertain |= {one or other for one, other in _CHANGES.findall(text)}
            if re.match(r"(?:\.|source|eval)\s", text):
                self._uncertain |= {*self._variables}
            return
        line, _, output = _cut(whole, _PIPE)
        line = _in_bare(line, lambda part: _REDIRECTIONS.sub(" ", part)).rstrip(" &")
        words, error = _words(line)
        unsure = [name for name in sorted(self._exported & self._uncertain) if name in self._variables]
        if unsure:
            error = error or f"{', '.join(unsure)}: exported, but set in more than one way; write one value"
        exported = {name: self._variables[name] for name in sorted(self._exported & {*self._variables})}
        done = ScriptCommand(place, text, () if error else words, output.strip(), error, exported, dict(self._program))
        self.commands.append(done)

    def _substitute(self, text: str) -> str:
        """Replace variables whose value is known, outside of single quotes."""

        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2] or ""
            return match[0] if name in self._uncertain else self._variables.get(name, match[0])

        parts: list[str] = _TOKEN.findall(text)
        return "".join(part if part[0] in "'\\" else _VARIABLE.sub(value, part) for part in parts)


def _lines(text: str, file: str) -> Iterator[tuple[Place, str]]:
    """Yield lines without comments, with those that a backslash continues; a comment is not continued."""
    joined, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        first = first if joined else number
        whole, comment, _ = _cut(joined + line, _COMMENT)
        if not comment and whole.endswith("\\"):
            joined = whole[:-1]
            continue
        joined = ""
        if whole.strip():
            yield Place(file, first), whole.strip()
    if joined.strip():
        yield Place(file, first), joined.strip()


def _statements(line: str) -> Iterator[str]:
    while line:
        one, _, line = _cut(line, _END)
        if one.strip():
            yield one.strip()


def _words(line: str) -> tuple[tuple[str, ...], str]:
    """Return the words of a command, and why it cannot be read."""
    bare = "".join(_bare(part) for part in _TOKEN.findall(line))
    if match := _SHELL.search(bare):
        found = [*dict.fromkeys(_UNKNOWN.findall(bare))] or [bare[match.start() :].split()[0]]
        verb, what = ("is", "its value") if len(found) == 1 else ("are", "their values")
        return (), f"{', '.join(found)} {verb} the shell's: write {what} in the script, and import again"
    try:
        return tuple(shlex.split("".join(map(_without_escapes, _TOKEN.findall(line))))), ""
    except ValueError as error:
        return (), f"cannot be read as a command: {error}"


def _bare(part: str) -> str:
    """Return what the shell may still replace in a part of a command."""
    if part[0] == '"':
        inner = re.sub(r"\\.", "", part)
        return re.sub(r"[^$`\w{}]", "", inner) if "$" in inner or "`" in inner else "x"
    return "x" if part[0] in _QUOTES else part


def _without_escapes(part: str) -> str:
    """Return a part of a command for shlex, which leaves the backslash of "\\$" where it is."""
    if part[0] != '"':
        return part
    return re.sub(r"\\(.)", lambda match: match[1] if match[1] in "$`" else match[0], part, flags=re.DOTALL)


def _in_bare(text: str, change: Callable[[str], str]) -> str:
    """Change what is outside of quotes."""
    return "".join(part if part[0] in _QUOTES else change(part) for part in _TOKEN.findall(text))


def _cut(text: str, pattern: re.Pattern[str]) -> tuple[str, str, str]:
    """Part a text at the first match outside of quotes, as str.partition()."""
    for part in _TOKEN.finditer(text):
        if part[0][0] not in _QUOTES and (match := pattern.search(text, part.start(), part.end())):
            return text[: match.start()], match[0], text[match.end() :]
    return text, "", ""


__all__ = ["RunScript", "ScriptCommand"]
