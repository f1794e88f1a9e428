# SPDX-License-Identifier: MIT
"""One line in an interval for each condition."""

from __future__ import annotations

from sockd.log import rate_limit
from sockd.log.rate_limit import LogLimit


def test_the_first_is_written_and_the_next_says_how_many_were_held_back():
    now = 0.0
    limit = LogLimit(lambda: now, interval=5)
    assert limit.admit("a") == 0
    assert [limit.admit("a") for _ in range(3)] == [None] * 3
    assert limit.admit("b") == 0
    now = 4.9
    assert limit.admit("a") is None
    now = 5.0
    assert [limit.admit("a"), limit.admit("a")] == [4, None]
    now = 10.0
    assert limit.admit("a") == 1


def test_keys_are_bounded(monkeypatch):
    monkeypatch.setattr(rate_limit, "MAX_KEYS", 3)
    limit = LogLimit(lambda: 0.0)
    assert [limit.admit(key) for key in "abcd"] == [0] * 4
    assert limit.admit("b") is None
    assert limit.admit("a") == 0  # forgotten
