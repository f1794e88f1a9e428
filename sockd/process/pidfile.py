# SPDX-License-Identifier: MIT
"""The pid file: a lock with a number in it (FAQ IV.3).

The lock (flock(2)) says whether a daemon lives, for it ends with the process, however
that ends; the number is for people.  So a file that is not locked is stale, whatever number
is in it, and is taken over; nothing is ever done to the process of that number.
The path must be one that nobody but root and this process's user can bend: each
directory on the way is theirs and closed to others, the last one even if it is sticky, and the
file is a regular one, of one name, of this user.  Then there is no race to lose.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sockd.errors import PermissionFault, SystemFault, fault, under_key
from sockd.net.listen.address_in_use import describe_process
from sockd.process.pid_keeper import PidKeeper

if TYPE_CHECKING:
    from sockd.process.privileges import Account

KEY = ("daemon", "pidfile")
FILE_MODE = 0o644
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
MAX_DIGITS = 20  # of a pid and its newline
NAME_TRIES: Final = 50
NAME_PAUSE_S = 0.01  # a holder writes its number right behind the lock
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
}
_O_PATH = getattr(os, "O_PATH", os.O_RDONLY)


class PidFile:
    """A pid file that this process holds.

    Args:
        path: absolute.
        account: who serves, where root's rights are about to be dropped: then a keeper has the descriptor that can
            be written (sockd.process.pid_keeper), and empties the file at the end, which it could not remove.
        held: a descriptor of the file with its lock, of the process before us, which is taken over if the path
            still leads to that file; its number stays in it until write().
        keeper: of that process.

    Raises:
        SystemFault: a daemon holds it (named), or it is no plain file, or its directory does not exist.
        PermissionFault: the file or a directory is open to others, or may not be written.
    """

    def __init__(
        self,
        path: str,
        *,
        account: Account | None = None,
        held: int | None = None,
        keeper: PidKeeper | None = None,
    ) -> None:
        self.path = path
        self._keeper = keeper
        parent, self._name = os.path.split(path)
        self._directory = _open_directory(parent, path)
        try:
            self.is_handed_over = held is not None and self._is_standing(held)
            if held is not None and self.is_handed_over:
                self._fd = os.dup(held)
            else:
                if keeper is not None:  # of another file
                    keeper.close()
                    self._keeper = None
                self._fd = self._acquire()
                self._write_directly()
                if account is not None:
                    self._keeper = PidKeeper.begin(self._open_to_write(), account)
        except OSError as error:
            os.close(self._directory)
            with under_key(*KEY):
                raise fault(error, path) from None
        except BaseException:
            os.close(self._directory)
            raise
        if self._keeper is not None:
            self._close_directory()

    def _acquire(self) -> int:
        """Open and lock the file that has the name; again when another process removed it in between."""
        while True:
            found = self._standing()
            if found is not None:
                self._refuse_unless_ours(found)
            flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            fd = os.open(self._name, flags, FILE_MODE, dir_fd=self._directory)
            try:
                opened = os.fstat(fd)
                self._refuse_unless_ours(opened)
                self._lock(fd)
                standing = self._standing()
                if standing is not None and os.path.samestat(standing, opened):
                    return fd  # a lock needs no right to write, which nobody who has the descriptor shall have
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _standing(self) -> os.stat_result | None:
        try:
            return os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _refuse_unless_ours(self, found: os.stat_result) -> None:
        mode = found.st_mode
        if not stat.S_ISREG(mode):
            raise SystemFault(f"{self.path}: refused: it is {_kind(mode)}, not a regular file; remove it", key=KEY)
        if found.st_nlink > 1:
            raise SystemFault(f"{self.path}: refused: the file has another name (a hard link); remove it", key=KEY)
        if found.st_uid != os.geteuid():
            text = f"it belongs to uid {found.st_uid}, not to {os.geteuid()}, which starts the daemon; remove it"
            raise PermissionFault(f"{self.path}: refused: {text}", key=KEY)
        if mode & OTHERS_WRITE:
            text = f"others can write it (mode {stat.S_IMODE(mode):o}); remove it"
            raise PermissionFault(f"{self.path}: refused: {text}", key=KEY)

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemFault(f"{self.path}: a daemon is already running: {_holder(fd)}", key=KEY) from None

    def _is_standing(self, fd: int) -> bool:
        standing = self._standing()
        return standing is not None and os.path.samestat(standing, os.fstat(fd))

    def fileno(self) -> int:
        """Return the descriptor that has the lock."""
        return self._fd

    @property
    def keeper(self) -> PidKeeper | None:
        """Who writes it, None where we do."""
        return self._keeper

    def write(self) -> None:
        """Put the number of this process into it.

        Raises:
            SystemFault: its keeper does not.
        """
        if self._keeper is not None:
            self._keeper.write()
        else:
            self._write_directly()

    def _open_to_write(self) -> int:
        """Open the very file that is locked once more."""
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        fd = os.open(self._name, flags, dir_fd=self._directory)
        if os.path.samestat(os.fstat(fd), os.fstat(self._fd)):
            return fd
        os.close(fd)
        raise SystemFault(f"{self.path}: another file has this name now", key=KEY)

    def _write_directly(self, text: bytes | None = None) -> None:
        fd = self._open_to_write()
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid() if text is None else text, 0)
        finally:
            os.close(fd)

    def release(self) -> None:
        """Remove the file if it still is ours, or else empty it, and give up the lock."""
        if self._fd < 0:
            return
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            with suppress(OSError, SystemFault):  # stale then, which the next start sees by the lock
                self._write_directly(b"")
                if self._is_standing(self._fd):
                    os.unlink(self._name, dir_fd=self._directory)
        self.leave()
        if keeper is not None:
            keeper.end()

    def leave(self) -> None:
        """Close it as it is: another process has the lock as well."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        self._close_directory()

    def _close_directory(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1


def _open_directory(parent: str, path: str) -> int:
    """Walk down to a directory, refusing each one that others could change; return its descriptor."""
    real = os.path.realpath(parent)  # /var/run is a link, made by root; what it leads to is what is checked
    fd = os.open("/", _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    walked, words = "/", [word for word in real.split("/") if word]
    try:
        _check_directory(fd, walked, path, last=not words)
        for index, word in enumerate(words):
            below = os.open(word, _O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd, walked = below, os.path.join(walked, word)
            _check_directory(fd, walked, path, last=index == len(words) - 1)
    except OSError as error:
        os.close(fd)
        missing = error.errno == errno.ENOENT
        hint = f"; its directory does not exist; create it: install -d -m 755 {parent}" if missing else ""
        cause = fault(error, path)
        raise type(cause)(f"{cause}{hint}", key=KEY) from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_directory(fd: int, directory: str, path: str, *, last: bool) -> None:
    found = os.fstat(fd)
    mode = stat.S_IMODE(found.st_mode)
    reason = ""
    if found.st_uid not in (0, os.geteuid()):
        reason = f"belongs to uid {found.st_uid}"
    elif mode & OTHERS_WRITE and (last or not mode & stat.S_ISVTX):
        reason = f"can be written by others (mode {mode:o})"
    if reason:
        text = (
            f"its directory {directory} {reason}, which allows replacing the "
            "file; use one of root's, such as /run/sockd"
        )
        raise PermissionFault(f"{path}: refused: {text}", key=KEY)


def _holder(fd: int) -> str:
    """Name the daemon that has the lock, by the number that it writes into the file."""
    for _ in range(NAME_TRIES):
        text = os.pread(fd, MAX_DIGITS, 0).strip()
        if text.isdigit() and _lives(int(text)):
            return describe_process(int(text))
        time.sleep(NAME_PAUSE_S)
    return "the file is locked by a process that has not written its pid"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _kind(mode: int) -> str:
    return KINDS.get(stat.S_IFMT(mode), "a device")
