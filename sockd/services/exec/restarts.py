# SPDX-License-Identifier: MIT
"""When a program that has a listening or datagram socket is started again after its end, and what of that is logged.

What waited in the kernel when a program died waits still, so the socket is ready at once: started again without a
pause, a program that dies at once would cost a processor and a log.  A streak of such ends is paced, and of its lines
those of the 1st, the 10th, the 100th and so on are written.  Pure bookkeeping: no socket, no timer, no logger.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.process.program import ExitStatus

    Head = tuple[bytes, object]

QUICK_SECONDS = 1.0
"""Who lived for so long has not died at once: a start a second costs little."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
"""A start in 10 s costs nothing, and who mends the program does not wait long (xinetd's default: cps = 50 10)."""
PACE_SECONDS = 0.2
"""Of programs that exit with 0 at once: some 300 a minute; inetd(8) starts 256."""


class Outcome(Enum):
    """What a run was good for."""

    WORKED = "it lived for a while, or what waited has been received"
    FAILED = "it died at once, or exited with 0 at once and what waited still waits"
    UNKNOWN = "it exited with 0 at once, clients wait, and whether they are others cannot be seen"


def outcome(how: ExitStatus, *, before: Head | None, after: Head | None, is_ready: bool) -> Outcome:
    """Judge a run.

    Args:
        how: it ended.
        before, after: the first datagram that waited at its start, and now; None for none, and for streams.
        is_ready: whether something waits now.
    """
    if how.seconds >= QUICK_SECONDS:
        return Outcome.WORKED
    if how.exit_code != 0:
        return Outcome.FAILED
    if not is_ready:
        return Outcome.WORKED
    if after is None:
        return Outcome.UNKNOWN
    return Outcome.FAILED if before == after else Outcome.WORKED


class Restarts:
    """The pace of starts on one socket.

    Args:
        clock: seconds, never going back.

    Attributes:
        streak: runs in a row that have not worked.
        not_before: when the next one may be started.
        failed: runs that have failed since the start.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.streak = 0
        self.not_before = clock()
        self.failed = 0

    @property
    def pause(self) -> float:
        """Seconds until the next one may be started."""
        return max(0.0, self.not_before - self._clock())

    @property
    def is_next_logged(self) -> bool:
        """Whether the next run is logged if it fails."""
        return is_power_of_ten(self.streak + 1)

    def count(self, how: Outcome) -> None:
        """Count a run, and set the pause after it."""
        if how is Outcome.WORKED:
            self.streak = 0
            self.not_before = self._clock()
            return
        self.streak += 1
        self.failed += how is Outcome.FAILED
        longest = LONGEST_PAUSE_SECONDS if how is Outcome.FAILED else PACE_SECONDS
        doublings = min(self.streak - 1, 16)  # beyond which every pause is the longest
        self.not_before = self._clock() + min(longest, FIRST_PAUSE_SECONDS * 2**doublings)


def is_power_of_ten(number: int) -> bool:
    """Tell whether a number is 1, 10, 100 ..."""
    return str(number).rstrip("0") == "1"


__all__ = ["QUICK_SECONDS", "Head", "Outcome", "Restarts", "is_power_of_ten", "outcome"]
