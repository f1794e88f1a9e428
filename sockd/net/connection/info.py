# SPDX-License-Identifier: MIT
"""What the C core knows: of one connection, and of all connections of a group together."""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING

from sockd._sockbuf import lib
from sockd.lazy import lazily
from sockd.net.c_layout import layout
from sockd.values import dataclass
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from sockd.net import kernel
    from sockd.net.connection.table import ConnectionTable
else:
    kernel = lazily("sockd.net.kernel", resident=True)

REASONS: int = lib.SB_REASONS
INFO = layout("sb_info")
TOTALS = layout("sb_totals")


class ConnectionFilter(enum.IntEnum):
    """Which connections are asked for."""

    LIVE = lib.SB_LIST_LIVE
    """Those that have not ended."""
    OPEN = lib.SB_LIST_OPEN
    """Of these, those that are not being closed."""
    QUIET = lib.SB_LIST_QUIET
    """Of these, those that are in the middle of nothing."""


@dataclass(frozen=True, kw_only=True)
class ConnectionInfo:
    """What is known of a connection; `peer` is a packed sockaddr, empty when it has no name."""

    fd: int
    group: int
    open: bool
    reason: CloseReason
    error: int
    received: int
    sent: int
    frames: int
    output_pending_bytes: int
    input_pending_bytes: int
    elapsed: float
    idle: float
    peer: bytes

    @classmethod
    def unpack(cls, data: ReadableBuffer) -> ConnectionInfo:
        """Read a struct sb_info."""
        (
            fd,
            group,
            is_open,
            reason,
            error,
            peer_size,
            received,
            sent,
            frames,
            output_pending_bytes,
            input_pending_bytes,
            elapsed,
            idle,
            peer,
        ) = INFO.unpack(data)
        return cls(
            fd=fd,
            group=group,
            open=bool(is_open),
            reason=CloseReason(reason),
            error=error,
            received=received,
            sent=sent,
            frames=frames,
            output_pending_bytes=output_pending_bytes,
            input_pending_bytes=input_pending_bytes,
            elapsed=elapsed / 1000,
            idle=idle / 1000,
            peer=peer[:peer_size],
        )


@dataclass(frozen=True)
class Totals:
    """Numbers that only grow, except `open` and `output_pending_bytes`.

    Attributes:
        accepted: connections.
        open: of these, not ended.
        received, sent: bytes.
        frames: received.
        output_pending_bytes: written, and not accepted by the kernel yet.
        reasons: how many connections ended for each CloseReason, by its number.
    """

    accepted: int = 0
    open: int = 0
    received: int = 0
    sent: int = 0
    frames: int = 0
    output_pending_bytes: int = 0
    reasons: tuple[int, ...] = (0,) * REASONS

    @classmethod
    def unpack(cls, data: ReadableBuffer) -> Totals:
        """Read a struct sb_totals."""
        accepted, live, received, sent, frames, output_pending_bytes, *reasons = TOTALS.unpack(data)
        return cls(accepted, live, received, sent, frames, output_pending_bytes, tuple(reasons))

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.accepted + other.accepted,
            self.open + other.open,
            self.received + other.received,
            self.sent + other.sent,
            self.frames + other.frames,
            self.output_pending_bytes + other.output_pending_bytes,
            tuple(one + two for one, two in zip(self.reasons, other.reasons, strict=True)),
        )


logger = logging.getLogger("sockd.connection")


def log_end(service: str, connections: ConnectionTable, id: int, reason: CloseReason) -> None:
    """Write the line of a connection that has ended: who, how much, how long, why."""
    if not logger.isEnabledFor(logging.INFO):
        return
    info = connections.info(id)
    peer = connections.peers.find(id, info)
    event: dict[str, object] = {
        "service": service,
        "peer": str(peer),
        "reason": str(reason),
        "frames": info.frames,
        "received": info.received,
        "sent": info.sent,
        "seconds": round(info.elapsed, 3),
    }
    if name := connections.find_name(peer.host):
        event["name"] = name
    if proxied := connections.peers.proxied(id):
        event["via"] = proxied.via
    if info.output_pending_bytes:
        event["output_pending_bytes"] = info.output_pending_bytes
    if peer.host and (waiting := kernel.unacknowledged(info.fd)):
        event["unacknowledged"] = waiting
    logger.info("closed", extra={"event": event})


__all__ = ["REASONS", "ConnectionFilter", "ConnectionInfo", "Totals", "log_end"]
