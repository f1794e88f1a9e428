# SPDX-License-Identifier: MIT
"""Why a connection ended: a closed list, exactly one reason for each connection.

The numbers are those of `enum sb_reason` in csrc/sockbuf.h, where the states
themselves are kept; a test holds the two lists together.
"""

from __future__ import annotations

import enum


class CloseReason(enum.IntEnum):
    """One of a closed list; str() is the word in logs and metrics."""

    NONE = 0
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
    IDLE_TIMEOUT = 7
    WRITE_STALL = 8
    """Unsent output, and the peer took nothing for the idle timeout."""
    LIMIT = 9
    """Memory, descriptors, or more unsent output than is allowed."""
    HANDLER_ERROR = 10
    SHUTDOWN = 11
    """The daemon is stopping."""
    ABORTED = 12
    """The service closed with RST (abort)."""
    FRAME_TIMEOUT = 13
    """A frame was not whole so long after its first byte."""
    MALFORMED = 14
    """The bytes are no frame."""
    REFUSED = 15
    """Refused: an address that is denied, or a limit was reached."""
    HALF_CLOSE_TIMEOUT = 16
    """Of a relayed pair: one side has ended, and the other said nothing for so long."""

    def __str__(self) -> str:
        """Return the word: `frame-too-long`."""
        return self.name.lower().replace("_", "-")
