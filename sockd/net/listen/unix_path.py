# SPDX-License-Identifier: MIT
"""The path of a Unix socket: bound without replacing another server's, removed only if it is still ours.

Rules.  Nothing is removed from a path but a socket on which no server answers.  While a path is examined, bound and
listened on, a lock file beside it is locked with flock(2); so of two daemons that start at once on one stale path the
second finds the first one answering.  The directory itself would do, but any user who can read it can lock it as well,
and delay a start or a reload.  Where nothing can be locked, nothing is replaced. The bound path is identified by
device and inode; the kernel keeps that inode as long as the socket lives, so `unlink_if_ours` comes before the close.
Source: unix(7), flock(2), FAQ II.4.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sockd.errors import PermissionFault, SystemFault, TemporaryFault, fault
from sockd.net.kernel import peer_credentials
from sockd.net.listen.address_in_use import describe_pids, describe_process, path_pids
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sockd.net.address.sockaddr import Endpoint

LOCK_TIMEOUT_S = 10.0  # a holder needs microseconds, and is of our own user
LOCK_RETRY_S = 0.01
LOCK_TRIES = 100  # the file goes with its lock, and may be somebody else's by the time that we have it
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.EISDIR, errno.ENXIO)

# What connect() says when somebody lives there although no connection came of it: a
# full backlog, a socket of another type, a datagram socket that has a peer (unix(7)).
OCCUPIED = (errno.EAGAIN, errno.EINPROGRESS, errno.EPROTOTYPE, errno.EPERM, errno.EISCONN)


@dataclass(frozen=True, slots=True)
class UnixPath:
    """A path that this process bound, known by device and inode."""

    path: str
    device: int
    inode: int

    @classmethod
    def record(cls, path: str) -> UnixPath:
        """Record the inode at the path; call it with the directory locked, right after bind()."""
        found = os.lstat(path)
        return cls(path, found.st_dev, found.st_ino)

    def is_ours(self) -> bool:
        """Return whether the path still is the inode that was bound; the socket must still be open."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self.device, self.inode)

    def unlink_if_ours(self) -> bool:
        """Remove the path unless it was replaced or removed; call it before the socket is closed.

        Returns:
            Whether it was removed.  A path that may not be removed (chroot, dropped privileges) stays: the next start
            finds it stale and replaces it.
        """
        if not self.is_ours():
            return False
        try:
            os.unlink(self.path)
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class InheritedPath(UnixPath):
    """A path that another process bound, and owns as long as `is_lent` says so."""

    is_lent: Callable[[], bool]

    def unlink_if_ours(self) -> bool:
        """Remove the path, once it belongs to this process."""
        return not self.is_lent() and UnixPath.unlink_if_ours(self)


@contextmanager
def claimed(endpoint: Endpoint) -> Iterator[None]:
    """Lock the path for the body, which binds it and, for a stream, listens.

    Args:
        endpoint: of AF_UNIX.

    Raises:
        SystemFault: a server still answers there (named), or it is not a socket.
        PermissionFault: that cannot be determined, or the stale path cannot be removed.
        TemporaryFault: another process of the same user holds the lock for too long.
        OSError: the directory does not exist or cannot be searched.
    """
    path = str(endpoint.sockaddr)
    with _locked(path) as locked:
        found = _lstat(path)
        if found is not None:
            _refuse_unless_stale(endpoint, found)
            if not locked:
                raise PermissionFault(f"{endpoint}: stale, but it cannot be locked; remove {path} by hand")
            _remove_stale(endpoint, found)
        yield


@contextmanager
def _locked(path: str) -> Iterator[bool]:
    directory, name = os.path.split(path)
    lock = os.path.join(directory, f".{name}.lock")
    fd = _acquire(lock)
    try:
        yield fd >= 0
    finally:
        if fd >= 0:
            with suppress(OSError):
                os.unlink(lock)  # as long as it is held: whoever waits for it sees that
            os.close(fd)


def _acquire(lock: str) -> int:
    """Make the lock file and lock it; -1 if that is impossible: another user owns it, or locks are not supported
    here (NFS).
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    for _ in range(LOCK_TRIES + int(LOCK_TIMEOUT_S / LOCK_RETRY_S)):
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in NOT_OURS or not _remove_as_root(lock):
                if error.errno in NOT_OURS:
                    return -1
                raise
            continue
        try:
            if _is_locked(fd, lock, deadline):
                return fd
        except OSError:  # ENOLCK, EBADF: no locks here
            os.unlink(lock)
            os.close(fd)
            return -1
        except TemporaryFault:
            os.close(fd)
            raise
        os.close(fd)
    return -1


def _is_locked(fd: int, lock: str, deadline: float) -> bool:
    """Lock the file, if only its owner can open it, and the path still leads to it.

    Raises:
        OSError: there are no locks here.
        TemporaryFault: another process has had it for too long.
    """
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        _remove_as_root(lock)
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if time.monotonic() >= deadline:
            text = f"{lock}: locked by another process for more than {LOCK_TIMEOUT_S:g} s"
            raise TemporaryFault(text) from None
        time.sleep(LOCK_RETRY_S)
        return False
    standing = _lstat(lock)
    return standing is not None and os.path.samestat(standing, found)


def _remove_as_root(lock: str) -> bool:
    """Remove a lock file of another user, for root."""
    with suppress(OSError):
        if os.geteuid() == 0:
            os.unlink(lock)
            return True
    return False


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _refuse_unless_stale(endpoint: Endpoint, found: os.stat_result) -> None:
    if not stat.S_ISSOCK(found.st_mode):
        raise SystemFault(f"refused: {endpoint} is {_kind(found.st_mode)}, not a socket; it is left unchanged")
    with socket.socket(socket.AF_UNIX, endpoint.type) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(str(endpoint.sockaddr))
        if code in (errno.ECONNREFUSED, errno.ENOENT):
            return
        if code and code not in OCCUPIED:
            about = f"{endpoint}, of uid {found.st_uid}: cannot determine whether a server answers there"
            raise fault(OSError(code, ""), f"{about} (if none does, remove it)")
        raise SystemFault(f"refused: {endpoint} is {_served_by(endpoint, probe)}")


def _served_by(endpoint: Endpoint, probe: socket.socket) -> str:
    pids: list[int] = path_pids(str(endpoint.sockaddr))
    if pids:
        return describe_pids(pids).replace("held", "served", 1)
    pid = _peer_pid(probe)
    return f"served by {describe_process(pid)}" if pid else "served by a process that is not visible (try as root)"


def _peer_pid(probe: socket.socket) -> int:
    """Ask for the pid that called listen(); 0 if it is hidden."""
    try:
        credentials = peer_credentials(probe)
    except OSError:
        return 0
    return 0 if credentials is None else credentials.pid


def _remove_stale(endpoint: Endpoint, found: os.stat_result) -> None:
    path = str(endpoint.sockaddr)
    if UnixPath(path, found.st_dev, found.st_ino).is_ours():
        try:
            os.unlink(path)
        except OSError as error:
            raise fault(error, f"{endpoint}: stale, but it belongs to uid {found.st_uid}") from None


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a regular file" if stat.S_ISREG(mode) else "a device or a pipe"
