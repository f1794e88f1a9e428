# SPDX-License-Identifier: MIT
"""A process that a handler has forked runs the handler's code, and nothing of the daemon's.

Seen to fail: the copy answers the client, closes the connection, and serves on; it never ends.
"""

from __future__ import annotations

import socket

import pytest

from sockd.net.connection.table import ConnectionTable
from sockd.net.loop.loop import EventLoop
from sockd.process import forked

APP = """
import asyncio
import os
import sys

import sockd


def act(line):
    child = os.fork()
    if child == 0:
        if line == b"exit":
            sys.exit(3)
        if line == b"text":
            sys.exit("no number")
        if line == b"raise":
            raise ValueError("of the child")
        return b"from the child"
    _, status = os.waitpid(child, 0)
    return b"%d" % os.waitstatus_to_exitcode(status)


def with_connection(line, connection):
    connection.write(b"")
    return act(line)


def from_peer(line, connection):
    return act(line)


batch = sockd.Service()
batch.frames(lambda lines: [act(line) for line in lines])
blocking = sockd.Service(blocking=True)
blocking.frame(act)
records = sockd.Service(framing=sockd.Record("!4s"))
records.frame(lambda frame: (act(frame[0]),))


class Protocol(sockd.LineProtocol):
    def line_received(self, line):
        self.send_line(act(line))


class Timed(sockd.LineProtocol):
    def line_received(self, line):
        self.transport.call_later(0.01, lambda: self.send_line(act(line)))


class Closing(sockd.LineProtocol):
    def line_received(self, line):
        reply = act(line)
        if reply == b"from the child":
            self.transport.abort()
        self.send_line(reply)


async def each(line):
    await asyncio.sleep(0)
    return act(line)


async def coroutine(reader, writer):
    async for line in reader:
        writer.write(act(line.rstrip()) + b"\\n")


async def returning(reader, writer):
    async for line in reader:
        reply = act(line.rstrip())
        if reply == b"from the child":
            return
        writer.write(reply + b"\\n")
"""
KINDS = [
    "act",
    "with_connection",
    "batch",
    "blocking",
    "Protocol",
    "Timed",
    "Closing",
    "each",
    "coroutine",
    "returning",
]


@pytest.fixture
def app(launch, tmp_path):
    """The directory of the daemon, with the handlers."""
    (tmp_path / "forking.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_a_handler_forks_ends_where_its_code_does(serve, app, kind):
    server = serve(f"tcp://127.0.0.1:0=forking:{kind}", "tcp://127.0.0.1:0=upper")
    peer = server.connect()
    for line, code in ((b"return", b"0"), (b"exit", b"3"), (b"text", b"1"), (b"raise", b"1"), (b"return", b"0")):
        assert peer.ask(line) == code, line
    peer.send(b"return\nexit\n")
    assert peer.lines(2) == [b"0\n", b"3\n"]
    assert peer.finish() == b""
    assert server.connect(server.addresses[1]).ask(b"other") == b"OTHER"
    failed = server.wait_for("forked process failed")
    assert "of the child" in failed["traceback"]
    server.stop()
    assert len(server.having("forked process failed")) == 1
    assert not server.having("handler failed")
    assert not server.having("defect")


def test_records_too(serve, app):
    server = serve("tcp://127.0.0.1:0=forking:records")
    peer = server.connect()
    for line, code in ((b"back", b"0"), (b"exit", b"3"), (b"text", b"1"), (b"back", b"0")):
        peer.send(line)
        assert peer.file.read(4) == code.ljust(4, b"\0"), line


def test_what_a_copy_may_not_do_is_named_as_it_is():
    assert [name for name in forked.TABLE if not hasattr(ConnectionTable, name)] == []
    assert [name for name in forked.LOOP if not hasattr(EventLoop, name)] == []


@pytest.mark.parametrize("kind", ["act", "from_peer", "batch", "blocking", "each"])
def test_of_datagrams_too(serve, app, kind):
    server = serve(f"udp://127.0.0.1:0=forking:{kind}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        host, _, port = server.addresses[0].removeprefix("udp://").rpartition(":")
        client.connect((host, int(port)))
        client.settimeout(20)
        for line, code in ((b"return", b"0"), (b"exit", b"3"), (b"raise", b"1"), (b"return", b"0")):
            client.send(line)
            assert client.recv(100) == code, line


def test_frames_behind_it_are_not_handled_by_the_copy(serve, app):
    (app / "forking.py").write_text(
        APP + "\n\ndef note(line):\n    print(os.getpid(), flush=True)\n    return act(line)\n"
    )
    server = serve("tcp://127.0.0.1:0=forking:note")
    peer = server.connect()
    peer.send(b"return\n" * 20)
    assert peer.lines(20) == [b"0\n"] * 20
    server.stop()
    assert server.output.count(str(server.process.pid)) == 20
    assert len([line for line in server.output if line.isdigit()]) == 20
