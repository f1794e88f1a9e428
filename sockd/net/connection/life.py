# SPDX-License-Identifier: MIT
"""The states of a Connection: what may still be said on it, and whether what comes is delivered.

    NEW -> OPEN -> FINISHING -> CLOSING -> ENDED           each may be left out; ENDED is the last one
    ON <-> PAUSED, and either -> OFF                       OFF with CLOSING: nothing is delivered any more

The C core has the states of the row (csrc/state.c): FIN sent, FIN received, descriptor closed.  This module only has
the requests of the handler, which the core gets after the output of the turn.
"""

from __future__ import annotations

from enum import Enum

from sockd.net.loop.state_table import StateTable


class Life(Enum):
    """What may still be said on a connection."""

    NEW = "the handler was not notified of it"
    OPEN = "both sides speak"
    FINISHING = "write_eof(): nothing more is written, and input is delivered"
    CLOSING = "close() or abort(): what was written leaves, and no input is delivered"
    ENDED = "the handler was notified of the end, or another process has the connection"


class Reading(Enum):
    """Whether the input of a connection is delivered."""

    ON = "it is"
    PAUSED = "the handler wants none for now"
    OFF = "the connection is closing"


LIFE = StateTable(
    {
        Life.NEW: (Life.OPEN, Life.FINISHING, Life.CLOSING, Life.ENDED),  # FINISHING: as another process left it
        Life.OPEN: (Life.FINISHING, Life.CLOSING, Life.ENDED),
        Life.FINISHING: (Life.CLOSING, Life.ENDED),
        Life.CLOSING: (Life.ENDED,),
        Life.ENDED: (),
    }
)
READING = StateTable(
    {
        Reading.ON: (Reading.PAUSED, Reading.OFF),
        Reading.PAUSED: (Reading.ON, Reading.OFF),
        Reading.OFF: (),
    }
)

__all__ = ["LIFE", "READING", "Life", "Reading"]
