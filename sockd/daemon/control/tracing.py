# SPDX-License-Identifier: MIT
"""`sockctl trace`: the frames of a service, a connection or a network, as they pass.

While nobody traces, nothing of this is on the way of a frame (sockd.net.connection.tapped).  A trace shows so many
frames a second, the others are counted; each is cut to so many bytes, or none; it holds no more than MAX_HELD_BYTES,
and sends that on in slices (sockd.net.loop.slices).  So a busy connection costs no more than a slow one, and 10,000
frames a second of 4 KB delay nobody.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.errors import TemporaryFault, UsageError
from sockd.net.address.sockaddr import plain
from sockd.net.connection.tapped import TappedEvents, tap, untap
from sockd.net.loop.slices import run_in_slices
from sockd.services.builtin import CoreService
from sockd.services.families import TableKind
from sockd.services.kinds import BuiltinKind
from sockd.settings.networks import read_network
from sockd.text import LONGEST_SHOWN
from sockd.units import parse_whole
from sockd.values import dataclass
from sockd.wire.framing import Packet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sockd.daemon.listeners import ListenerRegistry
    from sockd.net.connection.events import ConnectionEvents
    from sockd.net.connection.tapped import TappedTable
    from sockd.net.loop.loop import EventLoop, Timer
    from sockd.services.spec import ServiceSpec
    from sockd.settings.networks import Network

INTERVALS_PER_SECOND = 10
INTERVAL_SECONDS = 1 / INTERVALS_PER_SECOND
"""What was seen is sent on so often."""
MAX_TRACES = 4
MAX_RATE = 10_000
MAX_SHOWN_BYTES = 4096
MAX_HELD_BYTES = 512 * 1024
"""Of what a trace has seen and not sent on; frames past that are counted as those past its rate."""
RECORD_BYTES = 256
"""Of a record, beside the bytes that it shows."""
SENT_RECORDS, SENT_BYTES = 50, 16 * 1024
"""At once, at the most: as JSON, 0.5 ms."""
MAX_TABLE_ID = (1 << 31) - 1
"""Of a connection of one process (csrc/slots.h)."""
MAX_ID = (1 << 63) - 1
"""Of a connection: more than any daemon has, with the number of a worker before it (IDS_PER_WORKER)."""

Record = dict[str, object]


@dataclass(frozen=True)
class TraceSubject:
    """Whose frames are shown: all, or those of a service, of a connection, or of clients in a network."""

    service: str = ""
    connection: int = -1
    network: Network | None = None

    @classmethod
    def read(cls, text: str, services: Sequence[str]) -> TraceSubject:
        """Read one; raises UsageError where it is none."""
        if not text or text in services:
            return cls(service=text)
        if (id := parse_whole(text, MAX_ID)) is not None:
            return cls(connection=id)
        try:
            return cls(network=read_network(text))
        except ValueError:
            known = ", ".join(services) or "none"
            shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
            raise UsageError(f"{shown}: no service, connection id or network; services: {known}") from None

    def matches(self, id: int, service: str, host: str) -> bool:
        """Tell whether it is about a connection."""
        if self.network is not None:
            address = plain(host) if host else None
            return address is not None and address.version == self.network.version and address in self.network
        return self.connection in (-1, id) and self.service in ("", service)


class Trace:
    """One client's trace.

    Args:
        subject: whose frames.
        rate: at most so many a second.
        shown: bytes of each, at most; 0: its size alone.
        emit: gets some of what was seen: records, and how many frames were left out.
        loop: in which that is sent on.
    """

    def __init__(
        self,
        subject: TraceSubject,
        rate: int,
        shown: int,
        emit: Callable[[list[Record], int], None],
        loop: EventLoop,
    ) -> None:
        if not 0 < rate <= MAX_RATE:
            raise UsageError(f"rate {rate}: must be 1 to {MAX_RATE} frames a second")
        if not 0 <= shown <= MAX_SHOWN_BYTES:
            raise UsageError(f"bytes {shown}: must be 0 to {MAX_SHOWN_BYTES}")
        self.subject = subject
        self._rate = rate
        # A frame costs as much as there are intervals in a second, so that there are no fractions, and less than a
        # frame is kept for the next interval.
        self._capacity = rate + INTERVALS_PER_SECOND - 1
        self._credit = max(rate, INTERVALS_PER_SECOND)
        self._shown = shown
        self._emit = emit
        self._loop = loop
        self._records: list[tuple[Record, int]] = []
        self._held = 0
        self._left_out = 0
        self._is_sending = False

    @property
    def room(self) -> int:
        """How many frames it still shows in this interval."""
        return self._credit // INTERVALS_PER_SECOND if self._held < MAX_HELD_BYTES else 0

    def show(self, about: Record, direction: str, data: bytes, size: int) -> None:
        """Show a frame, or count it."""
        if not self.room:
            self._left_out += 1
            return
        self._credit -= INTERVALS_PER_SECOND
        record = {"time": round(time.time(), 6), **about, "direction": direction, "bytes": size}
        if self._shown:
            record["data"] = data[: self._shown].decode("latin-1")
        held = RECORD_BYTES + min(size, self._shown)
        self._records.append((record, held))
        self._held += held

    def leave_out(self, frames: int) -> None:
        """Count frames that are not shown."""
        self._left_out += frames

    def tick(self) -> None:
        """Send on what was seen, and have room again."""
        self._credit = min(self._credit + self._rate, self._capacity)
        if not self._is_sending:
            self._is_sending = True
            run_in_slices(self._loop, self._send(), self._sent)

    def _sent(self) -> None:
        self._is_sending = False

    def _send(self) -> Iterator[None]:
        """Send on what was seen by now, some records in a step."""
        records, self._records = self._records, []
        some: list[Record] = []
        size = 0
        for record, held in records:
            some.append(record)
            size += held
            if len(some) >= SENT_RECORDS or size >= SENT_BYTES:
                self._send_some(some, size)
                some, size = [], 0
                yield
        if some or self._left_out:
            self._send_some(some, size)
        self._sent()

    def _send_some(self, records: list[Record], held: int) -> None:
        self._held -= held
        left_out, self._left_out = self._left_out, 0
        self._emit(records, left_out)


class Tracer:
    """The traces of a process; the observer of its table while there is one.

    Args:
        serving: whose connections.

    Attributes:
        ignored, is_apart: see Observer.
    """

    def __init__(self, serving: ListenerRegistry) -> None:
        self._serving = serving
        self._traces: list[Trace] = []
        self._watching: dict[int, tuple[Record, list[Trace]]] = {}
        self.ignored: set[int] = set()
        self.is_apart = False
        self._apart: set[int] = set()
        self._resting: dict[int, int] = {}
        self._table: TappedTable | None = None
        self._timer: Timer | None = None

    def add(self, trace: Trace) -> None:
        """Begin one; raises TemporaryFault where there are too many."""
        if len(self._traces) >= MAX_TRACES:
            raise TemporaryFault(f"{MAX_TRACES} traces are on already; end one of them")
        self._traces.append(trace)
        if self._table is None:
            self._table = tap(self._serving.tools.connections, self)
            self._changed(self._table)
            self._tick()
        else:
            self._changed(self._table)

    def remove(self, trace: Trace) -> None:
        """End one; with the last one everything is as before."""
        if trace not in self._traces or self._table is None:
            return
        self._traces.remove(trace)
        self._changed(self._table)
        if not self._traces and self._timer is not None:
            self._timer.cancel()
            self._table = None
            untap(self._serving.tools.connections)

    def _changed(self, table: TappedTable) -> None:
        """Observe what is traced now."""
        for id in list(self._resting):
            self._wake(id)
        self._watching.clear()
        self.ignored.clear()
        for id in self._apart:
            table.groups.set_apart(id, False)
        wanted = {trace.subject.connection for trace in self._traces}
        self.is_apart = -1 not in wanted
        self._apart = {id for id in wanted if 0 <= id <= MAX_TABLE_ID}
        self._tap_groups(table)

    def _tick(self) -> None:
        """Send on what was seen; and see groups that a reload has brought, and connections that an upgrade has."""
        if self._table is not None:
            self._timer = self._serving.tools.loop.call_later(INTERVAL_SECONDS, self._tick)
            for id in list(self._resting):
                self._wake(id)
            self._tap_groups(self._table)
            for trace in list(self._traces):
                trace.tick()

    def _tap_groups(self, table: TappedTable) -> None:
        """Tap all groups of the services that are traced, and the groups of the connections that are."""
        services = {one.subject.service for one in self._traces if one.subject.connection < 0}
        single = {self._set_apart(table, id) for id in self._apart}
        for served in self._serving.every():
            if not isinstance(served.run.spec.kind, TableKind):
                continue
            is_whole = not services.isdisjoint(("", served.run.spec.name))
            for group in served.listener.groups:
                sink = table.groups.sinks[group]
                if not isinstance(sink, TappedEvents):
                    if not is_whole and group not in single:
                        continue
                    tapped = (one for one in table.groups.sinks if isinstance(one, TappedEvents) and one.inner is sink)
                    sink = next(tapped, None) or _tapped(sink, table, served.run.spec)
                    table.groups.sinks[group] = sink
                table.groups.serve(group, 0 if is_whole else sink.core)

    def _set_apart(self, table: TappedTable, id: int) -> int:
        """Have a connection be observed without the others of its group; return that, -1 where it has ended."""
        try:
            group = table.info(id).group
        except LookupError:
            return -1
        table.groups.set_apart(id, True)
        return group

    # ---- the observer (sockd.net.connection.tapped)

    def _find(self, id: int) -> tuple[Record, list[Trace]]:
        found = self._watching.get(id)
        if found is None:
            if self.is_apart and id not in self._apart:
                self.ignored.add(id)
                return {}, []
            try:
                info = self._serving.tools.connections.info(id)
            except LookupError:
                return {}, []
            peer, service = self._serving.tools.connections.peers.find(id, info), self._serving.service(info.group)
            about: Record = {"connection": id, "peer": str(peer), "service": service}
            found = about, [one for one in self._traces if one.subject.matches(id, service, peer.host)]
            self._watching[id] = found
            if not found[1]:
                self.ignored.add(id)
        return found

    def room(self, id: int) -> int:
        """See Observer."""
        traces = self._find(id)[1]
        return traces[0].room if len(traces) == 1 else max((trace.room for trace in traces), default=-1)

    def show(self, id: int, direction: str, data: bytes, size: int) -> None:
        """See Observer."""
        about, traces = self._find(id)
        for trace in traces:
            trace.show(about, direction, data, size)

    def leave_out(self, id: int, frames: int) -> None:
        """See Observer."""
        for trace in self._find(id)[1]:
            trace.leave_out(frames)

    def rest(self, id: int, frames: int) -> None:
        """See Observer; the next tick wakes it."""
        if self._table is not None and id not in self._resting:
            self._table.groups.set_apart(id, False)
            self.ignored.add(id)
            self._resting[id] = self._table.info(id).frames - frames

    def _wake(self, id: int) -> None:
        """Count what has passed of a connection since it rests, and the replies."""
        before = self._resting.pop(id)
        self.ignored.discard(id)
        with suppress(LookupError):
            self.leave_out(id, 2 * (self._serving.tools.connections.info(id).frames - before))

    def forget(self, id: int) -> None:
        """See Observer."""
        if id in self._resting:
            self._wake(id)
        self._watching.pop(id, None)
        self.ignored.discard(id)


def _tapped(sink: ConnectionEvents, table: TappedTable, spec: ServiceSpec) -> TappedEvents:
    """Return a sink that shows what passes to another one, or answers as the C core does."""
    framing, code = spec.kind.core_framing(spec.framing), spec.kind.code if isinstance(spec.kind, BuiltinKind) else None
    if isinstance(code, CoreService) and not isinstance(framing, Packet):
        return TappedEvents(sink, table, framing, code.number, code.answer)
    return TappedEvents(sink, table, framing)


def traceable_services(serving: ListenerRegistry) -> tuple[list[str], list[str]]:
    """Return the services whose frames can be shown, and those whose bytes do not pass through this daemon."""
    kinds = {one.run.spec.name: (one.run.spec.kind, bool(one.listener.groups)) for one in serving.listeners}
    seen = sorted(name for name, (kind, _) in kinds.items() if isinstance(kind, TableKind))
    return seen, sorted(set(kinds) - set(seen))


__all__ = ["INTERVAL_SECONDS", "MAX_ID", "Record", "Trace", "TraceSubject", "Tracer", "traceable_services"]
