# SPDX-License-Identifier: MIT
"""The states of a listener, whether it accepts connections or receives datagrams.

    NEW -> OPEN -> CLOSING -> CLOSED          CLOSING may be left out: datagrams have no handshake
                `-> DEAD ----/
                `-> LEFT

NEW leads wherever OPEN does: one that was never started is closed, too.
From LEFT nothing leads on: what happens to the socket is the affair of whoever has it now.  A listener that is DEAD is
closed as others are, for clients that it has accepted may still wait for their header or their handshake.  Whether one
waits until there is room is no state of it: one that closes may do so as well.
"""

from __future__ import annotations

from enum import Enum

from sockd.net.loop.state_table import StateTable


class ListenerState(Enum):
    """What a listener does with its socket."""

    NEW = "nothing is accepted or received yet"
    OPEN = "clients are accepted, or datagrams answered"
    CLOSING = "new clients are refused; those that are in the middle of a handshake are accepted"
    DEAD = "another process has shut the socket down, which is closed"
    LEFT = "another listener or another process has the socket"
    CLOSED = "what had come was served, and the socket is closed, or will be with the last answer"


GONE = (ListenerState.DEAD, ListenerState.LEFT, ListenerState.CLOSED)
"""The states in which nothing more is accepted or received."""
LISTENER = StateTable(
    {
        ListenerState.NEW: (ListenerState.OPEN, ListenerState.CLOSING, *GONE),
        ListenerState.OPEN: (ListenerState.CLOSING, *GONE),
        ListenerState.CLOSING: (ListenerState.LEFT, ListenerState.CLOSED),
        ListenerState.DEAD: (ListenerState.CLOSED,),
        ListenerState.LEFT: (),
        ListenerState.CLOSED: (),
    }
)

__all__ = ["GONE", "LISTENER", "ListenerState"]
