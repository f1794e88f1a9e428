# SPDX-License-Identifier: MIT
"""Process 1, where that is sockd: a small init before the daemon, as in a container.

Orphans of the whole namespace become children of process 1, which has to wait for them; a daemon that did would take
away the ends of children that its handlers wait for.  So process 1 does nothing but that: it starts the daemon, passes
signals on, waits for whoever ends, and ends as the daemon does.
Source: pid_namespaces(7), wait(2), sigwait(3).
"""

from __future__ import annotations

import gc
import os
import signal

from sockd.process.descriptors import close_inherited

FIRST = 1
SIGNALLED = 128
"""Added to the number of the signal that ended the daemon, as shells do."""
NOT_PASSED = (signal.SIGCHLD, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT)


def stand_before() -> bool:
    """Go on in a process of its own where this is process 1, which does not return; tell whether that was so.

    Call it while there is one thread.

    Raises:
        OSError: of fork(2).
    """
    if os.getpid() != FIRST:
        return False
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    daemon = os.fork()
    if daemon == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return True
    gc.freeze()
    close_inherited()  # a listening socket that the daemon closes is to be closed
    os._exit(_wait_for(daemon))


def _wait_for(daemon: int) -> int:
    """Pass signals on and reap, until the daemon has ended; return what to end with."""
    signals = signal.valid_signals()
    while True:
        number = signal.sigwait(signals)
        if number not in NOT_PASSED:
            os.kill(daemon, number)  # it has not been reaped, so its number is nobody else's
        while (ended := _reaped()) is not None:
            pid, status = ended
            if pid == daemon:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else SIGNALLED - code


def _reaped() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


__all__ = ["FIRST", "stand_before"]
