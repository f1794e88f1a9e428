# SPDX-License-Identifier: MIT
"""Waiting for what a loop serves to come to a state: looked at behind turns, and never between them.

What a loop serves changes in its turns alone: connections end, programs are reaped, threads hand back what they have
done, timers are due.  So who waits for a state - nobody is left, say - looks behind each turn, and an idle loop sleeps.
A look may cost as much as there are connections; so one that comes soon behind another is put off a little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop.loop import EventLoop, Timer

PAUSE_SECONDS = 0.02
"""Between two looks."""


class TurnWatch:
    """Looks behind turns.

    Args:
        loop: whose.
        look: called at once, behind turns, and when it is due; what it raises is reported, and keeps no later
            look from coming.
    """

    def __init__(self, loop: EventLoop, look: Callable[[], None]) -> None:
        self._loop = loop
        self._look = look
        self._timer: Timer | None = None
        self._next = loop.clock()
        loop.behind_turns.append(self._turned)
        loop.call_soon(self._nothing)  # for a turn: the first look

    def _nothing(self) -> None:
        """Be a turn."""

    def _turned(self) -> None:
        now = self._loop.clock()
        if now >= self._next:
            self._next = now + PAUSE_SECONDS
            self._look()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._next - now, self._is_due)

    def _is_due(self) -> None:
        self._timer = None  # this turn is one, too

    def cancel(self) -> None:
        """Look no more; again does nothing."""
        if self._timer is not None:
            self._timer.cancel()
        if self._turned in self._loop.behind_turns:
            self._loop.behind_turns.remove(self._turned)


__all__ = ["TurnWatch"]
