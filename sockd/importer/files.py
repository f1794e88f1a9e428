# SPDX-License-Identifier: MIT
"""Reads the files to import: files, directories, and what xinetd includes.

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
from sockd.importer.xinetd_conf import Include, Item, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FORMATS = ("auto", *FAMILIES, "xinetd")
MAX_FILE_BYTES = 16 * 1024 * 1024  # as for sockd.toml: a device or a log given by mistake is larger
ACCESS_FILES = ("/etc/hosts.allow", "/etc/hosts.deny")

_XINETD = re.compile(r"^[ \t]*(?:service[ \t]+[^\s{]+|defaults|include(?:dir)?[ \t]+\S+)[ \t]*\{?[ \t]*$", re.M)


@dataclass
class SourceFiles:
    """The files that were read.

    Attributes:
        inetd: name and text of each inetd.conf.
        xinetd: entries of xinetd's files, in the order in which it reads them.
        dialect: of inetd.conf, a key of FAMILIES.
        notes: on files that were skipped.
    """

    dialect: str
    inetd: list[tuple[str, str]] = field(default_factory=list)
    xinetd: list[Item] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


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
            if "." in name or name.endswith("~"):
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
        is_xinetd = self._form == "xinetd" or (self._form == "auto" and _XINETD.search(text))
        if not is_xinetd:
            self.sources.inetd.append((path, text))
            return
        for item in parse(text, path):
            if isinstance(item, Include):
                self._include(item)
            else:
                self.sources.xinetd.append(item)

    def _include(self, item: Include) -> None:
        if not os.path.exists(item.path):
            self.sources.notes.append(Note(item.place, f"{item.path} does not exist"))
        elif item.is_directory:
            self.directory(item.path)
        else:
            self.file(item.path)


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
