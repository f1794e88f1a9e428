# SPDX-License-Identifier: MIT
"""The counters of one process as a value: sent to another process, and added up there."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import msgspec

from sockd.daemon.metrics import Histogram
from sockd.net.connection.info import Totals
from sockd.net.listen.listener import ListenerCounts
from sockd.values import asdict, dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sockd.daemon.listeners import ListenerRegistry

K = TypeVar("K")
V = TypeVar("V")
GROWING = ("cpu_seconds_total",)
"""Parts of `usage` that remain used when a process has exited."""


class HistogramTable(msgspec.Struct):
    """A histogram as it is read."""

    counts: list[int]
    sum: float
    max: float

    def histogram(self) -> Histogram:
        """Return it."""
        one = Histogram()
        one.add(self.counts, self.sum, self.max)
        return one


class StatsTable(msgspec.Struct):
    """ProcessStats as they are told: as_table()."""

    connections: int
    programs: int
    memory: int
    totals: dict[str, Totals]
    accepted: dict[str, int]
    open: dict[str, int]
    datagrams: dict[str, dict[str, int]]
    handlers: dict[str, HistogramTable]
    turns: HistogramTable
    usage: dict[str, float]
    descriptors: dict[str, int]
    defects: int
    refused: dict[str, dict[str, int]]
    refused_by_service: dict[str, dict[str, int]]
    peaks: dict[str, int]
    peaks_by_service: dict[str, int]
    running: list[dict[str, object]]


@dataclass
class ProcessStats:
    """Counters of one process, or of several.

    Attributes:
        connections, programs, memory, defects: as of ListenerRegistry.
        totals: of each service.
        accepted, open: of each listener, by its address.
        descriptors: of each service.
        datagrams: by outcome, of each listener.
        refused, refused_by_service: clients that were not served, by the reason.
        peaks, peaks_by_service: the most connections at once; of several processes, the sum of theirs.
        running: each program that runs.
        handlers, turns: times.
        usage: of the process, as Prometheus names it.
    """

    connections: int = 0
    programs: int = 0
    memory: int = 0
    totals: dict[str, Totals] = field(default_factory=dict)
    accepted: Counter[str] = field(default_factory=Counter)
    open: Counter[str] = field(default_factory=Counter)
    datagrams: dict[str, Counter[str]] = field(default_factory=dict)
    handlers: dict[str, Histogram] = field(default_factory=dict)
    turns: Histogram = field(default_factory=Histogram)
    usage: Counter[str] = field(default_factory=Counter)
    descriptors: Counter[str] = field(default_factory=Counter)
    defects: int = 0
    refused: dict[str, Counter[str]] = field(default_factory=dict)
    refused_by_service: dict[str, Counter[str]] = field(default_factory=dict)
    peaks: Counter[str] = field(default_factory=Counter)
    peaks_by_service: Counter[str] = field(default_factory=Counter)
    running: list[dict[str, object]] = field(default_factory=list)

    @classmethod
    def collect(cls, serving: ListenerRegistry, usage: Mapping[str, float]) -> ProcessStats:
        """Read the counters of a process."""
        handlers, turns = serving.times()
        numbers = cls(serving.connections, serving.programs, serving.memory, serving.totals())
        numbers.handlers, numbers.turns = handlers, turns
        numbers.usage.update(usage)
        numbers.defects = serving.defects
        numbers.descriptors = serving.descriptors()
        numbers.refused_by_service = {name: Counter(one) for name, one in serving.refused().items()}
        numbers.peaks_by_service.update(serving.peaks())
        numbers.running = serving.running()
        for served in serving.every():
            counts = served.listener.counts
            numbers.accepted[str(served)] = max(numbers.accepted[str(served)], counts.accepted)
            if counts.datagrams:
                numbers.datagrams[str(served)] = Counter(counts.datagrams)
            else:
                numbers.open[str(served)] = counts.open
                numbers.peaks[str(served)] = counts.peak
                known = numbers.refused.get(str(served), Counter())
                numbers.refused[str(served)] = known | Counter(counts.refused)  # the same ones: the larger of each
        return numbers

    @classmethod
    def from_counts(cls, address: str, service: str, counts: ListenerCounts) -> ProcessStats:
        """Return the counters of a process that has counted this of one listener, and has ended."""
        refused = Counter(counts.refused)
        numbers = cls(
            accepted=Counter({address: counts.accepted}),
            refused={address: refused},
            refused_by_service={service: refused},
        )
        if counts.datagrams:
            numbers.datagrams[address] = Counter(counts.datagrams)
        return numbers

    def listener_counts(self, address: str) -> ListenerCounts:
        """Return what was counted of one."""
        refused, datagrams = self.refused.get(address, Counter()), self.datagrams.get(address, Counter())
        return ListenerCounts(self.accepted[address], self.open[address], refused, datagrams, peak=self.peaks[address])

    # ---- told

    def as_table(self) -> dict[str, object]:
        """Return it as a value that JSON can hold."""
        return {
            "connections": self.connections,
            "programs": self.programs,
            "memory": self.memory,
            "totals": {name: asdict(one) for name, one in self.totals.items()},
            "accepted": self.accepted,
            "open": self.open,
            "datagrams": self.datagrams,
            "handlers": {name: _histogram_table(one) for name, one in self.handlers.items()},
            "turns": _histogram_table(self.turns),
            "usage": self.usage,
            "descriptors": self.descriptors,
            "defects": self.defects,
            "refused": self.refused,
            "refused_by_service": self.refused_by_service,
            "peaks": self.peaks,
            "peaks_by_service": self.peaks_by_service,
            "running": self.running,
        }

    @classmethod
    def from_table(cls, table: object) -> ProcessStats:
        """Undo as_table().

        Raises:
            ValueError: it is no such table (msgspec.ValidationError).
        """
        read = msgspec.convert(table, StatsTable)
        return cls(
            read.connections,
            read.programs,
            read.memory,
            read.totals,
            Counter(read.accepted),
            Counter(read.open),
            {name: Counter(one) for name, one in read.datagrams.items()},
            {name: one.histogram() for name, one in read.handlers.items()},
            read.turns.histogram(),
            Counter(read.usage),
            Counter(read.descriptors),
            read.defects,
            {name: Counter(one) for name, one in read.refused.items()},
            {name: Counter(one) for name, one in read.refused_by_service.items()},
            Counter(read.peaks),
            Counter(read.peaks_by_service),
            read.running,
        )

    # ---- added up

    def __add__(self, other: ProcessStats) -> ProcessStats:
        return ProcessStats(
            self.connections + other.connections,
            self.programs + other.programs,
            self.memory + other.memory,
            _joined(self.totals, other.totals, Totals.__add__),
            self.accepted + other.accepted,
            self.open + other.open,
            _joined(self.datagrams, other.datagrams, Counter.__add__),
            _joined(self.handlers, other.handlers, _sum),
            _sum(self.turns, other.turns),
            self.usage + other.usage,
            self.descriptors + other.descriptors,
            self.defects + other.defects,
            _joined(self.refused, other.refused, Counter.__add__),
            _joined(self.refused_by_service, other.refused_by_service, Counter.__add__),
            self.peaks + other.peaks,
            self.peaks_by_service + other.peaks_by_service,
            self.running + other.running,
        )

    def past(self) -> ProcessStats:
        """Return what remains of it when the process has exited: what only grows."""
        return ProcessStats(
            totals={
                name: Totals(**(asdict(one) | {"open": 0, "output_pending_bytes": 0}))
                for name, one in self.totals.items()
            },
            accepted=self.accepted,
            datagrams=self.datagrams,
            handlers=self.handlers,
            turns=self.turns,
            usage=Counter({name: value for name, value in self.usage.items() if name in GROWING}),
            defects=self.defects,
            refused=self.refused,
            refused_by_service=self.refused_by_service,
        )


def _joined(one: Mapping[K, V], other: Mapping[K, V], add: Callable[[V, V], V]) -> dict[K, V]:
    joined = {**other, **one}
    return joined | {key: add(one[key], other[key]) for key in one.keys() & other.keys()}


def _sum(one: Histogram, other: Histogram) -> Histogram:
    both = Histogram()
    for each in (one, other):
        both.add(each.counts, each.sum, each.max)
    return both


def _histogram_table(one: Histogram) -> dict[str, object]:
    return {"counts": one.counts, "sum": one.sum, "max": one.max}


__all__ = ["ProcessStats"]
