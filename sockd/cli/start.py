# SPDX-License-Identifier: MIT
"""The first step of `sockd`: block signals until their handlers are installed (sockd.process.signals), and note which
descriptors are inherited, before a library opens one of its own (sockd.process.descriptors).

Importing the rest takes a tenth of a second, in which HUP, or a TERM from the process that started it, would kill it
by the default action.  Only Python's own start-up comes before.  Source: sigprocmask(2).
"""

from __future__ import annotations

import gc
import signal

KINDS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def main() -> int:
    """Run `sockd`; return its exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, KINDS)
    from sockd.process.descriptors import list_inherited

    list_inherited()
    gc.disable()  # what is imported stays; sockd.daemon.startup enables it, once handlers are imported too
    from sockd.cli.sockd import main as run

    gc.freeze()  # else the interpreter looks for cycles in all of it at its end; what handlers import is looked at
    return run()


__all__ = ["main"]
