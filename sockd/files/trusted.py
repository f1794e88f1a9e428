# SPDX-License-Identifier: MIT
"""Files that say what sockd does and whom it trusts: a configuration, handlers, users, passwords, keys.

They are opened without waiting, a FIFO or a device is none, and one that others may write is refused: as everybody;
and, where we are root, as an owner or a group that is not root's, for whoever writes it decides what root does
(as logrotate and sendmail refuse theirs).
"""

from __future__ import annotations

import os
import stat
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Opener = Callable[[str, int], int]

MOST_FILES = 5000
"""Of a directory of handlers that are looked at; a tree with more is none of theirs."""
MODULES = (".py", ".pyc", ".so")
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def who_may_write(status: os.stat_result) -> str:
    """Return who besides root, or besides us where we are not root, may write a file; empty for nobody.

    A group's right counts where we are root alone: on many systems a user's files are writable by a group of his own.
    """
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH:
        return f"everybody may write it (mode {mode:04o})"
    if os.geteuid() != 0:
        return ""
    if status.st_uid != 0:
        return f"uid {status.st_uid} owns it"
    if mode & stat.S_IWGRP and status.st_gid != 0:
        return f"gid {status.st_gid} may write it (mode {mode:04o})"
    return ""


def open_regular(path: str, subject: str, opener: Opener = os.open) -> int:
    """Open a regular file for reading, whoever wrote it; of anything else nothing is waited for.

    Args:
        path: for the opener.
        subject: what messages begin with: the key and the path.
        opener: as that of open().

    Returns:
        Its descriptor.

    Raises:
        ConfigurationError: it is no regular file.
        OSError: it cannot be opened.
    """
    fd = opener(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)  # of a FIFO nobody may ever write
    if kind := _KINDS.get(stat.S_IFMT(os.fstat(fd).st_mode)):
        os.close(fd)
        raise ConfigurationError(f"{subject}: is {kind}, not a file")
    return fd


def open_file(path: str, subject: str, opener: Opener = os.open) -> int:
    """Open a file that is trusted, for reading; as open_regular().

    Raises:
        ConfigurationError: it is no regular file, or others may write it.
        OSError: it cannot be opened.
    """
    fd = open_regular(path, subject, opener)
    if why := who_may_write(os.fstat(fd)):
        os.close(fd)
        raise ConfigurationError(f"{subject}: refused: {why}; {remedy(path)}")
    return fd


def read(path: str, subject: str, most: int, opener: Opener = os.open) -> bytes:
    """Read a file that is trusted, up to `most` bytes.

    Raises:
        ConfigurationError, SystemFault, PermissionFault: as open_file(), with the subject.
    """
    try:
        with os.fdopen(open_file(path, subject, opener), "rb") as file:
            return file.read(most)
    except OSError as error:
        raise fault(error, subject) from None


def remedy(path: str) -> str:
    """Say how a file is closed to others."""
    owner = f"chown root:root {path}; " if os.geteuid() == 0 else ""
    return f"{owner}chmod go-w {path}"


# ---- handlers


def why_not_imported(directory: str) -> str:
    """Return why modules of a directory are not imported; empty: they may be.

    Root imports only what nobody else may write, put in its place, or lead elsewhere.
    """
    if os.geteuid() != 0:
        return ""
    real = os.path.realpath(directory)
    if real == os.sep:
        return "/ is no directory for handlers; name a configuration in a directory of its own, or set PYTHONPATH"
    try:
        return next(filter(None, _doubts(real)), "")
    except OSError as error:
        return f"{directory}: {os.strerror(error.errno or 0)}"


def _doubts(directory: str) -> Iterator[str]:
    for above in Path(directory).parents:
        status = os.stat(above)
        is_sticky = status.st_mode & stat.S_ISVTX and status.st_uid == 0  # there nobody can rename what is root's
        if not is_sticky and (status.st_uid != 0 or status.st_mode & stat.S_IWOTH):
            yield f"{above} is above it, and {who_may_write(status)}"
    for count, path in enumerate(chain([directory], _modules_in(directory))):
        if count > MOST_FILES:
            yield f"it holds more than {MOST_FILES} files; give handlers a directory of their own"
        if why := who_may_write(os.stat(path)):
            yield f"{path}: {why}; {remedy(path)}"


def _modules_in(directory: str) -> Iterator[str]:
    """Name what could be imported: modules and packages, what their names lead to, and what was compiled of them."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(MODULES) and os.path.exists(entry.path):
                yield entry.path
            elif entry.name.isidentifier() and entry.is_dir() and not _is_elsewhere(entry.path):
                below = [*_modules_in(entry.path)]
                if below:  # else a directory of data, which may be of whoever serves
                    yield entry.path
                yield from below


def _is_elsewhere(directory: str) -> bool:
    """Whether it is a link, or an environment with modules of its own, of which none is found from here."""
    return os.path.islink(directory) or os.path.exists(os.path.join(directory, "pyvenv.cfg"))


__all__ = ["open_file", "open_regular", "read", "remedy", "who_may_write", "why_not_imported"]
