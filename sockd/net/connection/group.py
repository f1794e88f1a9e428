# SPDX-License-Identifier: MIT
"""What the connections of one service have in common, as the C table is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sockd._sockbuf import ffi, lib
from sockd.buffer.core import description
from sockd.values import dataclass
from sockd.wire.framing import Fixed, Packet, Raw, Record

if TYPE_CHECKING:
    from sockd.wire.framing import Framing

FIRST_COST_NS = 20_000
"""What a handler is thought to take for a frame until that was measured: a first burst holds nobody up."""
FIRST_PIECE_NS = 1_000_000
"""The same for 256 bytes where nothing is framed, which may be many frames."""

QUEUED_COST_NS = 1_000
"""And where it is only put aside."""


@dataclass(frozen=True, kw_only=True)
class GroupOptions:
    """What connections of one service have in common; times in seconds, sizes in bytes.

    Attributes:
        merge: frames of several connections may come in one event.
        announce: what is not frames is told of as well.
        wire: lines come with the CR that they had.
        kept: they may have the rows that are kept from others.
        is_queued: what comes is only put aside, for coroutines: a turn's share is theirs to keep.
    """

    framing: Framing
    serve: int
    merge: bool
    announce: bool
    wire: bool = False
    kept: bool = False
    is_queued: bool = False
    high_water: int
    max_buffer: int
    idle_timeout: float
    frame_timeout: float
    write_timeout: float
    linger_timeout: float


def describe(framing: Framing) -> Any:  # noqa: ANN401 - a cffi pointer
    """Describe a framing to the C core; a record's tuples are Python's business.

    Raises:
        ValueError: the limit is more than memory can be.
    """
    return description(Fixed(framing.size) if isinstance(framing, Record) else framing)


def _first_cost_ns(group: GroupOptions) -> int:
    if group.is_queued:
        return QUEUED_COST_NS
    return FIRST_PIECE_NS if isinstance(group.framing, Raw) else FIRST_COST_NS


def described(group: GroupOptions) -> Any:  # noqa: ANN401 - a cffi pointer
    """Describe a group to the C core; raises ValueError as describe()."""
    announce = lib.SB_GROUP_ANNOUNCE | lib.SB_GROUP_REPORTS_LINGERING
    flags = (lib.SB_GROUP_MERGE if group.merge else 0) | (announce if group.announce else 0)
    flags |= (0 if group.wire else lib.SB_GROUP_LF) | (lib.SB_GROUP_KEPT if group.kept else 0)
    flags |= lib.SB_GROUP_PACKETS if isinstance(group.framing, Packet) else 0
    return ffi.new(
        "sb_group *",
        {
            "framing": describe(group.framing)[0],
            "serve": lib.sockd_server(group.serve),
            "flags": flags,
            "high_water": group.high_water,
            "max_unsent": group.max_buffer,
            "idle_ms": max(1, round(group.idle_timeout * 1000)),
            "frame_ms": max(1, round(group.frame_timeout * 1000)),
            "stall_ms": max(1, round(group.write_timeout * 1000)),
            "linger_ms": round(group.linger_timeout * 1000),
            "cost_ns": _first_cost_ns(group),
        },
    )


__all__ = ["GroupOptions", "describe", "described"]
