# SPDX-License-Identifier: MIT
"""Connections whose peers have not sent anything yet: they make room where there is none.

Whoever opens connections and is silent would keep everybody else out until idle_timeout.  A connection that has sent
anything is never ended for others.  nginx does the same with connections that wait for a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd._sockbuf import ffi, lib
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from sockd.net.connection.table import ConnectionTable

EVERY_GROUP = -1
"""In place of a group: connections of all groups."""


def has_silent(connections: ConnectionTable, group: int) -> bool:
    """Tell whether a connection of a group has not sent anything yet."""
    return int(lib.sb_mux_silent(connections.handle, group, 0, ffi.new("int32_t[1]"), 1)) > 0


def shed_silent(connections: ConnectionTable, group: int, seconds: float, max_rows: int) -> int:
    """End connections that have not sent anything yet, at once: a peer that is silent would not end its side.

    Args:
        group: whose; EVERY_GROUP for those of all.
        seconds: for which nothing has moved.
        max_rows: the oldest ones; the core looks at each row for them, and asks the kernel about these alone.

    Returns:
        How many these were; their rows are free in the next turn.
    """
    ids = ffi.new("int32_t[]", max_rows)
    count = int(lib.sb_mux_silent(connections.handle, group, int(seconds * 1000), ids, max_rows))
    for at in range(count):
        connections.abort(ids[at], CloseReason.IDLE_TIMEOUT)
    return max(count, 0)


__all__ = ["EVERY_GROUP", "has_silent", "shed_silent"]
