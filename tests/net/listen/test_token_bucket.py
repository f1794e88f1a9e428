# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from sockd.net.listen import token_bucket
from sockd.net.listen.token_bucket import TokenBuckets


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def taken(buckets, source, tokens=1):
    count = 0
    while buckets.consume(source, tokens):
        count += 1
    return count


def test_a_source_may_take_its_burst_at_once(clock):
    buckets = TokenBuckets(5, 1, clock)
    assert taken(buckets, "a") == 5
    assert taken(buckets, "b") == 5
    assert not buckets.consume("a")


def test_a_bucket_fills_with_time_and_not_past_its_burst(clock):
    buckets = TokenBuckets(5, 2, clock)
    taken(buckets, "a")
    clock.now += 1.5
    assert taken(buckets, "a") == 3
    clock.now += 1000
    assert taken(buckets, "a") == 5


def test_it_fills_also_while_its_source_is_refused(clock):
    buckets = TokenBuckets(5, 1, clock)
    taken(buckets, "a")
    for _ in range(4):
        clock.now += 0.25
        took = buckets.consume("a")
    assert took


def test_what_is_too_much_takes_nothing(clock):
    buckets = TokenBuckets(5, 1, clock)
    assert not buckets.consume("a", 6)
    assert buckets.consume("a", 5)


def test_with_a_grace_only_silence_fills(clock):
    buckets = TokenBuckets(5, 1, clock, grace=1)
    taken(buckets, "a")
    for _ in range(100):
        clock.now += 0.9
        assert not buckets.consume("a")
    clock.now += 3
    assert taken(buckets, "a") == 2


def test_the_source_heard_of_longest_ago_is_forgotten_first(clock, monkeypatch):
    monkeypatch.setattr(token_bucket, "BUCKETS", 3)
    buckets = TokenBuckets(2, 0.001, clock)
    for source in "abc":
        taken(buckets, source)
    buckets.consume("a")
    taken(buckets, "d")
    assert len(buckets) == 3
    assert not buckets.consume("a")
    assert buckets.consume("b")


def test_full_buckets_are_forgotten(clock):
    buckets = TokenBuckets(2, 1, clock)
    for source in range(100):
        buckets.consume(source)
    assert len(buckets) == 100
    clock.now += 10
    for _ in range(100):
        buckets.consume("new")
    assert len(buckets) == 1
