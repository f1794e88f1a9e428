# SPDX-License-Identifier: MIT
"""A helper process for descriptors that handlers must not have: forked before the drop, with the same privileges.

It has its descriptors and a socket, nothing else, and exits when the last process with the other end of that has
exited. Signals do not end it before the daemon, and other processes of its user cannot inspect it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from sockd.process import privileges
from sockd.process.syscalls import close_to_others

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.process.privileges import Account

    Serve = Callable[[socket.socket, list[int]], None]

_STANDARD = 3
_SO_PASSCRED = getattr(socket, "SO_PASSCRED", 16)


def begin(
    name: str, descriptors: Sequence[int], account: Account, serve: Serve, *, credentials: bool = False
) -> socket.socket:
    """Fork it, and have it serve.

    Args:
        name: of the process, as ps(1) and top(1) show it; 15 bytes at most (proc(5)).
        descriptors: that are its; the caller closes its own.
        account: whose rights it has.
        credentials: whether it is told who asks, with each message.
        serve: is called there with its socket and its descriptors, and returns when nobody asks any more.

    Returns:
        Our end of the socket, which keeps messages apart (SOCK_SEQPACKET).

    Raises:
        OSError: there is no process, or no socket.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        theirs.setsockopt(socket.SOL_SOCKET, _SO_PASSCRED, credentials)
        child = os.fork()
        if child == 0:
            _leave(name, theirs, descriptors, account, serve)
        with suppress(ChildProcessError):  # where SIGCHLD is ignored
            os.waitpid(child, 0)  # its own child goes on
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours


def _leave(name: str, sock: socket.socket, descriptors: Sequence[int], account: Account, serve: Serve) -> NoReturn:
    """Detach from the parent, so that code that waits for the daemon's children does not meet it."""
    code = 1
    try:
        if os.fork() == 0:
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
                with suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            own, *others = _only([sock.detach(), *descriptors])
            with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as comm:
                comm.write(name)
            privileges.drop(privileges.PreparedDrop(privileges.Wanted(account, None), -1))
            close_to_others()
            serve(socket.socket(fileno=own), others)
        code = 0
    finally:
        os._exit(code)


def _only(descriptors: Sequence[int]) -> list[int]:
    """Keep these descriptors, from 3 on; the standard ones become /dev/null."""
    os.chdir("/")
    high = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, _STANDARD + len(descriptors)) for one in descriptors]
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(_STANDARD):
        os.dup2(null, number)
    for place, one in enumerate(high, _STANDARD):
        os.dup2(one, place, inheritable=False)
    os.closerange(_STANDARD + len(high), os.sysconf("SC_OPEN_MAX"))
    return list(range(_STANDARD, _STANDARD + len(high)))


__all__ = ["begin"]
