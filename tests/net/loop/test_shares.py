# SPDX-License-Identifier: MIT
"""A share for each source: half of all for one alone, and something left for whoever comes from elsewhere."""

from __future__ import annotations

import pytest

from sockd.net.loop.shares import Shares, source_key
from sockd.services.socks.egress import KEPT, KEPT_SECONDS, Failures


def taken_by(shares, source):
    while shares.may(source):
        shares.acquire(source)
    return shares.has(source)


def test_each_has_half_of_what_is_left():
    shares = Shares(16)
    assert [taken_by(shares, source) for source in "abcdefg"] == [8, 4, 2, 1, 1, 0, 0]
    assert shares.is_full
    assert shares.largest() == "a"
    for _ in range(8):
        shares.give_back("a")
    assert taken_by(shares, "g") == 4
    assert len(shares) == 12


@pytest.mark.parametrize("most", [1, 2, 3, 1024])
def test_one_alone_has_at_least_one(most):
    assert taken_by(Shares(most), "a") == (most + 1) // 2


def test_what_a_source_is():
    assert source_key("192.0.2.1") != source_key("192.0.2.2")
    assert source_key("::ffff:192.0.2.1") == source_key("192.0.2.1")
    assert source_key("2001:db8::1") == source_key("2001:db8::ffff:0:0:1") != source_key("2001:db8:0:1::1")
    assert source_key("fe80::1%3") == source_key("fe80::2")
    assert source_key("") is None


def test_failures_are_remembered_for_a_while():
    now = 100.0
    failures = Failures(lambda: now)
    failures.put("name", "why")
    assert (failures.get("name"), failures.get("other")) == ("why", "")
    now += KEPT_SECONDS
    assert failures.get("name") == ""
    for number in range(KEPT + 5):
        failures.put(str(number), "why")
    assert (failures.get("4"), failures.get("5")) == ("", "why")
