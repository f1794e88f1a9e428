# SPDX-License-Identifier: MIT
"""Reads the files to import: files, directories, and what belongs to them: xinetd's includes, the services and drop-ins
of systemd's sockets, the rules of tcpserver.

The only module of the importer that opens files.  Bytes that are not UTF-8 stay in the text as lone surrogates, by
which they are recognised later.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, fault
from sockd.files.trusted import open_regular
from sockd.importer.inetd_conf import FAMILIES
from sockd.importer.model import Note, Place
from sockd.importer.systemd_unit import SOCKET, Unit, UnitPair
from sockd.importer.tcprules import RULE
from sockd.importer.tcpserver import SCRIPT
from sockd.importer.xinetd_conf import Include, Item, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FORMATS = ("auto", *FAMILIES, "xinetd", "tcpserver", "systemd")
MAX_FILE_BYTES = 16 * 1024 * 1024  # as for sockd.toml: a device or a log given by mistake is larger
UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
"""Of systemd.unit(5)."""
ACCESS_FILES = ("/etc/hosts.allow", "/etc/hosts.deny")

_XINETD = re.compile(r"^[ \t]*(?:service[ \t]+[^\s{]+|defaults|include(?:dir)?[ \t]+\S+)[ \t]*\{?[ \t]*$", re.M)


@dataclass
class SourceFiles:
    """The files that were read.

    Attributes:
        inetd: name and text of each inetd.conf.
        xinetd: entries of xinetd's files, in the order in which it reads them.
        dialect: of inetd.conf, a key of FAMILIES.
        tcpserver: name and text of each script that starts tcpserver.
        rules: name and text of the rules of tcpserver that were named.
        units: of each socket unit.
        notes: on files that were skipped.
    """

    dialect: str
    inetd: list[tuple[str, str]] = field(default_factory=list)
    xinetd: list[Item] = field(default_factory=list)
    tcpserver: list[tuple[str, str]] = field(default_factory=list)
    rules: list[tuple[str, str]] = field(default_factory=list)
    units: list[UnitPair] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def read_rules(self, cdb: str) -> tuple[str, str] | None:
        """Return name and text of the rules that a cdb was made from: beside it, or the only ones read of its name."""
        source = cdb.removesuffix(".cdb")
        if not source:
            return None
        for name in (source, f"{source}.rules", f"{source}.txt"):
            if name != cdb and os.path.isfile(name):
                return name, _text(name)
            found = [one for one in self.rules if os.path.basename(one[0]) == os.path.basename(name)]
            if len(found) == 1:
                return found[0]
        return None


def read(paths: Iterable[str], *, form: str = "auto") -> SourceFiles:
    """Read files and directories.

    Args:
        paths: of a directory, all files whose names xinetd would read.
        form: one of FORMATS; auto recognises xinetd's files by their keywords, and takes others for openbsd's.

    Raises:
        SystemFault, PermissionFault: one of the paths cannot be read.
        ConfigurationError: one is too large.
    """
    reader = _Reader(form)
    for path in paths:
        if os.path.isdir(path):
            reader.directory(path)
        else:
            reader.file(path)
    return reader.sources


class _Reader:
    def __init__(self, form: str) -> None:
        self._form = form
        self._seen: set[str] = set()
        self.sources = SourceFiles(form if form in FAMILIES else "openbsd")

    def directory(self, path: str) -> None:
        """Read the files of a directory in byte order, as includedir does."""
        try:
            names = sorted(os.listdir(path), key=os.fsencode)
        except OSError as error:
            raise fault(error, path) from None
        for name in names:
            whole = os.path.join(path, name)
            if name.endswith(SOCKET) and self._form in ("auto", "systemd"):
                self.file(whole)
            elif name.endswith((".service", ".socket.d", ".service.d")) and self._form in ("auto", "systemd"):
                continue  # it is read with its socket, or is none of one
            elif "." in name or name.endswith("~"):
                text = "skipped, because its name has a dot or ends in ~; name it on the command line to read it"
                self.sources.notes.append(Note(Place(whole, 1), text))
            elif os.path.isfile(whole):
                self.file(whole)

    def file(self, path: str) -> None:
        """Read a file, once."""
        if (real := os.path.realpath(path)) in self._seen:
            return
        self._seen.add(real)
        text = _text(path)
        if self._form in ("auto", "systemd") and path.endswith(SOCKET):
            self.sources.units.append(_with_service(path, text))
            return
        if self._form == "systemd" or (self._form == "auto" and path.endswith(".service")):
            self.sources.notes.append(Note(Place(path, 1), "is read with its socket; name the .socket file"))
            return
        if self._form == "tcpserver" or (self._form == "auto" and (SCRIPT.search(text) or RULE.match(_head(text)))):
            self._tcpserver(path, text)
            return
        is_xinetd = self._form == "xinetd" or (self._form == "auto" and _XINETD.search(text))
        if not is_xinetd:
            self.sources.inetd.append((path, text))
            return
        for item in parse(text, path):
            if isinstance(item, Include):
                self._include(item)
            else:
                self.sources.xinetd.append(item)

    def _tcpserver(self, path: str, text: str) -> None:
        if SCRIPT.search(text):
            self.sources.tcpserver.append((path, text))
        else:
            self.sources.rules.append((path, text))

    def _include(self, item: Include) -> None:
        if not os.path.exists(item.path):
            self.sources.notes.append(Note(item.place, f"{item.path} does not exist"))
        elif item.is_directory:
            self.directory(item.path)
        else:
            self.file(item.path)


def _head(text: str) -> str:
    """Return the first line that says something."""
    return next((line for line in text.split("\n") if line.strip() and not line.startswith("#")), "")


def _with_service(path: str, text: str) -> UnitPair:
    """Read what belongs to a socket unit: its service, found by its name or Service=, and their drop-ins."""
    directories = _unit_directories(path)
    socket = Unit(path, [(path, text), *_drop_ins(path, directories)])
    places = (os.path.join(directory, socket.service_name()) for directory in (*directories, *UNIT_DIRECTORIES))
    found = next((place for place in places if os.path.isfile(place)), "")
    service = Unit(found, [(found, _text(found)), *_drop_ins(found, directories)]) if found else None
    return UnitPair(socket, service)


def _unit_directories(path: str) -> tuple[str, ...]:
    """Return where files of a unit are looked for: all of systemd's for one of them, the first of which decides."""
    own = os.path.dirname(path)
    return UNIT_DIRECTORIES if os.path.abspath(own) in map(os.path.abspath, UNIT_DIRECTORIES) else (own,)


def _drop_ins(path: str, directories: Sequence[str]) -> list[tuple[str, str]]:
    """Read the files of UNIT.d, in the order of their names; of one name, the one of the first directory counts.

    Also those of `foo-.socket.d` for foo-bar.socket, of `foo@.service.d` for an instance, and of `socket.d` for all.
    Source: systemd.unit(5).
    """
    found: dict[str, str] = {}
    for unit in _names_of_drop_ins(os.path.basename(path)):
        for directory in directories:
            whole = os.path.join(directory, f"{unit}.d")
            for name in os.listdir(whole) if os.path.isdir(whole) else []:
                if name.endswith(".conf") and os.path.exists(one := os.path.join(whole, name)):
                    found.setdefault(name, one)
    chosen = [found[name] for name in sorted(found)]
    return [(one, _text(one)) for one in chosen if os.path.isfile(one)]  # a link to /dev/null removes one


def _names_of_drop_ins(unit: str) -> Iterator[str]:
    """Yield the names under which a unit has drop-ins, the most specific first."""
    name, _, kind = unit.rpartition(".")
    yield unit
    prefix, at, _ = name.partition("@")
    if at and name != f"{prefix}@":
        yield f"{prefix}@.{kind}"
    parts = prefix.split("-")
    for length in range(len(parts) - 1, 0, -1):
        yield f"{'-'.join(parts[:length])}-.{kind}"
    yield kind


def _text(path: str) -> str:
    try:
        with os.fdopen(open_regular(path, path), "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise fault(error, path) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path}: larger than {MAX_FILE_BYTES} bytes; this is not a configuration")
    return data.decode("utf-8-sig", "surrogateescape")


def access_rule(paths: Iterable[str] = ACCESS_FILES) -> str:
    """Find the first rule of hosts_access(5).

    Returns:
        Its file:line; empty when there is none.
    """
    return next((place for path in paths for place in _rules(path)), "")


def _rules(path: str) -> Iterator[str]:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not line.startswith("#"):
                yield f"{path}:{number}"
