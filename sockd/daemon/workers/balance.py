# SPDX-License-Identifier: MIT
"""Connections go to whoever has fewest, where several processes accept on one socket.

The kernel wakes all that wait, and the first to come takes the connection: on an idle machine always the same one.
So each process writes down, in memory that all of them share, how many connections it has; whoever is ahead of the
others leaves a new one to them for a moment, and takes it when nobody has.
"""

from __future__ import annotations

import mmap

ABSENT = 2**31 - 1
"""Of a process that does not accept."""
SLACK = 1
SHARE = 16
"""How far ahead one may be: by SLACK, and one in so many of its connections."""
_INT_BYTES = 4


class SharedConnectionCounts:
    """How many connections each process of a generation has.

    Args:
        size: processes; made before they are forked.

    Attributes:
        counts: of each, by its place.
        accepted: whether each has accepted anybody.
    """

    def __init__(self, size: int) -> None:
        memory = memoryview(mmap.mmap(-1, 2 * size * _INT_BYTES)).cast("i")
        self.counts = memory[:size]
        self.accepted = memory[size:]
        for place in range(size):
            self.leave(place)

    def leave(self, place: int) -> bool:
        """Note that one does not accept any more; tell whether it has accepted anybody."""
        had_client = bool(self.accepted[place])
        self.counts[place], self.accepted[place] = ABSENT, 0
        return had_client


class WorkerSlot:
    """The part of one process.

    Args:
        place: its own, from 0 on.
    """

    def __init__(self, balance: SharedConnectionCounts, place: int) -> None:
        self._balance = balance
        self._place = place

    def begin(self) -> None:
        """Accept from now on."""
        self._balance.counts[self._place] = 0

    def end(self) -> None:
        """Accept no more."""
        self._balance.counts[self._place] = ABSENT

    def is_ahead(self, own: int) -> bool:
        """Tell whether a new connection had better go to another one; `own` connections are here."""
        counts = self._balance.counts
        counts[self._place] = own
        is_ahead = own > min(counts) + SLACK + own // SHARE
        self._balance.accepted[self._place] |= not is_ahead
        return is_ahead


__all__ = ["SharedConnectionCounts", "WorkerSlot"]
