"""What of a Connection, and of its handler, goes along to another process; the rest is in its row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Snapshot:
    """A connection between two of its events.

    Args:
        is_paused: its handler wants no input now.
        is_finishing: write_eof() was called.
        is_high: its handler was told to pause writing, and not to resume yet.
        water: low and high water mark, in bytes.
        framing: as sockd.wire.framing.spell says it.
        handler: what its protocol's snapshot() returned; None for a function.
    """

    is_paused: bool
    is_finishing: bool
    is_high: bool
    water: tuple[int, int]
    framing: tuple[str, list[Any]]
    handler: Any
