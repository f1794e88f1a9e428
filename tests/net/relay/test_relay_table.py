# SPDX-License-Identifier: MIT
"""A pump between two peers: bytes, ends of file, resets and deadlines, each way."""

from __future__ import annotations

import itertools
import os
import random
import selectors
import socket
import struct
import time
from contextlib import contextmanager, suppress

import pytest

from sockd.net.loop.loop import EventLoop
from sockd.net.relay.pump import RelayPump

RESET = struct.pack("ii", 1, 0)
KINDS = ("tcp", "unix")


@pytest.fixture
def loop():
    with selectors.DefaultSelector() as selector:
        made = EventLoop(selector, time.monotonic)
        yield made
        made.close()


def pair(kind):
    if kind == "unix":
        ends = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            ends = client, listener.accept()[0]
    for end in ends:
        end.setblocking(False)
    return ends


class Line:
    """A client and a server with a pump between them."""

    def __init__(self, loop, kind, **arguments):
        self.loop = loop
        self.client, one = pair(kind)
        self.server, other = pair(kind)
        self.why = []
        arguments = {"half_close_timeout": 60, **arguments}
        self.pump = RelayPump(loop, one, other, on_end=lambda reason: self.why.append(str(reason)), **arguments)

    def until(self, condition, seconds=10):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "nothing came of it"
            self.loop.run_once(0.02)

    def receive(self, sock, size):
        """Receive exactly so many bytes; b"" at the end."""
        got = bytearray()

        def some():
            with suppress(BlockingIOError):
                data = sock.recv(size - len(got))
                got.extend(data)
                return not data or len(got) == size
            return False

        self.until(some)
        return bytes(got)

    def rest(self, seconds):
        """Let the loop run for so long."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def ends(self):
        self.until(lambda: self.why)
        return self.why[0]


@contextmanager
def user_line(loop, kind="tcp", **arguments):
    line = Line(loop, kind, **arguments)
    with line.client, line.server:
        yield line


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_go_both_ways_and_an_end_of_file_behind_them(loop, kind):
    with user_line(loop, kind) as line:
        line.client.send(b"question")
        assert line.receive(line.server, 8) == b"question"
        line.client.send(b"?")
        line.client.shutdown(socket.SHUT_WR)
        assert line.receive(line.server, 100) == b"?"  # and the end of file
        line.server.send(b"answer")
        assert line.receive(line.client, 6) == b"answer"
        assert line.pump.moved == (9, 6)
        assert not line.why
        line.server.shutdown(socket.SHUT_WR)
        assert line.receive(line.client, 1) == b""
        assert line.ends() == "eof"
        assert line.pump.moved == (9, 6)


def test_leftovers_go_first(loop):
    with user_line(loop, leftovers=(b"to the server ", b"to the client ")) as line:
        line.client.send(b"more")
        line.server.send(b"more")
        assert line.receive(line.server, 18) == b"to the server more"
        assert line.receive(line.client, 18) == b"to the client more"
        assert line.pump.moved == (18, 18)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("largest", [100, 1_000_000])
def test_every_byte_arrives_in_its_order(loop, kind, largest):
    """In pieces of all sizes, so that both ways of moving bytes take turns, with a receiver that is slow at times."""
    choose = random.Random(largest)
    size = 20_000_000 if largest > 1000 else 200_000
    sent = os.urandom(1 << 20) * (size // (1 << 20) + 1)
    sent, got = memoryview(sent)[:size], bytearray()
    with user_line(loop, kind) as line:
        at = 0
        while len(got) < size:
            if at < size:
                with suppress(BlockingIOError):
                    at += line.client.send(sent[at : at + choose.randint(1, largest)])
            loop.run_once(0)
            if choose.random() < 0.5:
                with suppress(BlockingIOError):
                    got += line.server.recv(choose.randint(1, 2 * largest))
        assert got == sent


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_reset_is_a_reset_of_both(loop, side):
    with user_line(loop) as line:
        first, second = (line.client, line.server) if side == "client" else (line.server, line.client)
        first.send(b"x")
        assert line.receive(second, 1) == b"x"
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        first.close()
        assert line.ends() == "reset"
        assert os.strerror(line.pump.error) == "Connection reset by peer"
        assert line.pump.side == (0 if side == "client" else 1)
        with pytest.raises(ConnectionResetError):
            second.recv(1)


def test_a_reset_is_noticed_while_the_other_side_does_not_read(loop):
    with user_line(loop) as line:
        block = bytes(1 << 20)

        def full():
            try:
                line.client.send(block)
            except BlockingIOError:
                moved = line.pump.moved
                loop.run_once(0.02)
                return line.pump.moved == moved
            return False

        line.until(full)
        line.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        line.client.close()
        assert line.ends() == "reset"


def test_what_a_server_said_before_it_went_arrives(loop):
    with user_line(loop) as line:
        line.client.send(b"x" * 1000)
        line.until(lambda: line.pump.moved[0] == 1000)
        line.server.send(b"413 enough")
        line.server.close()  # with what it has not read: its end is a reset
        assert line.receive(line.client, 10) == b"413 enough"
        assert line.ends() == "reset"


def test_after_an_end_of_file_the_other_way_has_a_deadline(loop):
    with user_line(loop, half_close_timeout=0.3) as line:
        line.client.shutdown(socket.SHUT_WR)
        assert line.receive(line.server, 1) == b""
        began = time.monotonic()
        for _ in range(5):  # every byte moves it
            line.server.send(b"x")
            line.receive(line.client, 1)
            line.rest(0.1)
        assert not line.why
        assert line.ends() == "half-close-timeout"
        assert time.monotonic() - began > 0.7
        with pytest.raises(ConnectionResetError):
            line.client.recv(1)


def test_a_pair_that_moves_nothing_has_a_deadline(loop):
    with user_line(loop, idle_timeout=0.2) as idle, user_line(loop, idle_timeout=60) as other:
        assert idle.ends() == "idle-timeout"
        other.client.send(b"still there")
        assert other.receive(other.server, 11) == b"still there"


def test_many_that_are_due_at_once_are_ended_some_in_a_turn_and_both_sides_hear_of_it(loop):
    lines = [Line(loop, "unix", idle_timeout=0.2) for _ in range(40)]
    turns = [0]  # ends after each turn of the loop
    while turns[-1] < len(lines):
        loop.run_once(1)
        turns.append(sum(len(line.why) for line in lines))
    most = max(after - before for before, after in itertools.pairwise(turns))
    assert most <= 8
    assert {tuple(line.why) for line in lines} == {("idle-timeout",)}
    for line in lines:
        assert (line.receive(line.client, 1), line.receive(line.server, 1)) == (b"", b"")
        line.client.close()
        line.server.close()


def test_a_receiver_that_does_not_read_holds_the_sender_up(loop):
    with user_line(loop) as line:
        total, still = 0, 0
        while still < 3:
            try:
                total += line.client.send(bytes(1 << 16))
                still = 0
            except BlockingIOError:
                loop.run_once(0.02)
                still += 1
        taken = total - line.pump.moved[0]
        assert taken < 16 << 20  # what sockets hold, and no more
        got = 0
        while got < total:
            with suppress(BlockingIOError):
                got += len(line.server.recv(1 << 20))
            loop.run_once(0)


def test_an_abort_is_a_reset_and_is_told_at_once(loop):
    with user_line(loop) as line:
        line.pump.abort()
        assert line.why == ["shutdown"]
        line.pump.abort()
        for end in (line.client, line.server):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        assert line.why == ["shutdown"]


def test_many_pairs_at_once_and_one_after_the_other(loop):
    """Numbers are given again, and nobody gets another's bytes."""
    for turn in range(3):
        lines = [Line(loop, "unix") for _ in range(50)]
        for number, line in enumerate(lines):
            line.client.send(b"%d %d" % (turn, number))
            line.client.shutdown(socket.SHUT_WR)
        for number, line in enumerate(lines):
            assert line.receive(line.server, 100) == b"%d %d" % (turn, number)
            line.server.close()
        for line in lines:
            assert line.ends() in ("eof", "reset")
            line.client.close()


def test_a_loop_that_is_closed_closes_what_it_pumps():
    with selectors.DefaultSelector() as selector:
        loop = EventLoop(selector, time.monotonic)
        with user_line(loop) as line:
            loop.close()
            with pytest.raises(ConnectionResetError):
                line.server.recv(1)
            assert not line.why
