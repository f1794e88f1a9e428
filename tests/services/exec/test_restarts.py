# SPDX-License-Identifier: MIT
"""The pace of a program that dies at once, by a fake clock."""

from __future__ import annotations

import pytest

from sockd.process.program import ExitStatus
from sockd.services.exec.restarts import (
    LONGEST_PAUSE_SECONDS,
    PACE_SECONDS,
    Outcome,
    Restarts,
    is_power_of_ten,
    outcome,
)

FIRST, OTHER = (b"a", ("127.0.0.1", 1)), (b"b", ("127.0.0.1", 1))


def ended(code=0, signal=None, seconds=0.01):
    return ExitStatus(code, signal, seconds, 0.001)


@pytest.mark.parametrize(
    ("how", "before", "after", "is_ready", "expected"),
    [
        (ended(1, seconds=1.5), FIRST, FIRST, True, Outcome.WORKED),  # it has lived
        (ended(1), FIRST, None, False, Outcome.FAILED),  # also where it has received what came
        (ended(None, signal=11), FIRST, None, False, Outcome.FAILED),
        (ended(0), FIRST, None, False, Outcome.WORKED),
        (ended(0), FIRST, OTHER, True, Outcome.WORKED),  # a busy service
        (ended(0), FIRST, FIRST, True, Outcome.FAILED),  # /bin/true
        (ended(0), None, None, True, Outcome.UNKNOWN),  # a listening socket: whose connection waits cannot be seen
        (ended(0), None, None, False, Outcome.WORKED),
    ],
)
def test_a_run_is_judged(how, before, after, is_ready, expected):
    assert outcome(how, before=before, after=after, is_ready=is_ready) is expected


def run(count, how):
    now = [100.0]
    restarts = Restarts(lambda: now[0])
    told, pauses = [], []
    for _ in range(count):
        restarts.count(how)
        told.append(is_power_of_ten(restarts.streak))
        pauses.append(restarts.pause)
        now[0] += restarts.pause
    return restarts, sum(told), pauses


def test_a_thousand_quick_deaths_are_four_starts_told_and_wait_longer_and_longer():
    restarts, told, pauses = run(1000, Outcome.FAILED)
    assert told == 4
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert [max(pauses), pauses[-1]] == pytest.approx([LONGEST_PAUSE_SECONDS] * 2)
    assert restarts.failed == 1000


def test_programs_that_may_have_served_are_paced_and_not_stopped():
    restarts, told, pauses = run(1000, Outcome.UNKNOWN)
    assert max(pauses) == pytest.approx(PACE_SECONDS)
    assert (told, restarts.failed) == (4, 0)


def test_one_that_works_ends_the_streak():
    restarts, _, _ = run(5, Outcome.FAILED)
    restarts.count(Outcome.WORKED)
    assert (restarts.pause, restarts.streak, restarts.is_next_logged) == (0.0, 0, True)
