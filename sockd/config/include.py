# SPDX-License-Identifier: MIT
"""Several files as one configuration: `include` of the main file; each has listeners, services and keys of [daemon].

Files are read in the order of the patterns, and of their names within each.  A listener is one more; a service or a key
that another file has is an error that names both places.  Paths, also those within included files, are relative to the
directory of the main file.
"""

from __future__ import annotations

import errno
import fnmatch
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.config.substitute import expand
from sockd.config.toml import Lines, parse
from sockd.errors import ConfigurationError, SockdError
from sockd.files import trusted
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sockd.text import KeyPath

    Opener = Callable[[str, int], int]

MAX_FILES = 1000
WILDCARDS = "*?["
TABLES = ("daemon", "listen", "service")
"""What an included file may have."""
_REMEDIES = {
    errno.ENOENT: "; create the directory",
    errno.EACCES: "; let the user of the daemon read it, or restart",
    errno.EPERM: "; within daemon.chroot no directory is listed: write the names of the files, and restart",
}


@dataclass(frozen=True)
class Part:
    """One file.

    Attributes:
        name: for messages.
        lines: of its keys.
        first: number of its first listener in the whole.
    """

    name: str
    lines: Lines
    document: dict[str, object]
    first: int = 0

    @property
    def listeners(self) -> int:
        """How many it has."""
        tables = self.document.get("listen")
        return len(tables) if isinstance(tables, list) else 0

    def local(self, path: KeyPath) -> KeyPath | None:
        """Return a path of the whole as this file has it; None: it is another's."""
        if len(path) > 1 and path[0] == "listen" and isinstance(path[1], int):
            number = path[1] - self.first
            return ("listen", number, *path[2:]) if 0 <= number < self.listeners else None
        table: object = self.document
        for key in path[:2]:
            if not isinstance(table, dict) or key not in table:
                return None
            table = table[key]
        return path


@dataclass(frozen=True)
class KeyPlace:
    """Where a key is: the name of its file, its line there if it is known, and its path there."""

    name: str
    line: int | None
    path: KeyPath
    order: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name}:{self.line}" if self.line else self.name


class Document:
    """A configuration of one or more files.

    Args:
        parts: the main file, and the others.

    Raises:
        ConfigurationError: two files have the same service or key.
    """

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.table: dict[str, object] = {**parts[0].document}
        for part in parts[1:]:
            self._add(part)

    def find(self, path: KeyPath, value: object = None) -> KeyPlace:
        """Find the place of a key."""
        for number, part in enumerate(self.parts):
            local = part.local(path)
            if local is not None:
                line = part.lines.find(local, value)
                return KeyPlace(part.name, line, local, (number, line or 0))
        return KeyPlace(self.parts[0].name, self.parts[0].lines.find(path, value), path, (0, 0))

    def where(self, path: KeyPath) -> tuple[str, KeyPath]:
        """Return the place of a key as text, and its path in its file: `find_place` of Settings."""
        value: object = self.table
        with suppress(LookupError, TypeError):  # a default, or of the command line
            for key in path:
                value = value[key]  # type: ignore[index]  # of a table or a list; TypeError if it is neither
        place = self.find(path, value)
        return str(place), place.path

    def _add(self, part: Part) -> None:
        for key, value in part.document.items():
            if key not in TABLES:
                known = "[daemon], [[listen]] and [service.NAME]"
                raise ConfigurationError(f"{_at(part, (key,))}: {key}: an included file has only {known}")
            mine = self.table.get(key)
            if isinstance(mine, list) and isinstance(value, list):
                self.table[key] = [*mine, *value]
            elif isinstance(mine, dict) and isinstance(value, dict):
                for name in value.keys() & mine.keys():
                    where = self.find((key, name))
                    raise ConfigurationError(f"{_at(part, (key, name))}: {key}.{name}: {where} has it, too; remove one")
                self.table[key] = {**mine, **value}
            else:
                self.table.setdefault(key, value)


def _at(part: Part, path: KeyPath) -> str:
    line = part.lines.find(path)
    return f"{part.name}:{line}" if line else part.name


def read_document(
    data: str | bytes,
    *,
    name: str,
    directory: str | None,
    opener: Opener,
    max_bytes: int,
    environment: Mapping[str, str] = os.environ,
) -> Document:
    """Parse a configuration, and the files that it includes.

    Args:
        data: the main file's text.
        name: of the main file, for messages.
        directory: which patterns are relative to; None: only absolute ones are possible.
        opener: opens a file or a directory by its path, which is absolute or relative to that directory.
        max_bytes: limit of a file.
        environment: the variables that patterns may name.

    Raises:
        ConfigurationError: names the file, its line and the remedy.
    """
    table, lines = parse(data, name=name)
    parts = [Part(name, lines, table)]
    patterns = table.get("include", [])
    if not (isinstance(patterns, list) and all(isinstance(one, str) for one in patterns)):
        return Document(parts)  # which is reported with its other errors
    first = parts[0].listeners
    seen = {os.path.normpath(os.path.join(directory or os.curdir, os.path.basename(name)))}
    for number, pattern in enumerate(patterns):
        line = lines.find(("include", number), pattern)
        place = f"{name}:{line}: include" if line else f"{name}: include"
        try:
            pattern = expand(pattern, environment)  # noqa: PLW2901 - as all texts, but before the others
        except ValueError as error:
            raise ConfigurationError(f"{place}: {error}") from None
        for path in _files(pattern, place, directory, opener):
            shown = path if directory is None else os.path.join(directory, path)
            if os.path.normpath(shown) in seen:
                raise ConfigurationError(f"{place}: {shown}: is part of the configuration already; name it once")
            seen.add(os.path.normpath(shown))
            try:
                data = trusted.read(path, shown, max_bytes + 1, opener)
            except SockdError as error:
                raise ConfigurationError(f"{place}: {error}") from None
            if len(data) > max_bytes:
                raise ConfigurationError(f"{place}: {shown}: larger than {max_bytes} bytes")
            table, own = parse(data, name=shown)
            parts.append(Part(shown, own, table, first))
            first += parts[-1].listeners
            if len(parts) > MAX_FILES:
                raise ConfigurationError(f"{place}: more than {MAX_FILES} files")
    return Document(parts)


def open_in(directory: str) -> Callable[[str, int], int]:
    """Return what opens a file by its path, which may be relative to a directory."""
    return lambda path, flags: os.open(os.path.join(directory, path), flags)


def included_paths(path: str, max_bytes: int) -> Iterator[str]:
    """Yield the files that one includes, whether or not they can be read, and its patterns."""
    directory = os.path.dirname(os.path.abspath(path))
    try:
        table, _ = parse(trusted.read(path, path, max_bytes), name=path)
    except SockdError:
        return
    patterns = table.get("include", [])
    for pattern in patterns if isinstance(patterns, list) else ():
        with suppress(TypeError, ValueError):  # it is no text, or names what is not set
            found = os.path.join(directory, expand(pattern))
            yield found
            yield from matching_files(found)


def matching_files(pattern: str) -> list[str]:
    """Return the files that a pattern stands for now; one without a wildcard, which may be a file, for none."""
    below, last = os.path.split(pattern)
    try:
        return [os.path.join(below, name) for name in _matching(os.listdir(below), last)] if _is_pattern(last) else []
    except OSError:
        return []


def _files(pattern: str, place: str, directory: str | None, opener: Opener) -> Iterator[str]:
    """Yield the paths that a pattern stands for: relative ones relative to the directory."""
    below, last = os.path.split(pattern)
    if not last:
        raise ConfigurationError(f'{place}: "{pattern}": names no file; write its name, or a pattern: "conf.d/*.toml"')
    if _is_pattern(below):
        raise ConfigurationError(f'{place}: "{pattern}": wildcards are possible in the last part only: "conf.d/*.toml"')
    if directory is None and not os.path.isabs(pattern):
        raise ConfigurationError(f'{place}: "{pattern}": is relative, and there is no file for it to be relative to')
    if not _is_pattern(last):
        yield pattern
        return
    shown = below if directory is None else os.path.join(directory, below)
    try:
        fd = opener(below or os.curdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "")
        raise ConfigurationError(f"{place}: {shown}: {os.strerror(error.errno or 0)}{remedy}") from None
    try:
        if why := trusted.who_may_write(os.fstat(fd)):
            raise ConfigurationError(f"{place}: {shown}: refused: {why}; {trusted.remedy(shown)}")
        names = _matching(os.listdir(fd), last)
    finally:
        os.close(fd)
    for found in names:
        yield os.path.join(below, found)


def _is_pattern(text: str) -> bool:
    return any(one in text for one in WILDCARDS)


def _matching(names: list[str], last: str) -> list[str]:
    """Return the names for which the last part of a pattern stands, in order; hidden ones as a shell does."""
    seen = sorted(one for one in names if last.startswith(".") or not one.startswith("."))
    return [one for one in seen if fnmatch.fnmatchcase(one, last)]


__all__ = ["Document", "KeyPlace", "included_paths", "matching_files", "open_in", "read_document"]
