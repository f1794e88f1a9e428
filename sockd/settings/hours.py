# SPDX-License-Identifier: MIT
"""Hours of the day as people write them: "08:00-18:00", or across midnight "22:00-06:00"; local time.

They are those of a clock on the wall: in the hour that a clock is put back, a time of day comes twice, and both count.
"""

from __future__ import annotations

from sockd.lazy import pattern
from sockd.values import dataclass

_TEXT = pattern(r"(?P<h1>\d{1,2}):(?P<m1>[0-5]\d)-(?P<h2>\d{1,2}):(?P<m2>[0-5]\d)")
DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class DailyHours:
    """A part of each day.

    Attributes:
        first: minute of the day with which it begins.
        last: minute before which it ends, 1440 for midnight; one that is not after `first` is of the next day.
    """

    first: int
    last: int

    @classmethod
    def read(cls, text: str) -> DailyHours:
        """Read `08:00-18:00`; raises ValueError with what is to stand behind the text."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError('is not a part of a day; write "08:00-18:00", or across midnight "22:00-06:00"')
        first, last = (60 * int(match[f"h{end}"]) + int(match[f"m{end}"]) for end in (1, 2))
        if first >= DAY_MINUTES or last > DAY_MINUTES:
            raise ValueError("has no such time of day; a day is from 00:00 to 24:00")
        if first == last:
            raise ValueError('begins when it ends; for the whole day write "00:00-24:00"')
        return cls(first, last)

    def __str__(self) -> str:
        return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in (self.first, self.last))

    def contains(self, minute: int) -> bool:
        """Tell whether a minute of the day, from 0 to 1439, is in it."""
        if self.first < self.last:
            return self.first <= minute < self.last
        return minute >= self.first or minute < self.last


__all__ = ["DAY_MINUTES", "DailyHours"]
