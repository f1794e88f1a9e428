# SPDX-License-Identifier: MIT
"""The first thing that `sockd` does: signals wait until there is who notes them (sockd.process.signals).

All else takes a tenth of a second to be imported, in which HUP, or a TERM from who has just started it, would end it by
its default action.  Before this there is only Python's own beginning.  Source: sigprocmask(2).
"""

from __future__ import annotations

import signal

KINDS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def main() -> int:
    """Run `sockd`; return its exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, KINDS)
    from sockd.cli.sockd import main as run

    return run()


__all__ = ["main"]
