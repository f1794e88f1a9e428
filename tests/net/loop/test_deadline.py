# SPDX-License-Identifier: MIT
"""Deadlines of peers, with a clock that the test moves.

Seen to fail: with the deadline judged whenever it is due; with no bound on how often it is given anew.
"""

from __future__ import annotations

import selectors

import pytest

from sockd.net.loop.deadline import LATE_SHARE, MAX_EXTENSIONS, Deadline
from sockd.net.loop.loop import EventLoop


class Bench:
    now = 0.0

    def __init__(self, selector):
        self.loop = EventLoop(selector, lambda: self.now)
        self.passed = []

    def deadline(self, seconds, **more):
        return Deadline(self.loop, seconds, lambda: self.passed.append(self.now), **more)

    def at(self, now):
        """Let the loop turn at a time, and not before."""
        self.now = now
        self.loop.run_once(0)


@pytest.fixture
def bench():
    with selectors.DefaultSelector() as selector:
        made = Bench(selector)
        yield made
        made.loop.close()


def test_a_loop_that_turns_judges_in_time(bench):
    bench.deadline(1)
    bench.at(0.99)
    assert bench.passed == []
    bench.at(1 + LATE_SHARE)
    assert bench.passed == [1 + LATE_SHARE]


def test_a_loop_that_stood_still_gives_the_whole_time_anew(bench):
    bench.deadline(1)
    bench.at(90.0)
    assert bench.passed == []
    bench.at(90.9)
    assert bench.passed == []
    bench.at(91.1)
    assert bench.passed == [91.1]


def test_a_loop_that_is_always_late_judges_in_the_end(bench):
    bench.deadline(1)
    for turn in range(1, MAX_EXTENSIONS + 1):
        bench.at(10.0 * turn)
        assert bench.passed == []
    bench.at(10.0 * (MAX_EXTENSIONS + 1))
    assert len(bench.passed) == 1


@pytest.mark.parametrize(
    ("began", "passes"), [(99.5, 100.5), (99.0, 100.0), (98.6, 100.0), (98.4, 101.0), (50.0, 101.0)]
)
def test_time_that_began_earlier(bench, began, passes):
    """Whoever comes from elsewhere has the rest, and all of it anew when most of it was lost there."""
    bench.now = 100.0
    bench.deadline(1, began=began)
    if passes > bench.now:
        bench.at(passes - 0.01)
        assert bench.passed == []
    bench.at(passes + 0.01)
    assert len(bench.passed) == 1


def test_it_can_be_taken_back_at_any_time(bench):
    first, second = bench.deadline(1), bench.deadline(1)
    first.cancel()
    bench.at(90.0)
    second.cancel()
    bench.at(95.0)
    assert bench.passed == []


def test_a_failure_costs_what_abort_ends(bench):
    ended = []
    Deadline(bench.loop, 1, lambda: 1 / 0, lambda: ended.append(True))
    bench.at(1.0)
    assert (ended, bench.loop.defects.count) == ([True], 1)
