# SPDX-License-Identifier: MIT
"""The share of a turn that handlers have: measured here, planned by the C core (csrc/mux_share.c).

The core hands out as many frames as it expects to take 5 ms, according to earlier measurements. A handler that is slow
now and then is only noticed while it runs: so the clock is read between frames, and when a turn is far over its plan,
the rest is returned to its connections for the next turn.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from sockd._sockbuf import lib
from sockd.net.c_layout import layout, place

if TYPE_CHECKING:
    from collections.abc import Iterator

SPENT_NS = 500_000
"""Time for frames of one group before the core is told: a tenth of its planned turn."""
LATE_NS = 20_000_000
"""Time for frames of one group before the rest is put off: four times what the core plans."""
FIRST_CHECK = 64
"""Frames handled before the clock is first read: as many milliseconds for a handler that takes one."""
LATER_CHECKS = 1024
"""Then after each so many, because a reading costs 0.3 us."""
CHECK_EVERY = 15
"""The clock is read at every 16th event, because an event may have only one frame."""
EVENT = layout("sb_event")
PART = layout("sb_part")
EVENT_SIZE = EVENT.size

_EVENTS, _LEFT = place("sb_counts", "events"), place("sb_counts", "left")
_FRAMES: int = lib.SB_EVENT_FRAMES
_WRONG: int = lib.SB_EVENT_WRONG


def looks(count: int) -> Iterator[tuple[int, int]]:
    """Yield the frames between two readings of the clock, as (first, end) of `count`."""
    at, end = 0, FIRST_CHECK
    while end < count:
        yield at, end
        at, end = end, end + LATER_CHECKS
    yield at, count


class Turn:
    """Measures the time for the frames of each group.

    Args:
        handle: the C table.
        counts: its sb_counts.
        events: its events.
        parts: and their parts.

    Attributes:
        group: whose frames are being handled; -1: none.
    """

    __slots__ = ("_counts", "_events", "_mux", "_parts", "_since", "group")

    def __init__(self, handle: Any, counts: memoryview, events: memoryview, parts: memoryview) -> None:  # noqa: ANN401
        self._mux = handle
        self._counts = counts
        self._events = events
        self._parts = parts
        self._since = 0
        self.group = -1

    def start_group(self, group: int) -> int:
        """Start to measure the frames of a group, whose events are adjacent; report those of the previous group to the
        core.

        Returns:
            The group.
        """
        now = perf_counter_ns()
        spent = now - self._since
        if self.group >= 0 and (spent >= SPENT_NS or self._counts[_LEFT]):
            lib.sb_mux_spent(self._mux, self.group, spent)
        self.group, self._since = group, now
        return group

    @property
    def is_late(self) -> bool:
        """Whether the frames of this group have taken far more of the turn than planned."""
        return perf_counter_ns() - self._since >= LATE_NS

    def in_time(self, frames: list[Any]) -> Iterator[Any]:
        """Yield frames while there is time for them."""
        for at, end in looks(len(frames)):
            if at and self.is_late:
                return
            yield from frames[at:end]

    def cut(self, index: int, frames: int) -> None:
        """Handle only the first frames of an event; the others come again in the next turn.

        Raises:
            ValueError: it does not have that many.
        """
        if lib.sb_mux_cut(self._mux, index, frames) < 0:
            raise ValueError("the event does not have that many frames")

    def put_off(self, index: int) -> None:
        """Return the frames of an event and of all later ones, without calling their handlers."""
        given_back: set[int] = set()
        for at in range(index, self._counts[_EVENTS]):
            kind, *about = EVENT.unpack_from(self._events, at * EVENT_SIZE)
            id, _, first, _, _, count = about
            if kind == _FRAMES:
                given_back.update([id] if id >= 0 else [id for id, _ in self.parts(first, count)])
                self.cut(at, 0)
            elif not (kind == _WRONG and id in given_back):  # which is found once more, behind them
                continue
            EVENT.pack_into(self._events, at * EVENT_SIZE, 0, *about)

    def parts(self, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Yield (id, frames) of each connection whose frames make up a merged event."""
        while count > 0:
            id, frames, _ = PART.unpack_from(self._parts, first * PART.size)
            yield id, frames
            first += 1
            count -= frames

    def sized_parts(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Do the same, with the bytes of each."""
        for at, (id, frames) in enumerate(self.parts(first, count), first):
            yield id, frames, PART.unpack_from(self._parts, at * PART.size)[2]
