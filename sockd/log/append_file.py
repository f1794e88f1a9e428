# SPDX-License-Identifier: MIT
"""A file that lines are appended to: the log, and the standard error of programs.

Root may open it, in a directory where others write, so it is opened with care: no link is followed, no file with a
second name is accepted, no FIFO is waited for.  It is found again after a rotation, a chroot and a change of directory
(sockd.files.kept_directory). Source: open(2), O_NOFOLLOW and O_PATH; logrotate(8).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from sockd.errors import SystemFault, fault
from sockd.files.kept_directory import KeptDirectory

if TYPE_CHECKING:
    from sockd.errors import SockdError
    from sockd.text import KeyPath

FILE_MODE = 0o640
"""Mode of a new file: addresses of clients, and output of programs, are confidential."""
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
_HINTS = {
    errno.EACCES: "the user that the daemon serves as must be able to write it (logrotate: create 0640 USER GROUP)",
    errno.ELOOP: "it is a symbolic link, which is not followed, because others may change it; name the file itself",
    errno.ENOENT: "its directory does not exist; create it: install -d -m 755 {directory}",
    errno.ENXIO: "it is a FIFO without a reader, or a socket; name a file",
    errno.EISDIR: "it is a directory; name a file in it",
}


class AppendFile:
    """A regular file or a character device such as /dev/null, open for appending.

    Args:
        path: absolute; the file itself, not a link to one.
        key: that names it, such as ("daemon", "log", "to").
        owner: uid and gid of a file that root creates, so that the serving user can open it again.
        blocking: whether write(2) may block, where the kind of file allows it.
        rooted: the path will lead elsewhere, after chroot(2).

    Raises:
        SystemFault, PermissionFault: it cannot be opened, or is not a file that may be written to.
    """

    def __init__(
        self,
        path: str,
        key: KeyPath,
        *,
        owner: tuple[int, int] | None = None,
        blocking: bool = False,
        rooted: bool = False,
    ) -> None:
        self.path = path
        self._key = key
        self._owner = owner if os.geteuid() == 0 else None
        self._blocking = blocking
        self._rooted = rooted
        directory, self._name = os.path.split(path)
        try:
            self._directory = KeptDirectory(directory)
        except OSError as error:
            raise self._unusable(error) from None
        self._directory.allow(self._name)
        try:
            self._fd = self._open()
        except BaseException:
            self._directory.close()
            raise

    def _open(self) -> int:
        try:
            fd = self._made_or_found()
        except OSError as error:
            raise self._unusable(error) from None
        self._check(fd)
        os.set_blocking(fd, self._blocking)
        return fd

    def _made_or_found(self) -> int:
        try:
            made = self._directory.open(self._name, _FLAGS | os.O_CREAT | os.O_EXCL, FILE_MODE)
        except FileExistsError:
            return self._directory.open(self._name, _FLAGS)
        if self._owner:
            try:
                os.fchown(made, *self._owner)
            except OSError:
                os.close(made)
                raise
        return made

    def _check(self, fd: int) -> None:
        """Refuse a file that leads elsewhere: root would write there."""
        found = os.fstat(fd)
        if (stat.S_ISREG(found.st_mode) and found.st_nlink == 1) or stat.S_ISCHR(found.st_mode):
            return
        os.close(fd)
        reason = "has another name (a hard link)" if stat.S_ISREG(found.st_mode) else "is not a regular file"
        raise SystemFault(f"{self.path}: refused: it {reason}; name a file of its own", key=self._key)

    def _unusable(self, error: OSError) -> SockdError:
        cause = fault(error, self.path)
        hint = _HINTS.get(error.errno or 0)
        remedy = f"; {hint.format(directory=os.path.dirname(self.path))}" if hint else ""
        return type(cause)(f"{cause}{remedy}", key=self._key)

    def fileno(self) -> int:
        """Return its descriptor; another one after reopen()."""
        return self._fd

    def reopen(self) -> None:
        """Open the file that has the name now, if it is another one; keep the old one if that fails.

        Raises: SystemFault, PermissionFault: as the constructor, or its directory is gone; lines are still written to
        the old one.
        """
        if not self._rooted and (why := self._directory.renew()):
            raise SystemFault(f"{self.path}: {why}", key=self._key)
        old, found = self._fd, self._standing()
        if found is not None and os.path.samestat(found, os.fstat(old)):
            return
        self._fd = self._open()
        os.close(old)

    def _standing(self) -> os.stat_result | None:
        try:
            return self._directory.lstat(self._name)
        except OSError:
            return None

    def close(self) -> None:
        """Close the file and its directory; again does nothing."""
        self._directory.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


__all__ = ["FILE_MODE", "AppendFile"]
