# SPDX-License-Identifier: MIT
"""The list of overrides, while many sources come to a listener with `deny_time`."""

from __future__ import annotations

import pytest

from sockd.daemon import overrides
from sockd.daemon.overrides import Overrides
from sockd.errors import UsageError


class Clockwork:
    """A loop whose time is told it."""

    def __init__(self):
        self.now = 1000.0
        self.due = []

    def clock(self):
        return self.now

    def call_later(self, seconds, callback):
        timer = _Timer(self.now + seconds, callback)
        self.due.append(timer)
        return timer

    def pass_time(self, seconds):
        self.now += seconds
        for timer in [one for one in self.due if one.when <= self.now]:
            self.due.remove(timer)
            timer.callback()


class _Timer:
    def __init__(self, when, callback):
        self.when, self.callback = when, callback

    def cancel(self):
        self.callback = lambda: None


@pytest.fixture
def listed():
    loop, applied = Clockwork(), []
    return Overrides(loop, lambda rows: applied.append(len(rows))), loop, applied


def test_a_flood_of_sources_applies_the_list_a_few_times_and_none_is_forgotten(listed):
    rows, loop, applied = listed
    for number in range(2000):
        rows.deny_source(f"2001:db8:{number:x}::/64", 60.0)
        loop.pass_time(0.001)
    loop.pass_time(1)
    assert applied[0] == 1  # the first one at once
    assert applied[-1] == 2000
    assert len(applied) < 100
    loop.pass_time(60)
    loop.pass_time(1)
    assert (applied[-1], rows.rows) == (0, [])
    assert len(applied) < 105


def test_a_source_is_denied_for_its_time_and_again_when_it_comes_again(listed):
    """deny_time of a listener, by a fake clock."""
    rows, loop, applied = listed
    rows.deny_source("192.0.2.1/32", 3600.0)
    assert [row.subject for row in rows.rows] == ["192.0.2.1/32"]
    loop.pass_time(1800)
    rows.deny_source("192.0.2.1/32", 3600.0)
    rows.deny_source("192.0.2.2/32", 60.0)
    loop.pass_time(61)
    assert [row.subject for row in rows.rows] == ["192.0.2.1/32"]
    loop.pass_time(3600 - 61 - 1)
    assert [row.subject for row in rows.rows] == ["192.0.2.1/32"]  # from its second visit on
    loop.pass_time(1)
    loop.pass_time(1)
    assert (rows.rows, applied[-1]) == ([], 0)


def test_what_an_administrator_says_holds_at_once_among_them(listed):
    rows, loop, applied = listed
    for number in range(100):
        rows.deny_source(f"2001:db8:{number:x}::/64", 60.0)
    before = len(applied)
    rows.add("deny", "192.0.2.0/24", 0, "")
    assert (len(applied), applied[-1]) == (before + 1, 101)
    loop.pass_time(1)
    assert len(applied) == before + 1  # nothing was left


def test_sources_leave_room_for_an_administrator(listed, monkeypatch):
    rows, _, _ = listed
    monkeypatch.setattr(overrides, "MAX_OVERRIDES", 3)
    for number in range(5):
        rows.deny_source(f"192.0.2.{number}/32", 60.0)
    assert len(rows.rows) == 3
    for number in range(3):
        rows.add("allow", f"198.51.100.{number}/32", 0, "")
    with pytest.raises(UsageError, match="3 overrides already"):
        rows.add("deny", "203.0.113.0/24", 0, "")
