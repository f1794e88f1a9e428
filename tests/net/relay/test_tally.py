# SPDX-License-Identifier: MIT
"""Counting connections that have no row of the set."""

from __future__ import annotations

from sockd.net.relay.tally import ConnectionCounts
from sockd.wire.close_reason import CloseReason


class Connection:
    def __init__(self, *moved):
        self.moved = moved


def test_open_ones_count_as_they_go_on():
    tally = ConnectionCounts()
    one, other = Connection(1, 20), Connection(300, 4000)
    tally.add(one)
    tally.add(other)
    totals = tally.totals()
    assert (totals.accepted, totals.open, totals.received, totals.sent) == (2, 2, 301, 4020)
    other.moved = (500, 4000)
    assert tally.totals().received == 501
    assert sum(tally.totals().reasons) == 0


def test_what_has_ended_is_kept():
    tally = ConnectionCounts()
    one, other = Connection(1, 20), Connection(300, 4000)
    tally.add(one)
    tally.add(other)
    for connection, reason in zip(tally, (CloseReason.EOF, CloseReason.RESET), strict=True):
        tally.end(connection, reason)  # while they are gone through
    totals = tally.totals()
    assert (totals.accepted, totals.open, totals.received, totals.sent) == (2, 0, 301, 4020)
    assert {CloseReason(number) for number, count in enumerate(totals.reasons) if count == 1} == {
        CloseReason.EOF,
        CloseReason.RESET,
    }
    assert len(tally) == 0


def test_one_that_another_goes_on_for_is_not_counted():
    tally = ConnectionCounts()
    one, other = Connection(1, 20), Connection(300, 4000)
    tally.add(one)
    tally.drop(one)
    tally.add(other)
    tally.end(other, CloseReason.EOF)
    totals = tally.totals()
    assert (totals.accepted, totals.open, totals.received, totals.sent) == (1, 0, 300, 4000)
