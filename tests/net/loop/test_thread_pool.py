# SPDX-License-Identifier: MIT
"""The one pool of threads: order of a source, rotation of sources, shares, rest, and work that nobody wants.

Seen failing with the next work dispatched before done() is called (a source that rests had begun its next one), and
with a done() that fails keeping the rest from being dispatched.
"""

from __future__ import annotations

import selectors
import sys
import threading
import time

import pytest

from sockd.net.loop.loop import EventLoop
from sockd.net.loop.thread_pool import SWITCH_INTERVAL_SECONDS, ThreadPool, Work

LIMIT_S = 30


@pytest.fixture
def loop():
    with selectors.DefaultSelector() as selector:
        one = EventLoop(selector, time.monotonic)
        yield one
        one.close()


@pytest.fixture
def pool(loop):
    one = ThreadPool(1, loop)
    yield one
    one.close()


def until(loop, condition):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        loop.run_once(0.1)


def named(name, done):
    return Work("test", lambda: name, done)


def test_results_of_a_source_come_in_its_order_and_sources_in_turn(loop, pool):
    results, go = [], threading.Event()
    pool.submit(Work("test", lambda: go.wait(LIMIT_S), lambda _: None), "first")
    for name in ("a1", "a2", "a3"):
        pool.submit(named(name, results.append), "a")
    pool.submit(named("b1", results.append), "b")
    assert pool.at_work == 5
    go.set()
    until(loop, lambda: not pool.at_work)
    assert results == ["a1", "b1", "a2", "a3"]


def test_a_source_whose_result_has_it_rest_does_not_begin_its_next_one(loop, pool):
    results = []

    def done(name):
        results.append((name, time.monotonic()))
        if name == "a1":
            pool.rest("a", 0.3)

    for name, source in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        pool.submit(named(name, done), source)
    until(loop, lambda: not pool.at_work)
    (first, begun), (second, _), (third, ended) = results
    assert (first, second, third) == ("a1", "b1", "a2")
    assert ended - begun >= 0.3


def test_work_that_nobody_wants_is_not_begun(loop, pool):
    results, go = [], threading.Event()
    pool.submit(Work("test", lambda: go.wait(LIMIT_S), lambda _: None), "a")
    dropped = named("dropped", results.append)
    pool.submit(dropped, "b")
    pool.submit(named("kept", results.append), "c")
    dropped.is_wanted = False
    go.set()
    until(loop, lambda: not pool.at_work)
    assert results == ["kept"]


def test_a_result_that_cannot_be_delivered_ends_what_it_is_for_and_nothing_else(loop, pool):
    results = []
    pool.submit(Work("test", lambda: None, lambda _: 1 // 0, lambda: results.append("aborted")), "a")
    pool.submit(named("next", results.append), "a")
    until(loop, lambda: not pool.at_work)
    assert results == ["aborted", "next"]
    assert loop.defects.count == 1


def test_a_source_has_three_quarters_of_the_threads_and_this_host_all(loop):
    pool, go, begun = ThreadPool(8, loop), threading.Event(), []
    for _ in range(20):
        work = Work("test", lambda: go.wait(LIMIT_S), lambda _: None)
        work.begun = lambda: begun.append("a")
        pool.submit(work, "a")
    assert len(begun) == 6
    assert pool.is_full("a")
    assert not pool.is_full("b")
    for _ in range(2):
        pool.submit(Work("test", lambda: go.wait(LIMIT_S), lambda _: None))
    assert pool.is_full(None)
    go.set()
    until(loop, lambda: not pool.at_work)
    pool.close()


@pytest.mark.parametrize("computes", [True, False])
def test_the_interpreter_is_handed_over_more_often_where_the_work_computes(loop, computes):
    before = sys.getswitchinterval()
    pool = ThreadPool(1, loop, computes=computes)
    pool.submit(named("one", lambda _: None))
    assert (sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_SECONDS)) is computes
    until(loop, lambda: not pool.at_work)
    pool.close()
    assert sys.getswitchinterval() == before
