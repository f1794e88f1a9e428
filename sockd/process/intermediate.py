# SPDX-License-Identifier: MIT
"""The intermediate process of an upgrade: the parent of the new process until that takes over.

A service manager is told by the kernel how its own children end, and an orphan becomes its child.  A child of the old
process is neither, as long as that runs for what could not move: systemd then says that the main process is "not our
child".  Hence the program that the old process starts forks first.  While the new process may still fail, the
intermediate one ends as that ends, which the old process, its parent, can read; TERM has it kill the new process.  When
the old process kills it, the new one is an orphan, before it is made the main process.
Source: wait(2); sd_notify(3), MAINPID; prctl(2), PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import gc
import os
import signal
from typing import NoReturn

from sockd.errors import fault
from sockd.process.descriptors import close_inherited
from sockd.process.syscalls import close_to_others


def stand_between() -> None:
    """Go on in a child of this process, which does not return.

    Call it while there is one thread.

    Raises:
        SystemFault: the kernel refuses another process.
    """
    close_to_others()  # the environment is in its memory too; and the core file is that of the child
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        child = os.fork()
    except OSError as error:  # TasksMax= of a unit
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise fault(error, "cannot start the new process of an upgrade") from None
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    gc.freeze()
    close_inherited()  # the channel: the old process reads its end when the child has ended
    _end_like(_wait_for(child))


def _wait_for(child: int) -> int:
    """Return its exit code, negative for a signal; kill it at TERM."""
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if signal.sigwait({signal.SIGCHLD, signal.SIGTERM}) == signal.SIGTERM:
            os.kill(child, signal.SIGKILL)  # it has not been reaped, so its number is nobody else's
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _end_like(code: int) -> NoReturn:
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
    os._exit(code)


__all__ = ["stand_between"]
