# SPDX-License-Identifier: MIT
"""Conditions under which a listener lets anybody in, whoever it is: the hour, the load of the host, the rate of all.

Pure bookkeeping: clocks and the load are passed in.  Each is looked at when a connection has come, and nothing is
remembered of the clock on the wall, so that a clock that is set, or put forward and back, decides from that moment on.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from sockd.net.listen.refusal import RefusalReason
from sockd.net.listen.token_bucket import TokenBuckets

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.settings.listen import ListenSettings, TotalRateSettings


def read_load() -> float:
    """Return the load of the last minute (getloadavg(3)); raises OSError without /proc, as in a bare chroot."""
    return os.getloadavg()[0]


class OpeningConditions:
    """When a listener is open at all.

    Args:
        settings: `hours` and `max_load`.
        now: seconds since the epoch.
        load: see read_load.
    """

    def __init__(
        self, settings: ListenSettings, now: Callable[[], float] = time.time, load: Callable[[], float] = read_load
    ) -> None:
        self._hours = settings.hours
        self._max_load = settings.max_load
        self._now = now
        self._load = load

    def judge(self) -> RefusalReason | None:
        """Return why nobody is let in now; None: clients are."""
        if self._hours:
            local = time.localtime(self._now())
            if not any(one.contains(60 * local.tm_hour + local.tm_min) for one in self._hours):
                return RefusalReason.HOURS
        if self._max_load is not None and self._load() >= self._max_load:
            return RefusalReason.LOAD
        return None


class TotalRate:
    """The rate of all clients together, and the pause after it was exceeded.

    Args:
        settings: see there.
        clock: seconds, never going back.
    """

    def __init__(self, settings: TotalRateSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self._bucket = TokenBuckets(settings.burst or settings.connections, settings.connections / settings.per, clock)
        self._clock = clock
        self._paused_until = float("-inf")

    def admit(self) -> bool:
        """Count a connection; False when there are too many, or were within the pause."""
        if self._clock() < self._paused_until:
            return False
        if self._bucket.consume(None):
            return True
        self._paused_until = self._clock() + self.settings.pause
        return False


def renew_total_rate(
    former: TotalRate | None, settings: TotalRateSettings | None, clock: Callable[[], float]
) -> TotalRate | None:
    """Return the rate of all clients of these settings: the former one, with what it has counted, if it is the same."""
    if former is not None and former.settings == settings:
        return former
    return None if settings is None else TotalRate(settings, clock)


__all__ = ["OpeningConditions", "TotalRate", "read_load", "renew_total_rate"]
