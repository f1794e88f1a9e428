# SPDX-License-Identifier: MIT
"""Deadlines of peers, which do not run while the loop itself stands still.

A loop that was held up (a slow handler, SIGSTOP, a paused machine) has not looked at what its peers sent, nor
answered them, so none of them is late by its own doing.  A deadline that is itself met too late is given anew, whole,
but only so often: a daemon that is always late lets its silent peers go in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop.loop import EventLoop

LATE_SECONDS = 0.25
LATE_SHARE = 0.5
"""A timer that fires later than both, the second of its own time, tells of a loop that stood still for so long that the
peer has had no fair part of it."""
MAX_EXTENSIONS = 3


class Deadline:
    """Calls back when a peer has had its time.

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
        self._timer = loop.call_later(seconds if self._is_unfair(-left) else max(0.0, left), self._due)

    def _is_unfair(self, lateness: float) -> bool:
        return lateness > max(LATE_SECONDS, LATE_SHARE * self._seconds)

    def _due(self) -> None:
        if self._is_unfair(self._loop.clock() - self._timer.when) and self._extensions < MAX_EXTENSIONS:
            self._extensions += 1
            self._timer = self._loop.call_later(self._seconds, self._due)
        else:
            self._passed()

    def cancel(self) -> None:
        """Take it back; harmless when it has passed."""
        self._timer.cancel()


__all__ = ["Deadline"]
