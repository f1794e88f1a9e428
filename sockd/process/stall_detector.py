# SPDX-License-Identifier: MIT
"""Reports a handler that blocks the loop, while it does: its name, its line, the stack.

An interval timer (setitimer(2), SIGALRM) ticks while the loop is busy.  A tick that finds the loop in the same turn as
the ticks before it examines the interrupted frame: no thread is needed, and a turn costs two additions.  An idle loop
has no timer.  C code that never returns to Python is only seen when it does.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

logger = logging.getLogger("sockd.loop")

TICKS = 2
"""Ticks in the time after which is reported: the report comes after 1 to 1.5 times that time."""
OWN_TURNS = 2
"""A tick itself ends the wait, and then wakes the loop by the descriptor of all signals."""
STACK_FRAMES = 20
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class StallDetector:
    """Watches one loop, whose `watch` it becomes.

    Args:
        seconds: a turn that takes longer is reported.
        clock: the loop's.

    Attributes:
        turn: odd while the loop works, even while it waits; counted by the loop.
        armed: whether the timer runs.
        report: called at each tick of a turn that takes too long, in the handler of a signal, with its seconds and its
            place; the handler of a service may be anywhere in its code, but no code of ours is.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.turn = 0
        self.armed = False
        self.report: Callable[[float, Mapping[str, str]], None] = lambda _seconds, _place: None
        self._seconds = seconds
        self._clock = clock
        self._seen = 0
        self._since = 0.0
        self._next = seconds
        self._reported = False
        self._resting = 0
        self._previous = signal.signal(signal.SIGALRM, self._tick)

    def arm(self) -> None:
        """Start the timer; the loop has something to do again."""
        if self._resting:
            self._resting -= 1
            return
        self.armed = True
        if signal.getsignal(signal.SIGALRM) != self._tick:  # a handler of a service has used it
            signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, self._seconds / TICKS, self._seconds / TICKS)

    def close(self) -> None:
        """Stop the timer and give the signal back."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._previous)

    def _tick(self, _number: int, frame: FrameType | None) -> None:
        turns, self._seen = self.turn - self._seen, self.turn
        if turns or not self.turn % 2:
            self._note_turn(turns)
            return
        lasted = self._clock() - self._since
        if lasted >= self._next:
            self._reported = True
            self._next = 2 * lasted
            logger.warning("event loop stalled", extra={"event": {"seconds": round(lasted, 3), **_place(frame)}})
        if self._reported and not _is_ours(frame):
            self.report(lasted, _place(frame))

    def _note_turn(self, turns: int) -> None:
        now = self._clock()
        if self._reported:
            event = {"seconds": round(now - self._since, 3)}
            logger.warning("event loop resumed", extra={"event": event})
        self._reported = False
        self._since = now
        self._next = self._seconds
        if turns <= 2 * OWN_TURNS and not self.turn % 2:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.armed = False
            self._resting = OWN_TURNS


def _is_ours(frame: FrameType | None) -> bool:
    """Return whether code of this package was interrupted, which may be changing what others read."""
    return frame is None or frame.f_code.co_filename.startswith(PACKAGE)


def _place(frame: FrameType | None) -> dict[str, str]:
    """Return the name of the handler, where it is, and the stack from it on."""
    frames = [*_frames(frame)]
    inside = next((i for i, one in enumerate(frames) if one.f_code.co_filename.startswith(PACKAGE)), len(frames))
    called = frames[:inside][::-1]  # the handler first
    if not called:
        called = frames[:1]
    head = called[0]
    handler = f"{head.f_globals.get('__name__', '?')}:{head.f_code.co_qualname}"
    stack = " > ".join(f"{one.f_code.co_filename}:{one.f_lineno} {one.f_code.co_name}" for one in called[:STACK_FRAMES])
    return {"handler": handler, "at": f"{head.f_code.co_filename}:{head.f_lineno}", "stack": stack}


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
