# SPDX-License-Identifier: MIT
# Seen failing with lines that are held back and never written, and with counts of the C core that cost a line each.
"""Clients that are not served: counted by the reason, and all of them in the log, with a line in an interval."""

from __future__ import annotations

from collections import Counter

import pytest

from sockd.net.listen.refusal import LOGGED_ELSEWHERE, RefusalReason, Refusals, RefusedClient


class Loop:
    """Timers that the test lets pass."""

    def __init__(self):
        self.due = []

    def call_later(self, seconds, then):
        assert seconds == 5
        self.due.append(then)

    def pass_interval(self):
        due, self.due = self.due, []
        for then in due:
            then()


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def refusals(loop):
    return Refusals(Counter(), Counter(), "here", "upper", loop.call_later)


def told(caplog):
    """Return what each line says: the reason, how many it stands for, and the total."""
    assert set(caplog.messages) <= {"refused"}
    events = [record.event for record in caplog.records]
    return [(one["reason"], one["count"], one["total"], one["peer"]) for one in events]


def test_the_first_is_logged_at_once_and_the_others_at_the_end_of_the_interval(refusals, loop, caplog):
    for number in range(100):
        refusals.count(RefusalReason.DENIED, RefusedClient(str(number)))
    assert told(caplog) == [("denied", 1, 1, "0")]
    loop.pass_interval()
    assert told(caplog)[1:] == [("denied", 99, 100, "99")]
    refusals.count(RefusalReason.DENIED, RefusedClient("100"), 7)
    loop.pass_interval()
    assert told(caplog)[2:] == [("denied", 7, 107, "100")]


def test_no_timer_runs_where_nobody_is_refused(refusals, loop):
    refusals.count(RefusalReason.RATE, RefusedClient("1"))
    loop.pass_interval()
    assert loop.due == []


def test_reasons_do_not_hold_each_other_back(refusals, caplog):
    for reason in (RefusalReason.FULL, RefusalReason.PROXY, RefusalReason.FULL):
        refusals.count(reason, RefusedClient("1"))
    assert [one[0] for one in told(caplog)] == ["full", "proxy"]


def test_what_is_held_back_is_logged_at_the_end_and_once(refusals, loop, caplog):
    for number in range(3):
        refusals.count(RefusalReason.NO_DESCRIPTOR, RefusedClient(str(number)))
    refusals.flush()
    assert told(caplog)[1:] == [("no-descriptor", 2, 3, "2")]
    loop.pass_interval()
    refusals.flush()
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("reason", RefusalReason)
def test_each_reason_has_a_name_and_a_meaning_and_its_lines_have_them(reason, caplog):
    caplog.set_level("INFO")
    counts: Counter[str] = Counter()
    refusals = Refusals(counts, of_service := Counter(), "here", "upper", lambda _seconds, _then: None)
    refusals.count(reason, RefusedClient("there"), 3)
    assert counts == of_service == {reason.value: 3}
    assert reason.meaning
    lines = [record.event for record in caplog.records]
    limit = {"limit": reason.limit} if reason.limit else {}
    known = {"address": "here", "service": "upper", "peer": "there", "reason": reason.value, **limit}
    assert lines == ([] if reason in LOGGED_ELSEWHERE else [known | {"count": 3, "total": 3}])
