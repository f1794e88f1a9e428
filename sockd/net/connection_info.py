"""What the C core knows: of one connection, and of all connections of a group together."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockd._sockbuf import lib
from sockd.wire.state import CloseReason

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

REASONS: int = lib.SB_REASONS
INFO = struct.Struct("=iiiiiIqqqqqq32s")
TOTALS = struct.Struct(f"={6 + REASONS}q")


class Which(enum.IntEnum):
    """Which connections are asked for."""

    LIVE = lib.SB_LIST_LIVE
    """Those that have not ended."""
    OPEN = lib.SB_LIST_OPEN
    """Of these, those that are not being closed."""
    QUIET = lib.SB_LIST_QUIET
    """Of these, those that are in the middle of nothing."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """What is known of a connection; `peer` is a packed sockaddr, empty when it has no name."""

    fd: int
    group: int
    open: bool
    reason: CloseReason
    error: int
    received: int
    sent: int
    frames: int
    unsent: int
    unframed: int
    elapsed: float
    peer: bytes

    @classmethod
    def unpack(cls, data: ReadableBuffer) -> Info:
        """Read a struct sb_info."""
        fd, group, is_open, reason, error, peer_size, received, sent, frames, unsent, unframed, elapsed, peer = (
            INFO.unpack(data)
        )
        return cls(
            fd=fd,
            group=group,
            open=bool(is_open),
            reason=CloseReason(reason),
            error=error,
            received=received,
            sent=sent,
            frames=frames,
            unsent=unsent,
            unframed=unframed,
            elapsed=elapsed / 1000,
            peer=peer[:peer_size],
        )


@dataclass(frozen=True)
class Totals:
    """Numbers that only grow, but for `open` and `unsent`.

    Attributes:
        came: connections.
        open: of these, not ended.
        received, sent: bytes.
        frames: that came.
        unsent: bytes that wait for the kernel now.
        reasons: how many connections ended for each CloseReason, by its number.
    """

    came: int = 0
    open: int = 0
    received: int = 0
    sent: int = 0
    frames: int = 0
    unsent: int = 0
    reasons: tuple[int, ...] = (0,) * REASONS

    @classmethod
    def unpack(cls, data: ReadableBuffer) -> Totals:
        """Read a struct sb_totals."""
        came, live, received, sent, frames, unsent, *reasons = TOTALS.unpack(data)
        return cls(came, live, received, sent, frames, unsent, tuple(reasons))

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.came + other.came,
            self.open + other.open,
            self.received + other.received,
            self.sent + other.sent,
            self.frames + other.frames,
            self.unsent + other.unsent,
            tuple(one + two for one, two in zip(self.reasons, other.reasons, strict=True)),
        )
