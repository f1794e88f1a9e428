# SPDX-License-Identifier: MIT
"""Token buckets, one for each source, with a limit on how many are kept.

Pure bookkeeping: no socket, and the caller passes the clock.  The source that was idle longest is dropped first: its
bucket has had the most time to fill.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

BUCKETS = 65_536
"""Limit of sources; some 16 MB."""


class TokenBuckets:
    """Allow each source `burst` tokens at once and `speed` a second.

    Args:
        burst: size of a bucket, and its initial content.
        speed: tokens per second that fill it.
        clock: seconds, never going back.
        grace: the first seconds of a silence, which fill nothing.  With a grace a bucket fills only while its source
            is quiet, so that a conversation without pauses ends at any speed.
    """

    def __init__(self, burst: float, speed: float, clock: Callable[[], float], *, grace: float = 0) -> None:
        self._burst = burst
        self._speed = speed
        self._clock = clock
        self._grace = grace
        self._rows: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def consume(self, source: Hashable, tokens: float = 1) -> bool:
        """Take tokens from a source's bucket; False, and nothing taken, if it has fewer."""
        now = self._clock()
        row = self._rows.get(source)
        level = self._burst if row is None else self._filled(row, now)
        enough = level >= tokens
        self._rows[source] = (level - tokens if enough else level, now)
        self._rows.move_to_end(source)
        self._forget(now)
        return enough

    def _filled(self, row: tuple[float, float], now: float) -> float:
        level, at = row
        return min(self._burst, level + max(0.0, now - at - self._grace) * self._speed)

    def _forget(self, now: float) -> None:
        """Drop up to two of the oldest: more than are added, at a constant cost."""
        for _ in range(2):
            oldest = next(iter(self._rows))
            if len(self._rows) <= BUCKETS and self._filled(self._rows[oldest], now) < self._burst:
                return
            del self._rows[oldest]
            if not self._rows:
                return
