# SPDX-License-Identifier: MIT
"""A directory that is opened again: by its path, which may lead to another one by now, or else by a descriptor.

After chroot(2), and after a drop of privileges, a path leads elsewhere or nowhere, so a descriptor is kept from the
start.  In all other cases the path counts: releases are switched by a symbolic link, directories are moved and created
again, file systems are mounted over them.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[[str, int, int], int]

_O_PATH = getattr(os, "O_PATH", os.O_RDONLY)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


_living: WeakSet[KeptDirectory] = WeakSet()


def living() -> list[KeptDirectory]:
    """Return the directories that are kept by a descriptor."""
    return [one for one in _living if one.fileno() >= 0]


class KeptDirectory:
    """A directory.

    Args:
        path: absolute.

    Attributes:
        names: of allow().

    Raises:
        OSError: it does not exist, or may not be entered.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = _open(path)
        self.names: set[str] = set()
        self._ask: Ask | None = None
        _living.add(self)

    def fileno(self) -> int:
        """Return its descriptor; another one after renew()."""
        return self._fd

    def allow(self, name: str) -> None:
        """Declare that a file of this name will be opened, also by the helper that holds the directory outside
        chroot(2).
        """
        self.names.add(name)

    def move_out(self, ask: Ask) -> None:
        """Have files opened by another process from now on, and close the directory."""
        self._ask = ask
        os.close(self._fd)
        self._fd = -1

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """Open a file in it; raises as os.open()."""
        if self._ask is not None:
            return self._ask(name, flags, mode)
        return os.open(name, flags, mode, dir_fd=self._fd)

    def lstat(self, name: str) -> os.stat_result:
        """Return the status of a name in it; raises as os.lstat()."""
        if self._ask is None:
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        fd = self._ask(name, _O_PATH | os.O_NOFOLLOW, 0)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def renew(self) -> str:
        """Open the directory to which the path leads now; not after chroot(2).

        Returns:
            Why it is the one of before, though that does not exist any more; empty where all is well.
        """
        if self._ask is not None:
            return ""
        try:
            fd = _open(self.path)
        except OSError as error:
            if error.errno in _GONE or os.fstat(self._fd).st_nlink == 0:
                return f"its directory {self.path} no longer exists: {os.strerror(error.errno or 0)}"
            return ""  # nobody lets us look, and it may be the one that we have
        os.close(self._fd)
        self._fd = fd
        return ""

    def close(self) -> None:
        """Close it; again does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open(path: str) -> int:
    return os.open(path, _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def current_directory() -> str | None:
    """Return the current directory as $PWD calls it, with symbolic links (POSIX, pwd -L); None: it has been deleted."""
    called = os.environ.get("PWD", "")
    with suppress(OSError):
        if os.path.isabs(called) and os.path.samefile(called, os.curdir):
            return called
    with suppress(OSError):
        return os.getcwd()
    return None


__all__ = ["KeptDirectory", "current_directory", "living"]
