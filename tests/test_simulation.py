# SPDX-License-Identifier: MIT
"""`sockd.testing.simulate`: six planted bugs are found in ten seconds each, and none where there is none."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import time

import pytest

import sockd
from sockd import testing

LIMIT_S = 10

# ---- right ones


def upper(line):
    return line.upper()


def count(line, connection):
    connection.state = (connection.state or 0) + 1
    return b"%d %s" % (connection.state, line)


class Lengths(asyncio.Protocol):
    """A byte of length, then as many bytes, which are sent back."""

    def connection_made(self, transport):
        self.transport, self.rest = transport, b""

    def data_received(self, data):
        self.rest += data
        while self.rest and len(self.rest) > self.rest[0]:
            size = self.rest[0]
            self.transport.write(self.rest[: size + 1])
            self.rest = self.rest[size + 1 :]


async def session(reader, writer):
    while line := await reader.readline():
        await asyncio.sleep(0.5)
        writer.write(line.swapcase())
        await writer.drain()
        if line == b"quit\n":
            return


async def later(line):
    await asyncio.sleep(len(line) / 10)
    return line.upper()


def in_flight(function, most):
    service = sockd.Service(max_in_flight=most)
    service.frame(function)
    return service


WORDS = [b"a\nbb\nccc\n", b"quit\nmore\n", b"one\ntwo", b"", b"x" * 5000 + b"\n" + b"y\n" * 50]
FRAMES = [b"\1a\3bcd", b"\0\0\0", b"\xff" + b"z" * 255 + b"\2ok", b"\5half"]
RIGHT = {
    "function": (upper, WORDS),
    "with connection": (count, WORDS),
    "protocol": (Lengths, FRAMES),
    "session": (session, WORDS),
    "async": (later, WORDS),
    "in flight": (in_flight(later, 4), WORDS),
}


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_is_found_where_nothing_is_wrong(name):
    handler, words = RIGHT[name]
    for seed in range(25):
        assert testing.simulate(handler, seed, words)


# ---- planted ones


states = {}


def by_id(line, connection):
    """State kept by a number that another connection has later."""
    states[connection.id % 8] = number = states.get(connection.id % 8, 0) + 1
    return b"%d" % number


class AfterClose(sockd.LineProtocol):
    def line_received(self, line):
        if line == b"quit":
            self.transport.close()
        self.send_line(b"ok")


async def lost_await(reader, writer):
    async def log(line):
        await asyncio.sleep(0)

    while line := await reader.readline():
        log(line)  # what is to be found
        writer.write(line)


class OneReadOneMessage(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(b"%d:" % len(data) + data)


class Shared(asyncio.Protocol):
    buffer = bytearray()  # of the class

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        Shared.buffer += data
        while b"\n" in self.buffer:
            line, _, rest = self.buffer.partition(b"\n")
            Shared.buffer[:] = rest
            self.transport.write(bytes(line) + b"\n")


async def out_of_order(reader, writer):
    async def answer(line):
        await asyncio.sleep(1 / len(line))
        writer.write(line)

    tasks = [asyncio.ensure_future(answer(line)) async for line in reader]
    await asyncio.gather(*tasks)


async def out_of_time(line):
    """Answers that somebody else gives, who may be late."""
    done = asyncio.get_running_loop().create_future()
    waiting.append(done)
    if len(waiting) >= 3:
        for one in waiting:
            one.done() or one.set_result(None)
        waiting.clear()
    await done
    return line


waiting = []
PLANTED = {
    "state by id": (by_id, WORDS),
    "reply after close": (AfterClose, WORDS),
    "lost await": (lost_await, WORDS),
    "a read is no message": (OneReadOneMessage, FRAMES),
    "shared state": (Shared, [*WORDS[:1], b"one\ntwo\n"]),
    "waits for others": (out_of_time, [b"a\nb\nc\n", b"d\ne\nf\n", b"g\n"]),
}


def simulate_all(handler, words):
    for seed in range(1000):
        testing.simulate(handler, seed, words)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name):
    handler, words = PLANTED[name]
    began = time.monotonic()
    with pytest.raises(testing.Failure) as found:
        simulate_all(handler, words)
    assert time.monotonic() - began < LIMIT_S
    assert len(found.value.transcript) <= 20  # it was made smaller
    assert f"seed {found.value.seed}" in str(found.value)


def test_the_answers_to_one_client_keep_their_order():
    handler = out_of_order
    with pytest.raises(testing.Failure):
        testing.simulate(handler, 1, [b"a\nlong line\n"], check=lambda said, got: got == said)


# ---- the same each time


def test_the_same_seed_is_the_same_transcript():
    first = [testing.simulate(session, seed, WORDS) for seed in range(10)]
    assert first == [testing.simulate(session, seed, WORDS) for seed in range(10)]
    assert len({*first}) == 10


def test_another_process_has_the_same_transcript():
    """Also with another order of hashes."""
    program = (
        "from sockd import testing\n"
        "def upper(line): return line.upper()\n"
        "print([testing.simulate(upper, seed) for seed in range(5)])\n"
    )
    command = [sys.executable, "-c", program]
    said = {
        subprocess.run(
            command, env={"PYTHONHASHSEED": seed}, cwd="/", capture_output=True, check=True, timeout=60
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


EVERYWHERE = {"upper": "7eff3d01d742f34b", "session": "f4d165abb1bdd453"}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_python_has_the_same_transcript(name):
    """A change of what is played changes the number, for all Pythons at once."""
    handler = {"upper": upper, "session": session}[name]
    told = repr([testing.simulate(handler, seed, WORDS) for seed in range(20)])
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == EVERYWHERE[name]


def test_conversations_of_other_framings_have_to_be_said():
    service = sockd.Service(framing=sockd.Netstring(100))
    service.frame(upper)
    with pytest.raises(ValueError, match="say what clients"):
        testing.simulate(service)
    assert testing.simulate(service, 3, [b"1:a,2:bc,", b"3:xyz,4:hal"])


def test_a_failure_that_is_meant_is_none():
    def fails(line):
        if line == b"boom":
            raise LookupError("on purpose")
        return line

    for seed in range(10):
        testing.simulate(fails, seed, [b"a\nboom\nb\n", b"c\n"])


# ---- datagrams


def test_datagrams_in_memory():
    async def slow(line):
        await asyncio.sleep(0.01)
        return line

    with testing.datagrams(upper) as client:
        client.send(b"a\n")
        client.send(b"b")
        assert client.received() == [b"A\n", b"B"]
        assert client.counts.answered == 2
    with testing.datagrams(slow) as client:
        client.send(b"a")
        assert client.received() == []
        client.run(0.1)
        assert client.received() == [b"a"]
