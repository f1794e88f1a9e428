# SPDX-License-Identifier: MIT
"""What is between a line and the coroutine that waits for it: the types of awaited.h, on a loop of asyncio's own.

asyncio's tasks - those of C, those of Python, and eager ones - get the line, a cancellation, a loss; nothing is kept.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import sys
import weakref

import pytest
from awaiting import Transport, reader_of, run, waiting
from holding import held

from sockd.services.handlers.streams import StreamReader

HOW = {"readline": lambda reader: reader.readline(), "anext": lambda reader: reader.__anext__()}


@pytest.mark.parametrize("how", HOW)
def test_a_line_wakes_in_the_order_of_callbacks(how):
    async def scenario(reader):
        seen = []
        task = await waiting(HOW[how](reader))
        loop = asyncio.get_running_loop()
        loop.call_soon(seen.append, "before")
        task.add_done_callback(lambda task: seen.append(task.result()))
        reader.feed(b"line\n")
        loop.call_soon(seen.append, "after")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return seen

    assert run(scenario) == ["before", "after", b"line\n"]


@pytest.mark.parametrize("how", HOW)
def test_a_wait_that_is_cancelled_takes_nothing(how):
    async def scenario(reader):
        task = await waiting(HOW[how](reader))
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        reader.feed(b"a\n")
        task = await waiting(HOW[how](reader))
        assert await task == b"a\n"
        task = await waiting(HOW[how](reader))
        reader.feed(b"b\n")
        task.cancel()  # the line has come, and was not read
        with pytest.raises(asyncio.CancelledError):
            await task
        assert reader.unread == b"b\n"
        task = await waiting(HOW[how](reader))
        assert await task == b"b\n"
        task = await waiting(HOW[how](reader))
        task.cancel()
        reader.feed(b"c\n")  # before its task knows
        with pytest.raises(asyncio.CancelledError):
            await task
        return await HOW[how](reader)

    assert run(scenario) == b"c\n"


@pytest.mark.parametrize("how", HOW)
def test_a_wait_may_have_an_end(how):
    async def scenario(reader):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(HOW[how](reader), 0.01)
        reader.feed(b"late\n")
        return await asyncio.wait_for(HOW[how](reader), 60)

    assert run(scenario) == b"late\n"


@pytest.mark.parametrize("second", HOW)
@pytest.mark.parametrize("first", HOW)
def test_one_may_wait(first, second):
    async def scenario(reader):
        task = await waiting(HOW[first](reader))
        with pytest.raises(RuntimeError, match="already waiting"):
            await HOW[second](reader)
        reader.feed(b"of the first\n")
        return await task

    assert run(scenario) == b"of the first\n"


def test_a_line_that_is_not_awaited_stays():
    async def scenario(reader):
        reader.feed(b"a\nb\n")
        unused, later = reader.__anext__(), reader.__anext__()
        del unused
        assert await later == b"a\n"
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await later
        return await reader.readline()

    assert run(scenario) == b"b\n"


def test_blocks_are_cut_as_by_the_method_of_python():
    """Lines, ends of lines, what is too long, long blocks and full queues, with nobody waiting."""
    pieces = [b"a\n", b"\n\nb\n", b"c\nd", b"e", b"l" * 100 + b"\nm\n", b"n\n" + b"o" * 101 + b"\n", b"p\n" * 2048]
    pieces += [b"q\n" * 2049, b"\n" * 600, b"\r\n" * 60, b"\0\n"]

    async def scenario(_reader):
        loop, chance = asyncio.get_running_loop(), random.Random(1)
        for limit in (100, 100, 10_000):
            one, other = (StreamReader(limit, loop, lambda: False, 60, lambda: None) for _ in range(2))
            held = [Transport(), Transport()]
            one.set_transport(held[0])
            other.set_transport(held[1])
            for _ in range(400):
                if chance.random() < 0.4:
                    piece = chance.choice(pieces)
                    one.feed(piece)
                    other._feed(piece)
                elif one.unread:
                    for reader in (one, other):
                        if b"\n" not in reader.unread:
                            reader.feed(b"\n")
                    got = [await asyncio.gather(reader.readline(), return_exceptions=True) for reader in (one, other)]
                    assert repr(got[0]) == repr(got[1])
                assert one.unread == other.unread
                assert held[0].is_held == held[1].is_held

    run(scenario)


def test_the_clock_is_read_less_and_less_often():
    """Where the turn is not over: before these lines, of those that nobody waited for."""
    lines, asked = [], []

    async def scenario(_reader):
        reader = reader_of(asyncio.get_running_loop(), lambda: asked.append(len(lines)))
        reader.feed(b"line\n" * 30)
        for line in [b"line\n"] * 30:
            assert await reader.readline() == line
            lines.append(line)

    run(scenario)
    assert asked == [1, 4, 9, 18, 27]


def test_who_reads_on_lets_others_run_once_the_turn_is_over():
    ran = []

    async def scenario(_reader):
        loop = asyncio.get_running_loop()
        reader = reader_of(loop, lambda: True)
        reader.feed(b"line\n" * 4)
        for _ in range(4):
            loop.call_soon(ran.append, "other")
            await reader.readline()
            ran.append("line")

    run(scenario)
    assert ran == ["line", "other", "other", "line"] * 2


def test_an_end_wakes():
    async def scenario(reader):
        task = await waiting(reader.__anext__())
        reader.feed_eof()
        with pytest.raises(StopAsyncIteration):
            await task
        assert await reader.readline() == b""

    async def cut(reader):
        task = await waiting(reader.readline())
        reader.feed(b"half")
        reader.feed_eof()
        return await task

    async def lost(reader):
        task = await waiting(reader.__anext__())
        reader.lose(ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError, match="gone"):
            await task
        with pytest.raises(ConnectionResetError, match="gone"):
            await reader.readline()

    async def of_a_class(reader):
        task = await waiting(reader.__anext__())
        reader.set_exception(KeyError)
        with pytest.raises(KeyError):
            await task
        task = await waiting(reader_of(asyncio.get_running_loop()).readline())
        task.cancel()

    run(scenario)
    assert run(cut) == b"half"
    run(lost)
    run(of_a_class)


@pytest.mark.parametrize("what", [KeyError, KeyError("x"), asyncio.CancelledError()])
def test_by_hand_it_is_a_coroutine(what):
    async def scenario(reader):
        step = reader.__anext__()
        assert asyncio.iscoroutine(step)
        assert not asyncio.isfuture(step)
        waiter = step.send(None)
        assert asyncio.isfuture(waiter)
        assert not waiter.done()
        assert reader.is_waiting
        with pytest.raises(type(what) if isinstance(what, BaseException) else what):
            step.throw(what)
        assert not reader.is_waiting
        step = reader.__anext__()
        step.send(None)
        step.close()
        assert not reader.is_waiting
        with pytest.raises(RuntimeError, match="cannot reuse"):
            step.send(None)
        reader.feed(b"whole\nhalf")
        step = reader.__anext__()
        with pytest.raises(StopIteration) as raised:
            step.send(None)
        assert raised.value.value == b"whole\n"
        step = reader.__anext__()  # which leaves it to the reader's own coroutine
        step.send(None)
        with pytest.raises(type(what) if isinstance(what, BaseException) else what):
            step.throw(what)
        step = reader.__anext__()
        step.send(None)
        step.close()
        reader.feed(b" done\n")
        return await reader.readline()

    assert run(scenario) == b"half done\n"


def test_tasks_of_python_and_eager_ones():
    async def scenario(reader):
        task = await waiting(reader.__anext__())
        reader.feed(b"a\n")
        return await task

    async def with_factory(factory):
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        return await scenario(reader_of(loop))

    def of_python(loop, coroutine, **more):
        return asyncio.tasks._PyTask(coroutine, loop=loop, **more)

    assert asyncio.run(with_factory(of_python)) == b"a\n"
    if sys.version_info >= (3, 12):
        assert asyncio.run(with_factory(asyncio.eager_task_factory)) == b"a\n"


def test_the_context_of_the_task_is_kept():
    name = contextvars.ContextVar("name")

    async def scenario(reader):
        async def session():
            name.set("its own")
            line = await reader.__anext__()
            return line, name.get()

        task = await waiting(session())
        name.set("another")
        reader.feed(b"x\n")
        return await task

    assert run(scenario) == (b"x\n", "its own")


def test_a_system_exit_ends_the_loop():
    async def scenario(reader):
        async def session():
            await reader.readline()
            raise SystemExit(3)

        await waiting(session())
        reader.feed(b"x\n")
        await asyncio.sleep(60)

    with pytest.raises(SystemExit):
        run(scenario)


def test_an_abandoned_wait_is_collected():
    loop = asyncio.new_event_loop()

    async def session(reader):
        async for _ in reader:
            pass

    def abandon():
        reader = reader_of(loop)
        coroutine = session(reader)
        waiter = coroutine.send(None)
        waiter.add_done_callback(coroutine.send, context=contextvars.copy_context())  # a cycle, as a task's
        return weakref.ref(reader)

    left = abandon()
    gc.collect()
    assert left() is None
    loop.close()


def test_lines_that_were_read_keep_nothing():
    """10^5 lines, in each way they are waited for or not; one object for each kind of a thousand would be seen."""

    async def scenario(reader):
        async def session():
            async for line in reader:
                if line == b"last\n":
                    return

        async def reading():
            while await reader.readline() != b"last\n":
                pass

        async def rounds(function, count):
            task = await waiting(function())
            for _ in range(count):
                reader.feed(b"one\n")
                await asyncio.sleep(0)
                reader.feed(b"one\ntwo\nhal")
                await asyncio.sleep(0)
                reader.feed(b"f\n")
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        async def grown(count):
            before = held()
            await rounds(session, count)
            await rounds(reading, count)
            return held() - before

        await grown(1000)
        return [await grown(5000) for _ in range(3)]

    assert min(run(scenario)) < 90
