# SPDX-License-Identifier: MIT
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
import socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sockd.errors import SystemFault
from sockd.net.kernel import UCRED, Credentials
from sockd.process import helper

if TYPE_CHECKING:
    from sockd.process.privileges import Account

ANSWER_SECONDS = 5.0
NAME = "sockd-pidfile"
"""Of the process: ps(1), top(1); 15 bytes at most (proc(5))."""
WRITE, DONE = b"pid", b"done"


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
        try:
            return cls(helper.begin(NAME, [fd], account, partial(_keep, account.uid), credentials=True))
        finally:
            os.close(fd)

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
            why = "its helper process has exited"
        except OSError as error:
            why = f"its helper process: {error}"
        raise SystemFault(f"pid file not written: {why}")

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


def _keep(user: int, sock: socket.socket, descriptors: list[int]) -> None:
    (fd,) = descriptors
    while True:
        data, ancillary, _, _ = sock.recvmsg(len(WRITE), socket.CMSG_SPACE(UCRED.size))
        if not data:
            break
        for level, kind, credentials in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                sender = Credentials.unpack(credentials)
                if sender.uid in (0, user) and sender.pid > 0 and data == WRITE:
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, b"%d\n" % sender.pid, 0)
                    sock.send(DONE)
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else another daemon has it, and its number is in it
        os.ftruncate(fd, 0)


__all__ = ["PidKeeper"]
