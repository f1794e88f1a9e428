# SPDX-License-Identifier: MIT
"""A reply that goes on: what is lost of it."""

from __future__ import annotations

import json
import selectors
import socket
import time
from contextlib import closing

import pytest

from sockd.daemon.control.streams import MAX_UNREAD_BYTES, Stream
from sockd.net.loop.loop import EventLoop

LINE = {"data": "x" * 1000}


@pytest.fixture
def loop():
    with selectors.DefaultSelector() as selector:
        one = EventLoop(selector, time.monotonic)
        yield one
        one.close()


def test_who_does_not_read_gets_the_last_line(loop):
    """Seen to fail: what is unread was full, and the line was one of those that are lost."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        ours.setblocking(False)
        theirs.setblocking(False)
        stream = Stream(lambda: None)
        stream.attach(ours, loop, lambda: None)
        stream.open({})
        count = 0
        while not stream.lost:
            stream.send(LINE)
            count += 1
        stream.end("upgraded")
        loop.remove_reader(ours.fileno())
        ours.close()
        received = b""
        while piece := theirs.recv(1 << 20):
            received += piece
        first, *lines, lost, end = (json.loads(one) for one in received.splitlines())
        assert (first["result"], end) == ({}, {"end": "upgraded"})
        assert lines == [LINE] * (count - lost["lost"])
        assert len(lines) > MAX_UNREAD_BYTES // 8 // 1000


def test_many_lines_of_one_turn_are_no_slow_client(loop):
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        ours.setblocking(False)
        theirs.setblocking(False)
        stream = Stream(lambda: None)
        stream.attach(ours, loop, lambda: None)
        stream.open({})
        count = MAX_UNREAD_BYTES // 1000 + 50  # more than is kept, and less than the kernel holds beside that
        for _ in range(count):
            stream.send(LINE)
        received = b""
        for _ in range(1000):
            if received.count(b"\n") > count:
                break
            loop.run_once(0)
            received += theirs.recv(1 << 20)
        assert [json.loads(one) for one in received.splitlines()[1:]] == [LINE] * count
        stream.close()
        loop.remove_reader(ours.fileno())
