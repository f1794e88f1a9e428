# SPDX-License-Identifier: MIT
"""Deadlines of peers, which do not run while the loop itself is blocked.

A loop that was blocked (a slow handler, SIGSTOP, a paused machine) has neither read what its peers sent, nor answered
them, so none of them is late by its own fault.  A deadline that is itself noticed too late is renewed, in full, but
only a few times: a daemon that is always late still closes its silent peers in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop.loop import EventLoop

LATE_SECONDS = 0.25
LATE_SHARE = 0.5
"""A timer that fires later than both, a second and its own time, shows that the loop was blocked so long that the
peer has had no fair share of the time.
"""
MAX_EXTENSIONS = 3


def is_unfair(lateness: float, seconds: float) -> bool:
    """Return whether a timer of `seconds` that fires so late shows that the loop was blocked."""
    return lateness > max(LATE_SECONDS, LATE_SHARE * seconds)


class Deadline:
    """Calls back when a peer's time is over.

    Args:
        loop: whose clock measures.
        seconds: from now on.
        passed: called once, unless cancel() comes first.
        abort: ends the peer's descriptor if `passed` fails; see EventLoop.guarded.
        began: when the time began, if that was earlier, by the loop's clock.
    """

    def __init__(
        self,
        loop: EventLoop,
        seconds: float,
        passed: Callable[[], None],
        abort: Callable[[], None] | None = None,
        *,
        began: float | None = None,
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._passed = passed if abort is None else loop.guarded(passed, abort)
        self._extensions = 0
        now = loop.clock()
        left = seconds if began is None else began + seconds - now
        self._timer = loop.call_later(seconds if is_unfair(-left, seconds) else max(0.0, left), self._due)

    def _due(self) -> None:
        if is_unfair(self._loop.clock() - self._timer.when, self._seconds) and self._extensions < MAX_EXTENSIONS:
            self._extensions += 1
            self._timer = self._loop.call_later(self._seconds, self._due)
        else:
            self._passed()

    def cancel(self) -> None:
        """Cancel it; harmless when it has passed."""
        self._timer.cancel()


__all__ = ["MAX_EXTENSIONS", "Deadline", "is_unfair"]
