# SPDX-License-Identifier: MIT
"""The channel between a supervisor and a worker: what is said unasked while a question is answered."""

from __future__ import annotations

import json
import selectors
import socket
import time
from contextlib import suppress

import pytest

from sockd.daemon.workers.ipc import ResponseChannel
from sockd.net.loop.loop import EventLoop
from sockd.wire.control import ControlResponse


@pytest.fixture
def loop():
    with selectors.DefaultSelector() as selector:
        one = EventLoop(selector, time.monotonic)
        yield one
        one.close()


@pytest.mark.parametrize("way", ["send", "send_now"])
def test_each_line_arrives_once_where_an_answer_sends_lines_of_its_own(loop, way):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)

        def answer(line):
            channel.send("event") if way == "send" else channel.send_now(ControlResponse("event"))
            return ControlResponse(line.decode())

        channel = ResponseChannel(ours, loop, answer, lambda: None)
        theirs.sendall(b"a\nb\n")
        received = b""
        for _ in range(100):
            if received.count(b"\n") == 4:
                break
            loop.run_once(0.1)
            with suppress(BlockingIOError):
                received += theirs.recv(4096)
        assert [json.loads(one)["result"] for one in received.splitlines()] == ["event", "a", "event", "b"]
        channel.close()
