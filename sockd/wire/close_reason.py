# SPDX-License-Identifier: MIT
"""Why a connection ended: a closed list, exactly one reason for each connection.

The numbers are those of `enum sb_reason` in csrc/sockbuf.h, where the states
themselves are kept; a test holds the two lists together.
"""

from __future__ import annotations

import enum


class CloseReason(enum.IntEnum):
    """Why a connection ended; str() is the word in the log and the metrics, such as `frame-too-long`."""

    NONE = 0
    """The connection is open."""
    EOF = 1
    """The peer sent its FIN and was answered."""
    CLOSED = 2
    """The service ended it."""
    RESET = 3
    """RST, or a send to a peer that is gone (FAQ II.1)."""
    UNREACHABLE = 4
    """The network gave up (FAQ II.8)."""
    TRUNCATED = 5
    """The peer's FIN came inside a frame; the piece was not delivered."""
    FRAME_TOO_LONG = 6
    """A frame was longer than its limit."""
    IDLE_TIMEOUT = 7
    """Nothing was received for the idle timeout."""
    WRITE_STALL = 8
    """Unsent output, and the peer took nothing for the idle timeout."""
    LIMIT = 9
    """Memory, descriptors, or more unsent output than is allowed."""
    HANDLER_ERROR = 10
    """The handler raised an exception, or returned what cannot be sent."""
    SHUTDOWN = 11
    """The daemon is stopping."""
    ABORTED = 12
    """The service closed with RST (abort)."""
    FRAME_TIMEOUT = 13
    """A frame was not whole so long after its first byte."""
    MALFORMED = 14
    """The bytes are no frame."""
    REFUSED = 15
    """The peer's address is denied, or a limit was reached."""
    HALF_CLOSE_TIMEOUT = 16
    """One side of a relayed pair has ended, and the other one was silent for that timeout."""

    def __str__(self) -> str:
        """Return the word: `frame-too-long`."""
        return self.name.lower().replace("_", "-")
