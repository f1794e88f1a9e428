# SPDX-License-Identifier: MIT
"""The first step of `sockd`: block signals until their handlers are installed (sockd.process.signals), and note which
descriptors are inherited, before a library opens one of its own (sockd.process.descriptors).  And its last one.

Importing the rest takes a tenth of a second, in which HUP, or a TERM from the process that started it, would kill it
by the default action.  Only Python's own start-up comes before.  Source: sigprocmask(2).
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from typing import NoReturn

from sockd.lazy.modules import without

KINDS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
LOADER = "sockd.services.loader"
"""It imports handlers: without it there is no code of others in this process."""


def main() -> int:
    """Run `sockd`; return its exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, KINDS)
    gc.disable()  # what is imported stays; sockd.daemon.startup enables it, once handlers are imported too
    from sockd.process.descriptors import list_inherited

    list_inherited()
    with without("traceback"):  # and with it textwrap and tokenize: only the log of an exception uses it
        import logging  # noqa: F401 - for what it imports
    from sockd.cli.sockd import main as run

    gc.freeze()  # else the interpreter looks for cycles in all of it at its end; what handlers import is looked at
    code = run()
    if LOADER not in sys.modules:
        _leave(code)
    gc.unfreeze()  # what is frozen holds what handlers have made, whose __del__ is called only then
    return code


def _leave(code: int) -> NoReturn:
    """End this process as the interpreter does, but for freeing all objects one by one, which takes as long as
    importing a fifth of them.
    """
    import threading

    from sockd.process.descriptors import flush_streams

    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Py_FinalizeEx()
    atexit._run_exitfuncs()  # as a process of multiprocessing does at its end
    flush_streams()
    os._exit(code)


__all__ = ["main"]
