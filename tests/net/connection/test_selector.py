# SPDX-License-Identifier: MIT
"""One suite for every multiplexer: each is a selectors.BaseSelector for Python's own descriptors.

What is asked is what the documentation of `selectors` promises.  Seen to fail: with
get_map() a plain dict of descriptors, a file object is not found in it and the map can
be changed; with modify() leaving out the watch; with the mask in SetSelector.select not
cut to what was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import socket
import sys
from collections.abc import Mapping
from time import monotonic

import pytest

from sockd.errors import ConfigurationError
from sockd.net.connection import selector as module
from sockd.net.connection.table import ConnectionTable

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@pytest.fixture(params=["auto", "epoll", "poll", "select"])
def selector(request):
    connections = ConnectionTable(size=10, memory=1 << 30, epoll=module.waits_in_table(request.param))
    with module.choose(request.param, connections) as selector:
        yield selector
    connections.close()


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_the_choice_by_name(selector, request):
    assert isinstance(selector, selectors.BaseSelector)


def test_a_multiplexer_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.delattr(selectors, "PollSelector")
    with pytest.raises(ConfigurationError, match=r'daemon\.multiplexer: "poll" is not available on this system'):
        module.choose("poll", ConnectionTable(size=1, memory=1 << 30, epoll=False))


def test_a_key_has_all_that_was_registered(selector, pair):
    key = selector.register(pair[0], READ, "data")
    assert key == selectors.SelectorKey(pair[0], pair[0].fileno(), READ, "data")
    assert selector.get_key(pair[0]) == selector.get_key(pair[0].fileno()) == key


def test_what_is_ready_is_reported_with_what_was_asked_for(selector, pair):
    one, other = pair
    reads = selector.register(one, READ, "r")
    assert selector.select(0) == []
    writes = selector.register(other, WRITE, "w")
    assert selector.select(0) == [(writes, WRITE)]
    other.send(b"x")
    assert sorted(selector.select(0), key=lambda pair: pair[1]) == [(reads, READ), (writes, WRITE)]
    both = selector.modify(one, READ | WRITE, "both")
    assert (both, READ | WRITE) in selector.select(0)


def test_the_end_of_the_peer_is_readable(selector, pair):
    key = selector.register(pair[0], READ)
    pair[1].close()
    assert selector.select(10) == [(key, READ)]


def test_it_waits_until_something_happens(selector, pair):
    key = selector.register(pair[0], READ)
    pair[1].send(b"x")
    assert selector.select() == [(key, READ)]
    assert selector.select(-1) == [(key, READ)]


def test_a_timeout_is_not_shorter_than_asked(selector, pair):
    selector.register(pair[0], READ)
    began = monotonic()
    assert selector.select(0.0203) == []
    assert monotonic() - began >= 0.0195


def test_modify_changes_events_and_data(selector, pair):
    selector.register(pair[0], READ, 1)
    key = selector.modify(pair[0], WRITE, 2)
    assert (key.events, key.data) == (WRITE, 2)
    assert selector.select(0) == [(key, WRITE)]
    assert selector.modify(pair[0], WRITE, 3).data == 3
    assert selector.select(0)[0][0].data == 3


def test_unregister_ends_it(selector, pair):
    key = selector.register(pair[0], WRITE)
    assert selector.unregister(pair[0]) == key
    assert selector.select(0) == []
    selector.register(pair[0], WRITE)
    assert len(selector.select(0)) == 1


def test_unregister_after_close(selector):
    one, other = socket.socketpair()
    selector.register(one, READ)
    one.close()
    selector.unregister(one)
    assert len(selector.get_map()) == 0
    other.close()


@pytest.mark.parametrize("events", [0, 4, 99])
def test_wrong_events(selector, pair, events):
    with pytest.raises(ValueError, match="event"):
        selector.register(pair[0], events)


@pytest.mark.parametrize("fileobj", [-1, "text", object()])
def test_wrong_file_objects(selector, fileobj):
    with pytest.raises(ValueError, match="Invalid file"):
        selector.register(fileobj, READ)


def test_twice_and_not_at_all(selector, pair):
    selector.register(pair[0], READ)
    with pytest.raises(KeyError):
        selector.register(pair[0], WRITE)
    with pytest.raises(KeyError):
        selector.register(pair[0].fileno(), WRITE)
    for call in (selector.unregister, selector.get_key, lambda sock: selector.modify(sock, READ)):
        with pytest.raises(KeyError):
            call(pair[1])


def test_the_map_knows_file_objects_and_descriptors(selector, pair):
    one, other = pair
    key = selector.register(one, READ)
    keys = selector.get_map()
    assert isinstance(keys, Mapping)
    assert keys[one] == keys[one.fileno()] == key
    assert one in keys
    assert one.fileno() in keys
    assert other not in keys
    assert keys.get(other) is None
    assert list(keys) == [one.fileno()]
    assert list(keys.values()) == [key]
    with pytest.raises(KeyError):
        keys[other]
    with pytest.raises(TypeError):
        del keys[one.fileno()]


def test_a_descriptor_used_again_is_a_new_one(selector):
    for _ in range(3):
        reader, writer = os.pipe()
        key = selector.register(reader, READ)
        os.write(writer, b"x")
        assert selector.select(0) == [(key, READ)]
        selector.unregister(reader)
        os.close(reader)
        os.close(writer)


def test_a_change_that_fails_leaves_nothing_behind(selector):
    """EBADF of epoll_ctl(2) for ENOMEM; poll and select notice nothing.  It can be ended and be watched anew."""
    one, other = socket.socketpair()
    fd = one.fileno()
    selector.register(fd, READ, 1)
    one.close()
    with contextlib.suppress(OSError):
        selector.modify(fd, READ | WRITE, 2)
    if fd in selector.get_map():
        selector.unregister(fd)
    assert fd not in selector.get_map()
    other.close()
    one, other = socket.socketpair()
    with one, other:
        assert fd in (one.fileno(), other.fileno())
        selector.register(fd, WRITE, 3)
        assert [(key.fd, key.data) for key, _ in selector.select(1)] == [(fd, 3)]
        selector.unregister(fd)


def test_asyncio_runs_on_it(selector):
    """A pipe, a timer, a thread and a server, in an event loop of asyncio over this selector."""

    async def read_a_pipe():
        reader, writer = os.pipe()
        stream = asyncio.StreamReader()
        with os.fdopen(reader, "rb", 0) as file:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(stream), file
            )
            os.write(writer, b"through a pipe")
            os.close(writer)
            found = await stream.read()
            transport.close()
            return found

    async def talk():
        async def answer(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            found = await reader.read()
            writer.close()
            await writer.wait_closed()
            return found

    async def main():
        await asyncio.sleep(0.001)
        return await read_a_pipe(), await asyncio.to_thread(lambda: 5), await talk()

    loop = asyncio.SelectorEventLoop(selector)
    try:
        assert loop.run_until_complete(main()) == (b"through a pipe", 5, b"HELLO\n")
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def test_auto_is_the_table_on_linux():
    assert module.waits_in_table("auto") == (sys.platform == "linux")
    assert not module.waits_in_table("epoll")
