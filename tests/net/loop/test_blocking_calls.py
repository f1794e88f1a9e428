# SPDX-License-Identifier: MIT
"""Threads for what blocks: each answer once, in the loop, at its deadline at the latest.

Seen failing with the timer left out (the hung ones), with the limit of those that wait left out, and with an
exception of the function not passed on.
"""

from __future__ import annotations

import selectors
import threading
import time

import pytest

from sockd.net.loop.blocking_calls import BlockingCalls, NoAnswer, Overloaded
from sockd.net.loop.loop import EventLoop

LIMIT_S = 30


@pytest.fixture
def loop():
    with selectors.DefaultSelector() as selector:
        one = EventLoop(selector, time.monotonic)
        yield one
        one.close()


@pytest.fixture
def workers(loop):
    one = BlockingCalls(loop, "test", threads=2, waiting=3)
    yield one
    one.close()


def until(loop, condition):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        loop.run_once(0.1)


def test_an_answer_comes_in_the_loop(loop, workers):
    told = []
    workers.ask(threading.get_ident, lambda answer: told.append((answer, threading.get_ident())), 10)
    assert told == []
    until(loop, lambda: told)
    ((asked, answered),) = told
    assert answered == threading.get_ident() != asked


def test_an_exception_is_an_answer(loop, workers):
    told = []
    workers.ask(lambda: 1 // 0, told.append, 10)
    until(loop, lambda: told)
    assert isinstance(told[0], ZeroDivisionError)


def test_what_hangs_is_answered_at_its_deadline_and_others_when_a_thread_is_free(loop, workers):
    told, late, go = [], [], threading.Event()
    for _ in range(2):
        workers.ask(lambda: go.wait(LIMIT_S), told.append, 0.05)
    until(loop, lambda: len(told) == 2)
    assert all(isinstance(answer, NoAnswer) for answer in told)
    workers.ask(lambda: "late", late.append, LIMIT_S)
    go.set()
    until(loop, lambda: late)
    assert late == ["late"]
    assert len(told) == 2  # nobody is told twice


def test_too_many_are_answered_at_once(loop, workers):
    told, go = [], threading.Event()
    for _ in range(21):
        workers.ask(lambda: go.wait(LIMIT_S), told.append, LIMIT_S)
    until(loop, lambda: len(told) >= 15)
    assert all("already" in str(answer) for answer in told)
    go.set()
    until(loop, lambda: len(told) == 21)


def test_a_question_can_be_taken_back(loop, workers):
    told, go = [], threading.Event()
    first = workers.ask(lambda: go.wait(LIMIT_S), told.append, LIMIT_S)
    first.cancel()
    go.set()
    workers.ask(lambda: "second", told.append, LIMIT_S)
    until(loop, lambda: told)
    assert told == ["second"]


def test_a_source_that_asks_for_what_never_comes_leaves_threads_to_others(loop):
    """40 slow ones of one source; those of others are answered at once, as long as there are not very many others."""
    one = BlockingCalls(loop, "test", threads=16, waiting=64)
    go, slow, quick = threading.Event(), [], []
    for _ in range(40):
        one.ask(lambda: go.wait(LIMIT_S), slow.append, LIMIT_S, "slow")
    for source in ("a", "b", "c"):
        one.ask(lambda: "quick", quick.append, LIMIT_S, source)
    until(loop, lambda: len(quick) == 3)
    assert quick == ["quick"] * 3
    assert len(slow) == 0
    go.set()
    until(loop, lambda: len(slow) == 40)
    assert slow == [True] * 40
    one.close()


def test_a_source_that_fills_its_places_is_told_so_and_others_wait(loop):
    one = BlockingCalls(loop, "test", threads=2, waiting=8)
    go, bad, good = threading.Event(), [], []
    for source in ("bad", "good"):
        one.ask(lambda: go.wait(LIMIT_S), lambda answer: None, LIMIT_S, source)
    for _ in range(100):
        one.ask(lambda: "bad", bad.append, LIMIT_S, "bad")
    for _ in range(2):
        one.ask(lambda: "good", good.append, LIMIT_S, "good")
    until(loop, lambda: len(bad) == 96)
    assert all(isinstance(answer, Overloaded) for answer in bad)
    assert good == []
    go.set()
    until(loop, lambda: len(bad) == 100 and len(good) == 2)
    assert bad[96:] == ["bad"] * 4
    assert good == ["good"] * 2
    one.close()


def test_sources_are_asked_in_turn(loop):
    one, go, asked = BlockingCalls(loop, "test", threads=1, waiting=64), threading.Event(), []
    one.ask(lambda: go.wait(LIMIT_S), asked.append, LIMIT_S)
    for _ in range(5):
        one.ask(lambda: "many", asked.append, LIMIT_S, "many")
    one.ask(lambda: "few", asked.append, LIMIT_S, "few")
    go.set()
    until(loop, lambda: len(asked) == 7)
    assert asked[1:3] == ["many", "few"]
    one.close()


def test_a_source_that_rests_waits_and_others_do_not(loop):
    one, told = BlockingCalls(loop, "test", threads=4, waiting=64), []
    one.rest("bad", 0.2)
    begun = time.monotonic()
    one.ask(lambda: "bad", told.append, LIMIT_S, "bad")
    one.ask(lambda: "good", told.append, LIMIT_S, "good")
    until(loop, lambda: len(told) == 2)
    assert told == ["good", "bad"]
    assert time.monotonic() - begun >= 0.2
    one.close()


def test_a_question_that_is_taken_back_gives_its_place_back(loop):
    one, go, told = BlockingCalls(loop, "test", threads=2, waiting=8), threading.Event(), []
    one.ask(lambda: go.wait(LIMIT_S), told.append, LIMIT_S)
    for _ in range(50):
        one.ask(lambda: "never", told.append, LIMIT_S).cancel()
    one.ask(lambda: "last", told.append, LIMIT_S)
    go.set()
    until(loop, lambda: len(told) == 2)
    assert told == [True, "last"]
    one.close()
