"""A folder that is found again: by its path, which may lead to another one by now, or else by a descriptor.

Behind chroot(2), and behind a drop of rights, a path leads elsewhere or nowhere, so a descriptor is kept from the
start on.  Everywhere else the path counts: releases are changed by a symbolic link, folders are moved away and made
anew, file systems are mounted over them.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

_O_PATH = getattr(os, "O_PATH", os.O_RDONLY)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class KeptFolder:
    """A folder.

    Args:
        path: absolute.

    Raises:
        OSError: it is not there, or may not be entered.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = _open(path)

    def fileno(self) -> int:
        """Return its descriptor; another one after renew()."""
        return self._fd

    def renew(self) -> str:
        """Have the folder that the path leads to now; not after chroot(2).

        Returns:
            Why it is the one of before, though that is not there any more; empty where all is well.
        """
        try:
            fd = _open(self.path)
        except OSError as error:
            if error.errno in _GONE or os.fstat(self._fd).st_nlink == 0:
                return f"its folder {self.path} is not there any more: {os.strerror(error.errno or 0)}"
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


def current_folder() -> str | None:
    """Return the current folder as $PWD calls it, with symbolic links (POSIX, pwd -L); None: it has been deleted."""
    called = os.environ.get("PWD", "")
    with suppress(OSError):
        if os.path.isabs(called) and os.path.samefile(called, os.curdir):
            return called
    with suppress(OSError):
        return os.getcwd()
    return None


__all__ = ["KeptFolder", "current_folder"]
