"""Who writes the pid file of a daemon that has dropped root's rights: a process of its own, which has the descriptor.

A descriptor that can be written is one that a handler could write: whoever sends a signal to the number in the file
would send it where the handler wants, as root (logrotate's `kill -USR1 $(cat ...)`).  So the daemon has none.  The
keeper is forked before the drop, drops the same rights, holds that descriptor and nothing else, and writes one thing:
the pid of who asks, as the kernel tells it (SCM_CREDENTIALS, unix(7)).  Nobody of its user can look into it (prctl(2)).
It ends with the last process that has its socket, and empties the file then, unless another daemon has locked it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.errors import SystemFault
from sockd.process import privileges
from sockd.process.syscalls import close_to_others

if TYPE_CHECKING:
    from sockd.process.privileges import Account

ANSWER_SECONDS = 5.0
NAME = "sockd-pidfile"
"""Of the process: ps(1), top(1); 15 bytes at most (proc(5))."""
WRITE, DONE = b"pid", b"done"
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_STANDARD = 3
_SO_PASSCRED = getattr(socket, "SO_PASSCRED", 16)


class PidKeeper:
    """The daemon's side.

    Args:
        sock: connected to the keeper.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.settimeout(ANSWER_SECONDS)

    @classmethod
    def begin(cls, fd: int, account: Account) -> PidKeeper:
        """Fork a keeper for a descriptor of the file, which is the keeper's alone when this returns.

        Raises:
            OSError: there is no process, or no socket.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            theirs.setsockopt(socket.SOL_SOCKET, _SO_PASSCRED, 1)
            child = os.fork()
            if child == 0:
                _leave(theirs, fd, account)
            with suppress(ChildProcessError):  # where SIGCHLD is ignored
                os.waitpid(child, 0)  # its own child goes on
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(fd)
        return cls(ours)

    def fileno(self) -> int:
        """Return the descriptor of its socket, for a process that goes on in our place."""
        return self._socket.fileno()

    def write(self) -> None:
        """Have the pid of this process written.

        Raises:
            SystemFault: the keeper has ended, or does not answer.
        """
        try:
            self._socket.send(WRITE)
            if self._socket.recv(len(DONE)) == DONE:
                return
            why = "its keeper has ended"
        except OSError as error:
            why = f"its keeper: {error}"
        raise SystemFault(f"the pid file is not written: {why}")

    def end(self) -> None:
        """Have the file emptied, once it is not locked any more; wait for that."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.recv(1)
        self.close()

    def close(self) -> None:
        """Let go of it; another process has it as well."""
        self._socket.close()


# ---- the keeper


def _leave(sock: socket.socket, fd: int, account: Account) -> None:
    """Be a process of nobody's, which whoever waits for the daemon's children does not meet; never returns."""
    code = 1
    try:
        if os.fork() == 0:
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
                with suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_IGN)  # it ends with the daemon, in order
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            _keep(sock, fd, account)
        code = 0
    finally:
        os._exit(code)


def _keep(sock: socket.socket, fd: int, account: Account) -> None:
    sock, fd = _only(sock.detach(), fd)
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write(NAME)
    privileges.drop(privileges.Prepared(privileges.Wanted(account, None), -1))
    close_to_others()
    while True:
        data, ancillary, _, _ = sock.recvmsg(len(WRITE), socket.CMSG_SPACE(_CREDENTIALS.size))
        if not data:
            break
        for level, kind, told in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid, uid, _ = _CREDENTIALS.unpack(told)
                if uid in (0, account.uid) and pid > 0 and data == WRITE:
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, b"%d\n" % pid, 0)
                    sock.send(DONE)
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else another daemon has it, and its number is in it
        os.ftruncate(fd, 0)


def _only(sock: int, fd: int) -> tuple[socket.socket, int]:
    """Keep these two descriptors, as 3 and 4; the standard ones are nobody's."""
    os.chdir("/")
    high = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 64) for one in (sock, fd)]
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(_STANDARD):
        os.dup2(null, number)
    for place, one in enumerate(high, _STANDARD):
        os.dup2(one, place, inheritable=False)
    os.closerange(_STANDARD + len(high), os.sysconf("SC_OPEN_MAX"))
    return socket.socket(fileno=_STANDARD), _STANDARD + 1


__all__ = ["PidKeeper"]
