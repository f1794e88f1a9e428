# SPDX-License-Identifier: MIT
"""A lasting condition is logged once per interval, with the number of lines that were held back.

The caller passes the clock, and the logger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Hashable, Mapping

INTERVAL_SECONDS = 5.0
MAX_KEYS = 1024
"""Limit of remembered conditions; keys are places and kinds, which are few, so past this the oldest is dropped."""


class LogLimit:
    """Decides which lines of a recurring condition are written.

    Args:
        clock: seconds, never going back.
        interval: seconds between two lines of one key.
    """

    def __init__(self, clock: Callable[[], float], interval: float = INTERVAL_SECONDS) -> None:
        self._clock = clock
        self._interval = interval
        self._rows: dict[Hashable, tuple[float, int]] = {}

    def admit(self, key: Hashable) -> int | None:
        """Return how many lines of this key were held back since the last written one; None: hold this one back."""
        now = self._clock()
        at, held_back = self._rows.get(key, (-self._interval, 0))
        if now - at < self._interval:
            self._rows[key] = at, held_back + 1
            return None
        if key not in self._rows and len(self._rows) >= MAX_KEYS:
            del self._rows[next(iter(self._rows))]
        self._rows[key] = now, 0
        return held_back

    def log_limited(
        self, logger: logging.Logger, level: int, message: str, event: Mapping[str, object], *, key: Hashable
    ) -> None:
        """Write a line, unless there was one of this key lately; `held_back` is a field of the next one then."""
        held_back = self.admit(key)
        if held_back is not None:
            about = {**event, "held_back": held_back} if held_back else event
            logger.log(level, message, extra={"event": about})


__all__ = ["INTERVAL_SECONDS", "LogLimit"]
