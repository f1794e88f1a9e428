# SPDX-License-Identifier: MIT
"""Files that control sockd or that it trusts: a configuration, handlers, users, passwords, keys.

They are opened without blocking, must be regular files, and are refused if others may write them: if anyone may; and,
for root, if an owner or a group other than root may, because its writer decides what root does (logrotate and sendmail
refuse theirs in the same way).
"""

from __future__ import annotations

import os
import stat
from itertools import chain
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, fault
from sockd.lazy import pathlib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Opener = Callable[[str, int], int]

MAX_HANDLER_FILES = 5000
"""Limit of files of a directory of handlers that are checked; a larger tree is not one."""
MODULES = (".py", ".pyc", ".so")
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def who_may_write(status: os.stat_result) -> str:
    """Return who besides root, or besides this user if not root, may write a file; empty if no one.

    A group's permission counts for root alone: on many systems a user's files are writable by a group of the user's
    own.
    """
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH:
        return f"any user may write it (mode {mode:04o})"
    if os.geteuid() != 0:
        return ""
    if status.st_uid != 0:
        return f"it is owned by uid {status.st_uid}"
    if mode & stat.S_IWGRP and status.st_gid != 0:
        return f"gid {status.st_gid} may write it (mode {mode:04o})"
    return ""


def open_regular(path: str, subject: str, opener: Opener = os.open) -> int:
    """Open a regular file for reading, whoever wrote it; never wait for another kind.

    Args:
        path: for the opener.
        subject: the beginning of messages: the key and the path.
        opener: as that of open().

    Returns:
        Its descriptor.

    Raises:
        ConfigurationError: it is not a regular file.
        OSError: it cannot be opened.
    """
    fd = opener(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)  # of a FIFO nobody may ever write
    if kind := _KINDS.get(stat.S_IFMT(os.fstat(fd).st_mode)):
        os.close(fd)
        raise ConfigurationError(f"{subject}: is {kind}, not a file")
    return fd


def open_file(path: str, subject: str, opener: Opener = os.open, *, is_credential: bool = False) -> int:
    """Open a trusted file for reading; as open_regular().

    Args:
        path, subject, opener: as for open_regular().
        is_credential: on a file system that is read-only, as systemd has it, the user of a service may own it.

    Raises:
        ConfigurationError: it is not a regular file, or others may write it.
        OSError: it cannot be opened.
    """
    fd = open_regular(path, subject, opener)
    is_immutable = is_credential and os.fstatvfs(fd).f_flag & os.ST_RDONLY
    if not is_immutable and (why := who_may_write(os.fstat(fd))):
        os.close(fd)
        raise ConfigurationError(f"{subject}: refused: {why}; {remedy(path)}")
    return fd


def read(path: str, subject: str, max_bytes: int, opener: Opener = os.open) -> bytes:
    """Read a trusted file, up to `max_bytes`.

    Raises:
        ConfigurationError, SystemFault, PermissionFault: as open_file(), with the subject.
    """
    try:
        with os.fdopen(open_file(path, subject, opener), "rb") as file:
            return file.read(max_bytes)
    except OSError as error:
        raise fault(error, subject) from None


def remedy(path: str) -> str:
    """Return the command that protects a file from others."""
    owner = f"chown root:root {path}; " if os.geteuid() == 0 else ""
    return f"{owner}chmod go-w {path}"


# ---- handlers


def why_not_imported(directory: str) -> str:
    """Return why modules of a directory are not imported; empty: they may be.

    Root imports only what no other user may write, replace, or redirect.
    """
    if os.geteuid() != 0:
        return ""
    real = os.path.realpath(directory)
    if real == os.sep:
        return (
            "/ cannot be a directory of handlers; put the configuration into a directory of its own, or set PYTHONPATH"
        )
    try:
        return next(filter(None, _doubts(real)), "")
    except OSError as error:
        return f"{directory}: {os.strerror(error.errno or 0)}"


def _doubts(directory: str) -> Iterator[str]:
    for above in pathlib.Path(directory).parents:
        status = os.stat(above)
        is_sticky = status.st_mode & stat.S_ISVTX and status.st_uid == 0  # there nobody can rename what is root's
        if not is_sticky and (status.st_uid != 0 or status.st_mode & stat.S_IWOTH):
            yield f"its parent {above}: {who_may_write(status)}"
    for count, path in enumerate(chain([directory], _modules_in(directory))):
        if count > MAX_HANDLER_FILES:
            yield f"it holds more than {MAX_HANDLER_FILES} files; put handlers into a directory of their own"
        if why := who_may_write(os.stat(path)):
            yield f"{path}: {why}; {remedy(path)}"


def _modules_in(directory: str) -> Iterator[str]:
    """Yield what could be imported: modules and packages, the targets of links, and compiled files."""
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
    """Whether it is a link, or an environment with its own modules, of which none is found from here."""
    return os.path.islink(directory) or os.path.exists(os.path.join(directory, "pyvenv.cfg"))


__all__ = ["open_file", "open_regular", "read", "remedy", "who_may_write", "why_not_imported"]
