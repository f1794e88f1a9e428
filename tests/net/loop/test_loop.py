# SPDX-License-Identifier: MIT
"""The event loop with a clock and a selector that the test moves.

Seen to fail: with the timeout of run_once not cut to the next timer; with call_soon
run until the queue is empty; with callbacks not guarded; with keys called that are not registered
any more; with cancelled timers left in the heap.
"""

from __future__ import annotations

import os
import selectors
from contextlib import suppress

import pytest

from sockd.net.loop.loop import MIN_COMPACTED, REST_SECONDS, EventLoop


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Patience(selectors.SelectSelector):
    """Returns at once what is ready; a wait moves the clock instead."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        self.waits = []

    def select(self, timeout=None):
        self.waits.append(timeout)
        ready = super().select(0)
        if not ready and timeout:
            self.clock.now += timeout
        return ready


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def selector(clock):
    with Patience(clock) as selector:
        yield selector


@pytest.fixture
def loop(clock, selector):
    loop = EventLoop(selector, clock)
    yield loop
    loop.close()


def test_timers_come_in_the_order_of_their_times_and_then_of_their_making(loop):
    seen = []
    for delay, name in ((2, "b"), (1, "a"), (2, "c"), (0, "now")):
        loop.call_later(delay, lambda name=name: seen.append(name))
    loop.run_once(0)
    assert seen == ["now"]
    loop.run_once(None)
    assert seen == ["now", "a"]
    loop.run_once(None)
    assert seen == ["now", "a", "b", "c"]


def test_a_wait_is_cut_to_the_next_timer(loop, selector, clock):
    loop.call_later(5, lambda: None)
    loop.run_once(None)
    assert selector.waits == [5]
    assert clock.now == 105
    loop.call_later(5, lambda: None)
    loop.run_once(2)
    assert selector.waits == [5, 2]


def test_without_timers_it_waits_as_long_as_it_is_told(loop, selector):
    loop.run_once(7)
    loop.run_once(None)
    assert selector.waits == [7, None]


def test_a_timer_that_is_late_is_called_in_the_next_turn(loop, selector, clock):
    seen = []
    loop.call_later(1, lambda: seen.append(1))
    clock.now += 60
    loop.run_once(None)
    assert (seen, selector.waits) == ([1], [0])


@pytest.mark.parametrize(
    "kind", [Patience, selectors.SelectSelector, selectors.PollSelector, selectors.DefaultSelector]
)
def test_a_timer_that_is_never_due(kind, clock):
    """Seen to fail: the wait for it was a number that selectors cannot take, and ended the loop."""
    with kind(*[clock] * (kind is Patience)) as selector:
        loop, called = EventLoop(selector, clock), []
        for delay in (float("inf"), 1e300):
            loop.call_later(delay, lambda: called.append("never"))
        reading, writing = os.pipe()
        os.write(writing, b"x")
        loop.add_reader(reading, lambda: called.append("ready"))
        loop.run_once(None)
        loop.call_later(-1, lambda: called.append("due"))
        loop.run_once(None)
        loop.close()
        os.close(reading)
        os.close(writing)
    assert called[0] == "ready"
    assert "due" in called
    assert "never" not in called


def test_a_timer_at_no_time_is_refused(loop):
    """Seen to fail: no timer behind it was called any more."""
    with pytest.raises(ValueError, match="delay: expected a number of seconds, not nan"):
        loop.call_later(float("nan"), print)
    called = []
    loop.call_later(0.0, lambda: called.append(1))
    loop.run_once(None)
    assert called == [1]


def test_a_cancelled_timer_is_not_called(loop):
    seen = []
    first = loop.call_later(1, lambda: seen.append("first"))
    loop.call_later(1, lambda: seen.append("second"))
    first.cancel()
    loop.run_once(None)
    first.cancel()
    assert seen == ["second"]


def test_a_timer_may_cancel_the_next_and_make_another(loop):
    seen = []
    loop.call_later(1, lambda: (second.cancel(), loop.call_later(0, lambda: seen.append("third"))))
    second = loop.call_later(1, lambda: seen.append("second"))
    loop.run_once(None)
    loop.run_once(None)
    assert seen == ["third"]


def test_soon_is_once_and_without_waiting(loop, selector):
    seen = []
    loop.call_soon(lambda: seen.append(1))
    loop.run_once(None)
    assert (seen, selector.waits) == ([1], [0])
    loop.run_once(3)
    assert (seen, selector.waits) == ([1], [0, 3])


def test_what_soon_asks_for_comes_in_the_next_turn(loop):
    """So that a callback that calls itself does not keep the descriptors waiting."""
    seen = []

    def again():
        seen.append(len(seen))
        loop.call_soon(again)

    loop.call_soon(again)
    for turn in range(1, 4):
        loop.run_once(None)
        assert len(seen) == turn


def test_readers_are_called_while_they_are_readable(loop):
    reader, writer = os.pipe()
    seen = []
    loop.add_reader(reader, lambda: seen.append(os.read(reader, 1)))
    loop.run_once(0)
    os.write(writer, b"ab")
    loop.run_once(0)
    loop.run_once(0)
    loop.run_once(0)
    assert seen == [b"a", b"b"]
    loop.remove_reader(reader)
    loop.remove_reader(reader)
    os.write(writer, b"c")
    loop.run_once(0)
    assert seen == [b"a", b"b"]
    os.close(reader)
    os.close(writer)


def test_stop_ends_run_after_its_turn(loop):
    seen = []
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: seen.append("the same turn"))
    loop.call_later(1, lambda: seen.append("later"))
    loop.run()
    assert seen == ["the same turn"]


# ---- what callbacks raise


ERRORS = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, RecursionError]


@pytest.fixture
def pipes():
    """Makes pipes that have something to read."""
    opened = []

    def make():
        reader, writer = os.pipe()
        opened.extend((reader, writer))
        os.write(writer, b"x")
        return reader

    yield make
    for fd in opened:
        with suppress(OSError):
            os.close(fd)


def raise_(error):
    raise error


@pytest.mark.parametrize("error", ERRORS)
def test_a_failure_costs_its_own_callback_alone(loop, pipes, error):
    seen = []
    loop.add_reader(pipes(), lambda: raise_(error))
    loop.add_reader(pipes(), lambda: seen.append("reader"))
    loop.call_later(0, lambda: raise_(error))
    loop.call_later(0, lambda: seen.append("timer"))
    loop.call_soon(lambda: raise_(error))
    loop.call_soon(lambda: seen.append("soon"))
    loop.run_once(0)
    assert sorted(seen) == ["reader", "soon", "timer"]
    assert loop.defects.count == 3


def test_a_descriptor_that_fails_rests_and_is_tried_again(loop, pipes, clock):
    calls = []
    reader = pipes()
    loop.add_reader(reader, lambda: (calls.append(clock.now), 1 / 0))
    for _ in range(10):
        loop.run_once(0)
    assert calls == [100.0]
    clock.now += REST_SECONDS
    loop.run_once(0)
    loop.run_once(0)
    assert calls == [100.0, 100.0 + REST_SECONDS]


@pytest.mark.parametrize("again", ["remove_reader", "add_reader", "watch_fd"])
def test_a_rest_ends_when_the_descriptor_is_watched_anew_or_no_more(loop, pipes, clock, again):
    seen = []
    reader = pipes()
    loop.add_reader(reader, lambda: 1 / 0)
    loop.run_once(0)
    if again == "remove_reader":
        loop.remove_reader(reader)
    elif again == "add_reader":
        loop.add_reader(reader, lambda: seen.append(1))
    else:
        loop.watch_fd(reader, selectors.EVENT_READ, lambda: seen.append(1))
    clock.now += 2 * REST_SECONDS
    loop.run_once(0)
    loop.run_once(0)
    assert bool(seen) == (again != "remove_reader")
    assert loop.defects.count == 1


def test_an_owner_ends_what_failed(loop, pipes):
    reader = pipes()
    ended = []

    def abort():
        ended.append(True)
        loop.remove_reader(reader)

    loop.add_reader(reader, loop.guarded(lambda: 1 / 0, abort))
    loop.run_once(0)
    loop.run_once(0)
    assert (ended, loop.defects.count) == ([True], 1)


def test_an_owner_that_fails_as_well_is_survived_and_its_descriptor_is_watched_no_more(loop, pipes, clock):
    failing = loop.guarded(lambda: 1 / 0, lambda: raise_(SystemExit))
    loop.call_soon(failing)
    loop.add_reader(pipes(), failing)
    for _ in range(5):
        clock.now += REST_SECONDS
        loop.run_once(0)
    assert loop.defects.count == 4


# ---- what is not registered any more


def test_what_an_earlier_callback_took_away_is_not_called(loop, pipes):
    """As when a client ends just as its connection out is made: whichever comes first ends the other."""
    seen = []
    one, other = pipes(), pipes()
    for mine, yours in ((one, other), (other, one)):
        loop.add_reader(mine, lambda mine=mine, yours=yours: (seen.append(mine), loop.remove_reader(yours)))
    loop.run_once(0)
    assert len(seen) == 1


def test_what_an_earlier_callback_registered_anew_is_called_in_the_next_turn(loop, pipes):
    """The number of a descriptor that was closed is another's at once."""
    seen = []
    one, other = pipes(), pipes()

    def swap(other):
        if not seen:
            loop.remove_reader(other)
            loop.add_reader(other, lambda: seen.append("new"))
        seen.append("first")

    loop.add_reader(one, lambda: swap(other))
    loop.add_reader(other, lambda: swap(one))
    loop.run_once(0)
    assert seen == ["first"]
    loop.run_once(0)
    assert "new" in seen


# ---- cancelled timers


def test_cancelled_timers_leave_the_heap(loop):
    kept = [loop.call_later(3600, lambda: None) for _ in range(10)]
    for _ in range(100_000):
        loop.call_later(3600, lambda: None).cancel()
    assert len(loop._timers) <= 2 * MIN_COMPACTED + len(kept)
    assert all(timer.callback for timer in kept)
    seen = []
    loop.call_later(1, lambda: seen.append(1))
    loop.run_once(None)
    assert seen == [1]
