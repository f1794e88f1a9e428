# SPDX-License-Identifier: MIT
"""The groups of a table: connections that have a sink, limits and totals in common."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from sockd._sockbuf import ffi, lib
from sockd.net.connection.events import NO_EVENTS, ConnectionEvents
from sockd.net.connection.group import GroupOptions, described
from sockd.net.connection.info import ConnectionFilter, Totals
from sockd.wire.framing import Packet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sockd.net.connection.sources import Sources
    from sockd.net.tls.rows import TlsConnections


class ConnectionGroups:
    """Every group of a table, by its number.

    Args:
        handle: the table as C knows it.
        size: connections at most.
        tls: which groups may ask for TLS.

    Attributes:
        sinks: who is told of the events of each group; the same list for as long as the table lives, as hooks.
        hooks: called when a connection of the group has ended.
        packets: the framing of each group whose sockets keep packets apart.
    """

    def __init__(self, handle: Any, size: int, tls: TlsConnections) -> None:  # noqa: ANN401 - a cffi pointer
        self._handle = handle
        self._size = size
        self._tls = tls
        self._totals = ffi.new("sb_totals *")
        self.sinks: list[ConnectionEvents] = []
        self.hooks: list[Callable[[int], None] | None] = []
        self._removed_at_work: list[ConnectionEvents] = []
        self._sources: dict[int, Sources | None] = {}
        self.packets: dict[int, Packet] = {}

    def add(self, group: GroupOptions, sink: ConnectionEvents) -> int:
        """Add a group and return its number.

        Raises:
            ValueError: its framing cannot be served so.
        """
        number = lib.sb_mux_group(self._handle, described(group))
        if number == lib.SB_ERR_INVALID:
            raise ValueError(f"no stream can be cut by {group.framing!r}, or not for a service of the C core")
        if number < 0:
            raise MemoryError("no room for another group of connections")
        self.sinks[number:] = [sink, *self.sinks[number + 1 :]]
        self.hooks[number:] = [None, *self.hooks[number + 1 :]]
        self._tls.offer(number, None)
        if isinstance(group.framing, Packet):
            self.packets[number] = group.framing
        return int(number)

    def serve(self, group: int, number: int) -> None:
        """Have frames of a group answered by a service of the C core, from now on; 0: they are events."""
        lib.sb_mux_serve(self._handle, group, lib.sockd_server(number))

    def set_apart(self, id: int, apart: bool) -> None:
        """Have the frames of a connection be events of their own, whatever answers those of its group, or as before."""
        lib.sb_mux_apart(self._handle, id, apart)

    def count_sources(self, group: int, sources: Sources | None) -> None:
        """Have what is accepted into a group count by its source, and closed where that has too many."""
        if sources is not None:
            lib.sb_mux_sources(self._handle, group, sources.handle)
        self._sources[group] = sources  # lives as long as the group

    def remove(self, group: int) -> bool:
        """Give a group up, whose number may then be another's; False as long as connections of it are there.

        Its sink and hook hold a whole configuration and are released; a sink at work is kept until it is done.
        """
        if int(lib.sb_mux_ungroup(self._handle, group)) != 0:
            return False
        if self.sinks[group].at_work:
            self._removed_at_work.append(self.sinks[group])
        self.sinks[group], self.hooks[group] = NO_EVENTS, None
        self._sources.pop(group, None)
        self.packets.pop(group, None)
        self._tls.offer(group, None)
        return True

    def totals(self, group: int) -> Totals:
        """Return what the connections of a group have done."""
        if lib.sb_mux_totals(self._handle, group, self._totals) < 0:
            raise LookupError(f"no group {group}")
        return Totals.unpack(ffi.buffer(self._totals))

    def ids(self, which: ConnectionFilter, group: int = -1) -> list[int]:
        """Return the connections of a group, -1 for those of all."""
        found = array("i", bytes(4 * self._size))
        count = lib.sb_mux_list(self._handle, group, int(which), ffi.from_buffer("int32_t[]", found), self._size)
        return found[: max(count, 0)].tolist()

    def sink(self, group: int) -> ConnectionEvents:
        """Return who is told of a group's events."""
        return self.sinks[group]

    def when_ended(self, group: int, hook: Callable[[int], None]) -> None:
        """Call hook(id) whenever a connection of the group has ended."""
        self.hooks[group] = hook

    @property
    def at_work(self) -> int:
        """How many calls of handlers have begun that end outside of dispatch()."""
        return sum(sink.at_work for sink in self._own_sinks())

    def log_unfinished(self) -> None:
        """Name in the log what is at work still."""
        for sink in self._own_sinks():
            sink.log_unfinished()

    def _own_sinks(self) -> Iterable[ConnectionEvents]:
        """Each sink once, also of groups that were removed: several groups may have the same."""
        self._removed_at_work = [sink for sink in self._removed_at_work if sink.at_work]
        return {id(sink): sink for sink in (*self.sinks, *self._removed_at_work)}.values()


__all__ = ["ConnectionGroups"]
