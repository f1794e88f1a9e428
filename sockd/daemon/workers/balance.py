# SPDX-License-Identifier: MIT
"""Balancing: a connection goes to the process with the fewest, where several accept on one socket.

The kernel wakes all that wait, and the first one accepts: on an idle machine always the same one. So each process
writes its number of connections into shared memory; a process that is ahead of the others leaves a new connection to
them for a moment, and accepts it if none has.
"""

from __future__ import annotations

import mmap

ABSENT = 2**31 - 1
"""Count of a process that does not accept."""
SLACK = 1
SHARE = 16
"""How far ahead a process may be: by SLACK, and one in so many of its connections."""
_INT_BYTES = 4


class SharedConnectionCounts:
    """The number of connections of each process of a generation.

    Args:
        size: processes; made before they are forked.

    Attributes:
        counts: of each, by its place.
        accepted: whether each has accepted any.
    """

    def __init__(self, size: int) -> None:
        memory = memoryview(mmap.mmap(-1, 2 * size * _INT_BYTES)).cast("i")
        self.counts = memory[:size]
        self.accepted = memory[size:]
        for place in range(size):
            self.leave(place)

    def leave(self, place: int) -> bool:
        """Record that a process no longer accepts; return whether it has accepted any connection."""
        had_client = bool(self.accepted[place])
        self.counts[place], self.accepted[place] = ABSENT, 0
        return had_client


class WorkerSlot:
    """The slot of one process.

    Args:
        place: its own, from 0 on.
    """

    def __init__(self, balance: SharedConnectionCounts, place: int) -> None:
        self._balance = balance
        self._place = place

    def begin(self) -> None:
        """Start accepting."""
        self._balance.counts[self._place] = 0

    def end(self) -> None:
        """Stop accepting."""
        self._balance.counts[self._place] = ABSENT

    def is_ahead(self, own: int) -> bool:
        """Return whether another process should accept the next connection; `own` connections are here."""
        counts = self._balance.counts
        counts[self._place] = own
        is_ahead = own > min(counts) + SLACK + own // SHARE
        self._balance.accepted[self._place] |= not is_ahead
        return is_ahead


__all__ = ["SharedConnectionCounts", "WorkerSlot"]
