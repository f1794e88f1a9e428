# SPDX-License-Identifier: MIT
"""The types of awaited.h in hands that are not a task's: deleted attributes, re-entrant calls, the collector.

Seen to fail: each test, with types that believed what they had looked at before such code ran, and with a wait that
forgot whose it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import selectors
import sys
import time
import traceback

import pytest
from awaiting import Transport, reader_of, run, waiting

from sockd.net.loop.asyncio_loop import AsyncioLoop, LineDelivery, LineSource
from sockd.services.handlers.streams import StreamReader


def test_what_is_deleted_or_was_never_set_is_an_error():
    async def scenario(reader):
        del reader._loop
        with pytest.raises(AttributeError):
            await reader.readline()
        reader = reader_of(asyncio.get_running_loop())
        del reader._waiter
        task = await waiting(reader.readline())
        reader.feed(b"line\n")
        assert await task == b"line\n"
        del reader._buffer
        with pytest.raises((AttributeError, TypeError)):
            await reader.readline()

    run(scenario)
    with pytest.raises(AttributeError):
        LineSource().feed(b"line\n")
    with pytest.raises(AttributeError):
        LineSource().__anext__().send(None)
    with pytest.raises(TypeError, match="before _use"):
        LineDelivery().frames(0, 0, 0, 0, 0, 0)
    delivery = LineDelivery()
    with pytest.raises(TypeError):
        delivery._use(1, [], None)
    with pytest.raises(TypeError, match="before _use"):
        delivery.frames(0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("what", [3, int, None])
def test_what_is_no_exception_is_not_thrown(what):
    async def scenario(reader):
        step = reader.__anext__()
        step.send(None)
        with pytest.raises(TypeError, match="BaseException"):
            step.throw(what)
        assert reader.is_waiting
        step.close()
        with pytest.raises(RuntimeError, match="cannot reuse"):
            step.throw(KeyError)

    run(scenario)


def test_an_exception_keeps_where_it_was_raised():
    def gone():
        raise ConnectionResetError("gone")

    async def scenario(reader):
        task = await waiting(reader.readline())
        try:
            gone()
        except ConnectionResetError as error:
            reader.lose(error)
        with pytest.raises(ConnectionResetError, match="gone") as raised:
            await task
        return [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]

    assert run(scenario)[-1] == "gone"


def test_a_stop_iteration_is_no_line():
    async def scenario(reader):
        task = await waiting(reader.readline())
        reader.lose(StopIteration(b"line\n"))
        with pytest.raises(RuntimeError, match="StopIteration"):
            await task

    run(scenario)


def test_an_exception_whose_making_ends_the_wait():
    async def scenario(reader):
        task = await waiting(reader.readline())
        waiter = reader._waiter

        class CancellingError(Exception):
            def __init__(self):
                waiter.cancel()

        with pytest.raises(asyncio.InvalidStateError):
            waiter.set_exception(CancellingError)
        with pytest.raises(asyncio.CancelledError):
            await task
        task = await waiting(reader.readline())
        with pytest.raises(ZeroDivisionError):
            reader._waiter.set_exception(type("Failing", (Exception,), {"__init__": lambda self: 1 / 0}))
        with pytest.raises(TypeError):
            reader._waiter.set_exception("no exception")
        reader.feed(b"line\n")
        return await task

    assert run(scenario) == b"line\n"


def test_a_step_that_closes_itself():
    """What the reader's own coroutine calls may do so: nothing is freed under its feet."""

    async def scenario(_reader):
        for use in (lambda step: step.close(), lambda step: step.send(None), lambda step: step.throw(KeyError)):
            steps = []
            reader = reader_of(asyncio.get_running_loop(), lambda use=use, steps=steps: use(*steps))
            reader.feed(b"a\nb\n")
            reader._left = 0
            step = reader.__anext__()
            steps.append(step)
            with pytest.raises(ValueError, match="already executing"):
                step.send(None)
            with pytest.raises(RuntimeError, match="cannot reuse"):
                step.send(None)
            reader._is_late = lambda: False
            assert await reader.readline() == b"a\n"

    run(scenario)


def test_a_step_that_is_sent_on_too_early_or_dropped_waits_no_more():
    async def scenario(reader):
        step = reader.__anext__()
        step.send(None)
        with pytest.raises(RuntimeError, match="await wasn't used with future"):
            step.send(None)
        assert not reader.is_waiting
        step = reader.__anext__()
        step.send(None)
        del step
        assert not reader.is_waiting
        task = await waiting(reader.readline())
        reader.feed(b"line\n")
        return await task

    assert run(scenario) == b"line\n"


def test_a_clock_that_fails_ends_the_step():
    async def scenario(_reader):
        reader = reader_of(asyncio.get_running_loop(), lambda: 1 / 0)
        reader.feed(b"a\nb\n")
        reader._left = 0
        step = reader.__anext__()
        with pytest.raises(ZeroDivisionError):
            step.send(None)
        with pytest.raises(RuntimeError, match="cannot reuse"):
            step.send(None)
        del reader._is_late
        with pytest.raises(AttributeError):
            await reader.readline()
        reader._is_late = lambda: False
        return await reader.readline()

    assert run(scenario) == b"a\n"


def test_a_clock_that_reads_the_line():
    """Whoever has asked it gets the next one."""

    async def scenario(_reader):
        def read():
            reader._is_late = lambda: False
            with pytest.raises(StopIteration) as got:
                reader.__anext__().send(None)
            lines.append(got.value.value)

        lines = []
        reader = reader_of(asyncio.get_running_loop(), read)
        reader.feed(b"a\n")
        reader._left = 0
        task = await waiting(reader.readline())
        reader.feed(b"b\n")
        return lines, await task

    assert run(scenario) == ([b"a\n"], b"b\n")


def test_a_dropped_step_leaves_no_time_for_its_line():
    async def scenario(_reader):
        late = []
        reader = StreamReader(100, asyncio.get_running_loop(), lambda: False, 0, lambda: late.append(1))
        step = reader.__anext__()
        step.send(None)
        reader.feed(b"begun")
        del step
        assert await reader.read(5) == b"begun"
        task = await waiting(reader.readline())
        for _ in range(3):
            await asyncio.sleep(0)
        reader.feed(b"line\n")
        return await task, late

    assert run(scenario) == (b"line\n", [])


def test_a_cancelled_task_leaves_the_wait_of_another():
    """The first was woken, the second has read its line and waits for the next."""

    async def scenario(reader):
        async def two_lines():
            return [await reader.readline(), await reader.readline()]

        first = await waiting(reader.readline())
        second = asyncio.ensure_future(two_lines())
        asyncio.get_running_loop().call_soon(first.cancel)
        reader.feed(b"1\n")
        await asyncio.wait([first])
        assert first.cancelled()
        reader.feed(b"2\n")
        return await asyncio.wait_for(second, 10)

    assert run(scenario) == [b"1\n", b"2\n"]


def test_cancelled_reads_of_what_is_late_do_not_hold_the_peer_up_for_good():
    async def scenario(_reader):
        reader, transport = reader_of(asyncio.get_running_loop(), lambda: True), Transport()
        reader.set_transport(transport)
        reader.feed(b"".join(b"%089d\n" % number for number in range(8)))
        assert transport.is_held
        lines = []
        while reader.unread:
            task = await waiting(reader.readline())  # which yields, for its turn is over
            task.cancel()
            await asyncio.wait([task])
            lines.append(await reader.readline() if task.cancelled() else task.result())
        task = await waiting(reader.readline())
        assert not transport.is_held
        task.cancel()
        return len(lines)

    assert run(scenario) == 8


def test_every_call_raises_what_was_set():
    async def scenario(reader):
        reader.set_exception(KeyError("set"))
        for read in (reader.readline, reader.__anext__, reader.read, reader.readuntil) * 2:
            with pytest.raises(KeyError, match="set"):
                await read()
            reader.feed(b"line\n")

    run(scenario)


def test_a_line_that_comes_while_the_collector_runs_within_a_read():
    """Up to Python 3.11 it may run wherever an object is made, as the one that waits."""

    class Feeding:
        """Feeds a line when it is collected."""

        def __init__(self, reader):
            self.reader, self.itself = reader, self

        def __del__(self):
            self.reader.feed_data(b"line\n")

    async def scenario(reader):
        gc.collect()
        gc.disable()
        try:
            Feeding(reader)
            left = [[] for _ in range(gc.get_threshold()[0])]
            step = reader.__anext__()
            with contextlib.suppress(StopIteration):
                gc.enable()
                step.send(None)
        finally:
            gc.enable()
        del left
        gc.collect()
        return reader.is_waiting, reader.unread

    assert run(scenario) == (False, b"" if sys.version_info < (3, 12) else b"line\n")


def test_debug_mode_names_the_task_that_a_line_woke(caplog):
    caplog.set_level(logging.WARNING, "asyncio")

    async def scenario(reader):
        asyncio.get_running_loop().slow_callback_duration = 0.0

        async def slow_session():
            await reader.readline()
            caplog.clear()

        task = await waiting(slow_session())
        reader.feed(b"x\n")
        await task

    run(scenario, debug=True)
    assert "slow_session" in caplog.text


def test_debug_mode_names_it_in_the_daemons_loop_too(caplog):
    caplog.set_level(logging.WARNING, "asyncio")
    with selectors.SelectSelector() as selector:
        loop = AsyncioLoop(selector, time.monotonic)
        loop.asyncio.set_debug(True)
        loop.asyncio.slow_callback_duration = 0.0
        reader = reader_of(loop.asyncio)

        async def slow_session():
            await reader.readline()
            caplog.clear()

        task = loop.asyncio.create_task(slow_session())
        loop.run_once(0)
        reader.feed(b"x\n")
        while not task.done():
            loop.run_once(0)
        loop.close()
    assert "slow_session" in caplog.text
