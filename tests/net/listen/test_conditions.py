# SPDX-License-Identifier: MIT
"""When a listener is open at all: hours of a clock that is passed in, load, and the rate of all clients together.

Seen failing: with hours that compare `first <= minute < last` across midnight too; with a pause that is not looked at
before the bucket, which fills meanwhile; with hours in UTC.
"""

from __future__ import annotations

import calendar
import time

import pytest

from sockd.net.listen.conditions import OpeningConditions, TotalRate, renew_total_rate
from sockd.net.listen.refusal import RefusalReason
from sockd.settings.hours import DailyHours
from sockd.settings.listen import ListenSettings, TotalRateSettings

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"  # POSIX, 8.3: without the files of zoneinfo


@pytest.fixture
def zone(monkeypatch):
    def become(text):
        monkeypatch.setenv("TZ", text)
        time.tzset()

    yield become
    monkeypatch.undo()
    time.tzset()


def utc(*parts):
    return calendar.timegm((*parts, 0, 0, 0, 0)[:9])


def is_open(hours, now):
    settings = ListenSettings(hours=tuple(map(DailyHours.read, hours)))
    return OpeningConditions(settings, lambda: now).judge() is None


@pytest.mark.parametrize(
    ("hours", "clock", "expected"),
    [
        (["08:00-18:00"], "07:59", False),
        (["08:00-18:00"], "08:00", True),
        (["08:00-18:00"], "17:59", True),
        (["08:00-18:00"], "18:00", False),
        (["22:00-06:00"], "23:59", True),
        (["22:00-06:00"], "00:00", True),
        (["22:00-06:00"], "05:59", True),
        (["22:00-06:00"], "06:00", False),
        (["22:00-06:00"], "21:59", False),
        (["00:00-24:00"], "23:59", True),
        (["23:00-24:00"], "00:00", False),
        (["8:00-9:00", "20:00-21:00"], "20:30", True),
        (["8:00-9:00", "20:00-21:00"], "12:00", False),
    ],
)
def test_hours_begin_with_their_first_minute_and_end_before_their_last(zone, hours, clock, expected):
    zone("UTC0")
    hour, minute = map(int, clock.split(":"))
    assert is_open(hours, utc(2026, 5, 4, hour, minute)) == expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ((2026, 3, 29, 0, 59), False),  # 01:59; a minute later it is 03:00
        ((2026, 3, 29, 1, 0), True),  # 03:00, summer
        ((2026, 10, 25, 0, 29), False),  # 02:29, summer
        ((2026, 10, 25, 0, 30), True),  # 02:30, summer
        ((2026, 10, 25, 0, 59), True),  # 02:59, summer; a minute later it is 02:00
        ((2026, 10, 25, 1, 0), False),  # 02:00, winter: again
        ((2026, 10, 25, 1, 30), True),  # 02:30, winter
        ((2026, 10, 25, 2, 30), False),  # 03:30
    ],
)
def test_hours_are_those_of_the_clock_on_the_wall_when_it_is_put_forward_and_back(zone, moment, expected):
    zone(BERLIN)
    assert is_open(["02:30-03:30"], utc(*moment)) == expected


@pytest.mark.parametrize(("load", "expected"), [(2.49, None), (2.5, RefusalReason.LOAD), (80.0, RefusalReason.LOAD)])
def test_from_the_limit_of_the_load_on_nobody_is_let_in(load, expected):
    assert OpeningConditions(ListenSettings(max_load=2.5), load=lambda: load).judge() is expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8-18", "is not a part of a day"),
        ("08:60-09:00", "is not a part of a day"),
        ("24:00-01:00", "has no such time of day"),
        ("01:00-24:01", "has no such time of day"),
        ("08:00-08:00", "begins when it ends"),
    ],
)
def test_a_part_of_a_day_that_does_not_exist(text, words):
    with pytest.raises(ValueError, match=words):
        DailyHours.read(text)


def test_hours_read_back():
    assert str(DailyHours.read("8:05-24:00")) == "08:05-24:00"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_behind_the_rate_of_all_there_is_a_pause():
    clock = Clock()
    rate = TotalRate(TotalRateSettings(connections=3, pause=10), clock)
    assert [rate.admit() for _ in range(4)] == [True, True, True, False]
    clock.now += 9.9
    assert not rate.admit()
    clock.now += 0.2
    assert [rate.admit() for _ in range(4)] == [True, True, True, False]


def test_without_a_pause_it_is_a_bucket():
    clock = Clock()
    rate = TotalRate(TotalRateSettings(connections=2, per=1, burst=4), clock)
    assert [rate.admit() for _ in range(5)] == [True] * 4 + [False]
    clock.now += 0.5
    assert [rate.admit() for _ in range(2)] == [True, False]


def test_a_reload_with_the_same_rate_forgets_nothing():
    settings, clock = TotalRateSettings(connections=1, pause=60), Clock()
    rate = renew_total_rate(None, settings, clock)
    assert rate.admit()
    assert not rate.admit()
    assert not renew_total_rate(rate, TotalRateSettings(connections=1, pause=60), clock).admit()
    assert renew_total_rate(rate, TotalRateSettings(connections=2), clock).admit()
    assert renew_total_rate(rate, None, clock) is None
