# SPDX-License-Identifier: MIT
"""Forking a process that already serves: the child starts with signal handlers of its own.

Source: fork(2), signal(7); PEP 475, signal.set_wakeup_fd.
"""

from __future__ import annotations

import gc
import os
import signal
from typing import TYPE_CHECKING

from sockd.errors import TemporaryFault
from sockd.process.descriptors import flush_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sockd.process.signals import Signals


def fork(run: Callable[[Signals], int], signals: Signals) -> int:
    """Fork; return the new process's pid.

    Args:
        run: called in the new process, which ends with the exit code that it returns; with the signals of that process,
            which are noted from its first moment on.
        signals: of the parent.

    Raises:
        TemporaryFault: no process can be had.
    """
    flush_streams()
    gc.freeze()  # what is there now is shared, as long as no collector marks it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _live(run, signals, before)
    except OSError as error:
        raise TemporaryFault(f"fork(2): {error.strerror}") from None
    finally:
        gc.unfreeze()  # here, where what a reload has replaced is to be collected
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _live(run: Callable[[Signals], int], signals: Signals, mask: Iterable[int]) -> None:
    """Run, and exit without running what the parent has on its stack."""
    code = 1
    try:
        own = signals.anew()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = run(own)
        flush_streams()
    finally:
        os._exit(code)


def how_it_ended(status: int) -> dict[str, object]:
    """Describe how a process ended, for the log, from the status of waitpid(2)."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return {"exit_code": code}
    try:
        return {"signal": signal.Signals(-code).name.removeprefix("SIG")}
    except ValueError:  # a real-time signal between the first and the last has no name
        return {"signal": str(-code)}
