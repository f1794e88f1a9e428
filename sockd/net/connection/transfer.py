# SPDX-License-Identifier: MIT
"""Connections that go on in another process: a row of the table as a value, and a row made of one (csrc/mux_move.c).

The descriptor is passed separately; until the other process has the row, and this one has dropped it, neither receives
or sends a byte.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec

from sockd._sockbuf import ffi, lib
from sockd.net.address.sockaddr import SocketAddress  # noqa: TC001 - likewise
from sockd.net.connection.peers import ProxyInfo  # noqa: TC001 - msgspec reads annotations
from sockd.values import dataclass

if TYPE_CHECKING:
    from sockd.net.connection.table import ConnectionTable

NUMBERS = (
    "flags", "high", "low", "received", "sent", "frames", "opened_ms", "moved_ms", "framing_ms", "leaving_ms",
)  # fmt: skip


class ConnectionState(msgspec.Struct, frozen=True, kw_only=True):
    """A connection.

    Args:
        listener: number of the listening socket that accepted it.
        numbers: of a struct sb_moved, by name.
        peer: its address.
        input_pending_bytes: input that was not framed yet.
        output_pending_bytes: output that the kernel has not accepted.
        snapshot: of its sink.
        proxied: what a proxy reported about it.
    """

    listener: int
    numbers: dict[str, int]
    peer: SocketAddress
    input_pending_bytes: bytes
    output_pending_bytes: bytes
    snapshot: Any
    proxied: ProxyInfo | None


def export(connections: ConnectionTable, id: int, listener: int, snapshot: object) -> ConnectionState:
    """Export a connection; between two turns, with every event dispatched.

    Raises:
        LookupError: there is none, or it is closing.
    """
    moved, data = ffi.new("sb_moved *"), ffi.new("char *[2]")
    into = ffi.cast("const char **", data)
    if lib.sb_mux_export(connections.handle, id, moved, into, into + 1) < 0:
        raise LookupError(f"no connection {id} that can move to another process")
    return ConnectionState(
        listener=listener,
        numbers={name: getattr(moved, name) for name in NUMBERS},
        peer=connections.peers.find(id),
        input_pending_bytes=ffi.unpack(data[0], moved.in_size) if moved.in_size else b"",
        output_pending_bytes=ffi.unpack(data[1], moved.out_size) if moved.out_size else b"",
        snapshot=snapshot,
        proxied=connections.peers.proxied(id),
    )


def import_row(connections: ConnectionTable, row: ConnectionState, fd: int, group: int) -> int | None:
    """Make a connection from a row.

    Args:
        fd: owned by the table from now on, if there is room.

    Returns:
        Its id; None without room or memory, or if the row is not valid: another process wrote it, perhaps of another
        version.
    """
    moved = _moved(row)
    if moved is None:
        return None
    id = int(lib.sb_mux_import(connections.handle, fd, group, moved, row.input_pending_bytes, row.output_pending_bytes))
    if id < 0:
        return None
    connections.peers.name(id, row.peer, row.proxied)
    return id


def _moved(row: ConnectionState) -> Any:  # noqa: ANN401 - a cffi pointer
    """Make a struct sb_moved from a row; None if a number or the peer does not fit.  C checks the values."""
    numbers = {name: row.numbers[name] for name in NUMBERS if name in row.numbers}
    sizes = {"in_size": len(row.input_pending_bytes), "out_size": len(row.output_pending_bytes)}
    try:
        peer = row.peer.packed()
        moved = ffi.new("sb_moved *", numbers | sizes | {"peer_size": len(peer)})
    except (OSError, ValueError, OverflowError, struct.error):
        return None
    ffi.memmove(moved.peer, peer, len(peer))
    return moved


def forget(connections: ConnectionTable, id: int) -> None:
    """Close a connection without a shutdown and without an event: another process continues it."""
    lib.sb_mux_forget(connections.handle, id)


@dataclass(frozen=True)
class Snapshot:
    """A connection between two of its events.

    Args:
        is_paused: its handler has paused reading.
        is_finishing: write_eof() was called.
        is_high: its handler was told to pause writing, and not yet to resume.
        water: low and high water mark, in bytes.
        framing: as sockd.wire.framing.spell writes it.
        handler: the result of its protocol's snapshot(); None for a function.
    """

    is_paused: bool
    is_finishing: bool
    is_high: bool
    water: tuple[int, int]
    framing: tuple[str, list[Any]]
    handler: Any


__all__ = ["ConnectionState", "Snapshot", "export", "forget", "import_row"]
