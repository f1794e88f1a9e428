# SPDX-License-Identifier: MIT
"""Metrics for Prometheus: histograms, and the text of a scrape.

Source: "Exposition formats" of the Prometheus documentation, version 0.0.4.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Literal

from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Labels = Mapping[str, str]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_SECONDS = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Bounds, from a function that returns at once to one that delays every client."""


class Histogram:
    """Counts of observations up to each bound.

    Args:
        bounds: ascending.
    """

    __slots__ = ("_bounds", "_counts", "max", "sum")

    def __init__(self, bounds: Sequence[float] = BOUNDS_SECONDS) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.max = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value
        if value > self.max:
            self.max = value

    @property
    def count(self) -> int:
        """Number of observations."""
        return sum(self._counts)

    def add(self, counts: Sequence[int], sum: float, max: float) -> None:
        """Add what another one with the same bounds has observed."""
        self.max = max if max > self.max else self.max
        self._counts = [one + two for one, two in zip(self._counts, counts, strict=True)]
        self.sum += sum

    @property
    def counts(self) -> Sequence[int]:
        """Observations of each bucket; the last: above all bounds."""
        return tuple(self._counts)

    @property
    def buckets(self) -> Sequence[tuple[float | None, int]]:
        """The upper bound of each bucket, None for the last one, and its observations."""
        return tuple(zip((*self._bounds, None), self._counts, strict=True))

    def quantile(self, share: float) -> float:
        """Estimate the value that this share of the observations does not exceed; 0.0 where there are none.

        Within a bucket it is interpolated, as Prometheus' histogram_quantile() does, and it is never above the maximum.
        """
        rank, below, low = share * self.count, 0, 0.0
        for bound, count in zip((*self._bounds, self.max), self._counts, strict=True):
            if count and below + count >= rank:
                return min(self.max, low + (bound - low) * (rank - below) / count)
            below, low = below + count, bound
        return self.max

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Yield each bound, as text, with the number of observations up to it."""
        count = 0
        for bound, more in zip((*self._bounds, float("inf")), self._counts, strict=True):
            count += more
            yield "+Inf" if bound == float("inf") else format(bound, "g"), count


@dataclass(frozen=True)
class Family:
    """One metric: its name, what it means, and its samples.

    Args:
        kind: counters end in _total.
        samples: labels and value of each.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Sequence[tuple[Labels, float | Histogram]]


def exposition(families: Sequence[Family]) -> str:
    """Write families as text, without those that have no samples."""
    return "".join(f"{line}\n" for family in families if family.samples for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {_escape(family.help)}"
    yield f"# TYPE {family.name} {family.kind}"
    for labels, value in family.samples:
        if not isinstance(value, Histogram):
            yield f"{family.name}{_labels(labels)} {_number(value)}"
            continue
        for bound, count in value.cumulative():
            yield f"{family.name}_bucket{_labels({**labels, 'le': bound})} {count}"
        yield f"{family.name}_sum{_labels(labels)} {_number(value.sum)}"
        yield f"{family.name}_count{_labels(labels)} {value.count}"


def _labels(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_escape(value, quoted=True)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escape(text: str, *, quoted: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    text = text.replace('"', '\\"') if quoted else text
    return text.encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
