# SPDX-License-Identifier: MIT
"""Rates of new connections that an administrator has set while the daemon serves (`sockctl rate`).

One value for all listeners of a process.  It decides in place of `rate` and `total_rate` of a listener; all listeners
of a service share its buckets.  While there is any, listeners accept one by one in Python.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sockd.net.listen.token_bucket import TokenBuckets
from sockd.units import parse_duration
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

MAX_RATE = 1_000_000
MIN_SECONDS, MAX_SECONDS = 0.001, 86_400
"""As `rate` of a listener (sockd.settings.listen)."""


@dataclass(frozen=True)
class ConnectionRate:
    """So many connections in so many seconds, all of which may come at once; 0 connections: without a limit."""

    connections: int
    seconds: float


class RateOverrides:
    """The rates that hold now, for each source or for all clients together.

    Args:
        clock: seconds, never going back.

    Attributes:
        rows: each rate, by the name of its service, and whether it is of all clients together.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.rows: dict[tuple[str, bool], ConnectionRate] = {}
        self._buckets: dict[tuple[str, bool], TokenBuckets | None] = {}

    def replace(self, rows: Mapping[tuple[str, bool], ConnectionRate]) -> None:
        """Have these hold from now on; one that held before goes on with what it has counted."""
        for gone in self._buckets.keys() - rows.keys():
            del self._buckets[gone]
        for key, rate in rows.items():
            if self.rows.get(key) != rate:
                speed = rate.connections / rate.seconds
                buckets = TokenBuckets(rate.connections, speed, self._clock)
                self._buckets[key] = buckets if rate.connections else None
        self.rows = dict(rows)

    def judge(self, service: str, source: Hashable) -> bool | None:
        """Count a connection, and tell whether it is let in; None: the rate of the listener decides.

        Args:
            source: whom it counts for; None: all clients together.
        """
        if not self.rows:
            return None
        key = service, source is None
        if key not in self._buckets:
            return None
        buckets = self._buckets[key]
        return buckets is None or buckets.consume(source)


def read_rate(text: str) -> ConnectionRate:
    """Read a rate as people write it: "100/s", "30/m", "5/10s", "off".

    Raises:
        ValueError: it is none; the text says why, and what to write.
    """
    if text == "off":
        return ConnectionRate(0, 1.0)
    number, slash, interval = text.partition("/")
    if not (slash and number.isdecimal() and 0 < int(number) <= MAX_RATE):
        raise ValueError(f'is no rate; write "100/s", "30/m", "5/10s" or "off", with 1 to {MAX_RATE} connections')
    seconds = float(parse_duration(interval if interval[:1].isdecimal() else f"1{interval}"))
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise ValueError("has an interval that is not 1ms to 1d")
    return ConnectionRate(int(number), seconds)


__all__ = ["ConnectionRate", "RateOverrides", "read_rate"]
