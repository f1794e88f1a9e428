"""Where the standard error of programs goes when it is a file: opened before rights are dropped, shared by all."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from sockd.errors import SystemFault, fault

if TYPE_CHECKING:
    from sockd.errors import SockdError

FILE_MODE = 0o640
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
_HINTS = {
    errno.ELOOP: "it is a symbolic link; name the file itself",
    errno.ENOENT: "its folder does not exist",
    errno.ENXIO: "it is a FIFO that nobody reads, or a socket; name a file",
    errno.EISDIR: "it is a folder; name a file in it",
}


class ErrorFile:
    """A file to which programs append.

    Args:
        path: absolute; /dev/null is a file as well.
        place: what messages begin with, such as "service.finger.stderr".
        owner: uid and gid of a file that is made here.

    Raises:
        SystemFault, PermissionFault: it cannot be opened.
    """

    def __init__(self, path: str, place: str, owner: tuple[int, int] | None = None) -> None:
        self._path = path
        self._place = place
        self._owner = owner if os.geteuid() == 0 else None
        self._folder = -1
        folder, self._name = os.path.split(path)
        try:
            self._folder = os.open(folder, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
            self._fd = self._open()
        except OSError as error:
            self._close(self._folder)
            raise self._unusable(error) from None

    def _open(self) -> int:
        try:
            fd = os.open(self._name, _FLAGS | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=self._folder)
        except FileExistsError:
            fd = os.open(self._name, _FLAGS, dir_fd=self._folder)
        else:
            if self._owner:
                os.fchown(fd, *self._owner)
        about = os.fstat(fd)
        if not (stat.S_ISCHR(about.st_mode) or (stat.S_ISREG(about.st_mode) and about.st_nlink == 1)):
            os.close(fd)
            raise OSError(errno.EINVAL, "it is no regular file, or has another name (a hard link)")
        os.set_blocking(fd, True)
        return fd

    def _unusable(self, error: OSError) -> SockdError:
        if error.errno == errno.EINVAL:
            return SystemFault(f"{self._place}: {self._path}: {error.strerror}; name a file of its own")
        cause = fault(error, f"{self._place}: {self._path}")
        hint = _HINTS.get(error.errno or 0)
        return type(cause)(f"{cause}; {hint}") if hint else cause

    def fileno(self) -> int:
        """Return its descriptor, of which every program gets a copy."""
        return self._fd

    def reopen(self) -> None:
        """Open the file of that name anew, for it may have been renamed; keep the old one if that fails.

        Raises:
            SystemFault, PermissionFault: it cannot be opened.
        """
        try:
            fd = self._open()
        except OSError as error:
            raise self._unusable(error) from None
        self._close(self._fd)
        self._fd = fd

    def close(self) -> None:
        """Close it."""
        self._close(self._fd)
        self._close(self._folder)
        self._fd = self._folder = -1

    @staticmethod
    def _close(fd: int) -> None:
        if fd >= 0:
            os.close(fd)
