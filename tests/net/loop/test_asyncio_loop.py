# SPDX-License-Identifier: MIT
"""asyncio's loop on sockd's: what waking a task costs, and that it is asyncio's own otherwise.

Seen to fail: with asyncio's own call_soon() and get_debug() (5 calls to wake, 1 to make a future); without
_run_theirs() (Handle._run for each callback).
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
import socket
import sys
import time

import pytest

from sockd.net.loop.asyncio_loop import AsyncioLoop


@pytest.fixture
def loop():
    with selectors.SelectSelector() as selector:
        loop = AsyncioLoop(selector, time.monotonic)
        yield loop
        loop.close()


def calls(function):
    """Return what the function returned, and the names of the Python functions that it has called."""
    names = []

    def note(frame, event, _argument):
        if event == "call":
            names.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        returned = function()
    finally:
        sys.setprofile(None)
    return returned, names[1:]  # without the function's own


def test_future_is_made_by_no_call_and_wakes_its_task_by_one(loop):
    async def wait(future):
        return await future

    theirs = loop.asyncio
    future, made_by = calls(lambda: asyncio.Future(loop=theirs))
    task = theirs.create_task(wait(future))
    loop.run_once(0)
    _, woken_by = calls(lambda: future.set_result(7))
    _, run_by = calls(lambda: loop.run_once(0))

    assert (made_by, woken_by, task.result()) == ([], ["call_soon"], 7)
    assert run_by[run_by.index("_run_theirs") + 1] == "wait"


def test_callbacks_have_their_context_and_order_and_may_be_cancelled(loop):
    name = contextvars.ContextVar("name", default="none")
    context = contextvars.copy_context()
    context.run(name.set, "mine")
    seen = []
    handles = [
        loop.asyncio.call_soon(lambda number: seen.append((number, name.get())), number, context=context)
        for number in range(3)
    ]
    loop.asyncio.call_soon(lambda: seen.append(name.get()))
    handles[1].cancel()
    loop.run_once(0)

    assert seen == [(0, "mine"), (2, "mine"), "none"]
    assert "lambda" in repr(handles[2])


def test_handle_has_whatever_asyncios_has(loop):
    """It is made field by field: a version of Python that has another one must not come unnoticed."""
    context = contextvars.copy_context()
    made = loop.asyncio.call_soon(print, 1, context=context)
    theirs = asyncio.Handle(print, (1,), loop.asyncio, context)
    names = [name for name in asyncio.Handle.__slots__ if name != "__weakref__"]
    assert [getattr(made, name) for name in names] == [getattr(theirs, name) for name in names]
    assert not hasattr(theirs, "__dict__")
    made.cancel()


def test_callback_that_raises_is_logged(loop, caplog):
    loop.asyncio.call_soon(lambda: 1 // 0, context=contextvars.copy_context())
    loop.run_once(0)

    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


def test_debug_mode_is_asyncios_own(loop):
    async def function():
        pass

    theirs = loop.asyncio
    assert theirs.get_debug() is False
    theirs.set_debug(True)
    assert theirs.get_debug() is True
    with pytest.raises(TypeError, match="coroutines cannot be used"):
        theirs.call_soon(function, context=contextvars.copy_context())
    theirs.set_debug(False)
    assert theirs.get_debug() is False


def test_loop_that_is_closed_refuses():
    with selectors.SelectSelector() as selector:
        loop = AsyncioLoop(selector, time.monotonic)
        loop.close()
        with pytest.raises(RuntimeError, match="closed"):
            loop.asyncio.call_soon(print, context=contextvars.copy_context())


@pytest.mark.parametrize("has_task", [False, True], ids=["sockd's turns", "asyncio's"])
def test_a_hook_in_the_middle_of_a_turn_runs_to_its_end(loop, has_task):
    """As at a reload; clients and callbacks of sockd's wait meanwhile."""
    seen = []
    near, far = socket.socketpair()

    async def hook():
        reader, writer = await asyncio.open_unix_connection(sock=far)
        seen.append(await asyncio.to_thread(lambda: "thread"))
        await asyncio.sleep(0.01)
        near.send(b"line\n")
        seen.append(await reader.readline())
        writer.close()

    async def session():
        await asyncio.sleep(3600)

    def reload():
        loop.call_soon(lambda: seen.append("soon"))
        loop.call_soon(loop.stop)
        loop.run_until_complete(hook())
        seen.append("reloaded")
        with pytest.raises(ZeroDivisionError):
            loop.run_until_complete(fails())

    async def fails():
        1 // 0  # noqa: B018

    if has_task:
        task = loop.asyncio.create_task(session())
        loop.run_once(0)
    loop.call_soon(reload)
    loop.run()
    near.close()

    assert seen == ["thread", b"line\n", "reloaded", "soon"]
    if has_task:
        assert not task.done()
    loop.run_until_complete(asyncio.sleep(0))  # as a hook at the end
