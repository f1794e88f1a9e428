# SPDX-License-Identifier: MIT
"""Long work of the process itself, in slices: a little of it in each turn, and clients are served in between.

What a handler does is its author's affair; this is for what an administrator asks for, such as a list of all
connections.  The work is an iterator, and a slice is as many of its steps as there is time for.  A step is short,
so that a slice is not much longer than it is to be, and one that raises is the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sockd.net.loop.loop import EventLoop

SLICE_SECONDS = 0.002
"""Of one turn; a step in which it ends is finished."""


def run_slice(steps: Iterator[object], clock: Callable[[], float]) -> bool:
    """Do as many steps as there is time for, at least one; return whether there may be more.

    Args:
        steps: the work; next() does a step of it.
        clock: in seconds.
    """
    end = clock() + SLICE_SECONDS
    return any(clock() >= end for _ in steps)


def run_in_slices(loop: EventLoop, steps: Iterator[object], failed: Callable[[], None]) -> None:
    """Do all steps: a slice at once, another with the callbacks of this turn, and one in each that follows.

    Args:
        failed: called when a step has raised, which is reported as a defect.
    """

    def next_slice() -> None:
        if run_slice(steps, loop.clock):
            loop.call_soon(guarded)

    guarded = loop.guarded(next_slice, failed)
    loop.attempt(guarded)


__all__ = ["SLICE_SECONDS", "run_in_slices", "run_slice"]
