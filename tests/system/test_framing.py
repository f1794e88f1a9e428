# SPDX-License-Identifier: MIT
"""The same bytes get the same answers, however they are split (FAQ I.4).

Every stream goes to every service in many splittings at once, one connection for
each.  Between two pieces stands a round trip on another connection: the daemon has
then looked at the piece before, so that it does not see the two as one.

Seen to fail: with the CR forgotten in sb__line_too_long the splits behind
the CR at the limit end with frame-too-long; with `scanned` of receive_in_arena set
to the whole size a split inside a line loses its LF; without the
line on doomed rows in sb_mux_timeout poll, select and epoll leave the peer waiting.
"""

from __future__ import annotations

import itertools
import random
import select
from contextlib import ExitStack, closing, suppress

import pytest

LIMIT_S = 30
SMALL = 64  # as in conftest.SERVICES
DEFAULT = 64 * 1024
LINES = ("upper", "function", "with_connection", "protocol")
RAW = ("echo", "raw_protocol")


def model(stream, limit):
    """What a line service answers in upper case, and why it ends."""
    answer = b""
    while True:
        line, lf, rest = stream.partition(b"\n")
        if not lf:
            room = limit + line.endswith(b"\r")
            return answer, "frame-too-long" if len(line) > room else "truncated" if line else "eof"
        line = line.removesuffix(b"\r")
        if len(line) > limit:
            return answer, "frame-too-long"
        answer += line.upper() + b"\n"
        stream = rest


X = b"x" * SMALL
SHORT = [
    b"",
    b"\n",
    b"\r\n",
    b"\r\r\n",
    b"a",
    b"\r",
    b"ab\r",
    b"hello\n",
    b"hello\r\n",
    b"hello",
    b"\n\n\n",
    b"\r\n\r\n\n",
    b"a\rb\n",
    b"a\r\rb\r\n",
    b"a\nb\nc\n",
    b"a\r\nb\nc\r\nd",
    b"\0\n\0\xff\xfe\r\n\0",
    bytes(range(256)),
    X + b"\n",
    X + b"\r\n",
    X + b"\r",
    X + b"\rx",
    X + b"\r\r\n",
    X[1:] + b"\r\r\n",
    X + b"x\n",
    X + b"x\r\n",
    X + b"x",
    b"one\ntwo\n" + X + b"x\nthree\n",
    b"one\r\n" + X + b"x",
    b"one\n" + X + b"\r\n" + X + b"\n" + X + b"\ry\n",
]


def long_streams():
    source = random.Random(7)
    letters = bytes(range(256)).replace(b"\n", b"").replace(b"\r", b"")
    x = bytes(source.choices(letters, k=DEFAULT))
    lines = [bytes(source.choices(letters, k=source.randrange(40))) for _ in range(5000)]
    yield x + b"\n"
    yield x + b"\r\n" + x + b"\r\nshort\n"
    yield x + b"x\n"
    yield b"good\n" * 3 + x + b"\r\n" + x + b"xx"
    yield b"\n".join(lines) + b"\n"
    yield b"\r\n".join(lines) + b"\r\n" + x[:5000]
    yield b"\n" * 20_000
    yield (x[:30_000] + b"\r\n") * 10


def cut(stream, points):
    edges = [0, *sorted(points), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]


def short_splittings(stream):
    yield [stream] if stream else []
    yield [stream[i : i + 1] for i in range(len(stream))]
    source = random.Random(stream)
    points = range(1, len(stream))
    if len(stream) > 40:  # around all that means something
        ends = [i for i, byte in enumerate(stream) if byte in b"\r\n"]
        near = {p + d for p in [*ends, SMALL, len(stream)] for d in (-1, 0, 1, 2)}
        points = sorted(near & set(points))
        yield cut(stream, source.sample(range(1, len(stream)), 10))
    for point in points:
        yield cut(stream, [point])


def long_splittings(stream):
    source = random.Random(len(stream))
    yield [stream]
    yield [stream[i : i + 1448] for i in range(0, len(stream), 1448)]
    yield cut(stream, {len(stream) - 1, *source.sample(range(1, len(stream)), 20)})
    if len(stream) > DEFAULT + 2:
        yield cut(stream, {DEFAULT - 1, DEFAULT, DEFAULT + 1, DEFAULT + 2})


class Exchange:
    """One connection that sends its pieces and keeps what comes."""

    def __init__(self, client, pieces):
        self.client = client
        self.sock = client.sock
        self.pieces = pieces
        self.answer = bytearray()

    def push(self, piece):
        """Send a piece, taking what comes meanwhile."""
        self.sock.setblocking(False)
        view = memoryview(piece)
        while view:
            readable, writable, _ = select.select([self.sock], [self.sock], [], LIMIT_S)
            assert readable or writable, "neither taken nor answered"
            with suppress(BlockingIOError):
                if readable:
                    self.answer += self.sock.recv(1 << 20)
                if writable:
                    view = view[self.sock.send(view) :]
        self.sock.settimeout(LIMIT_S)

    def finish(self):
        self.client.half_close()
        self.answer += self.client.to_end()


def run(shared, service, family, splittings):
    """Send all at once in step; return the answers."""
    with ExitStack() as stack:
        barrier = stack.enter_context(closing(shared.connect(shared.address("upper", "tcp4"))))
        address = shared.address(service, family)
        exchanges = [Exchange(stack.enter_context(closing(shared.connect(address))), one) for one in splittings]
        for step in itertools.count():
            left = [one for one in exchanges if step < len(one.pieces)]
            if not left:
                break
            for one in left:
                one.push(one.pieces[step])
            assert barrier.ask(b"step") == b"STEP"
        for one in exchanges:
            one.finish()
        reasons = [shared.end_of(one.client)["reason"] if one.client.name else None for one in exchanges]
        return [(bytes(one.answer), reason) for one, reason in zip(exchanges, reasons, strict=True)]


def check(shared, service, family, splittings, expected):
    cases = [(split, stream) for stream in expected for split in splittings(stream)]
    results = run(shared, service, family, [split for split, _ in cases])
    for (split, stream), (answer, reason) in zip(cases, results, strict=True):
        right, why = expected[stream]
        where = f"{len(stream)} bytes {stream[:80]!r} in {len(split)} pieces {[len(p) for p in split][:9]}"
        assert answer == right, where
        assert reason in (why, None), where


@pytest.mark.parametrize("service", LINES)
def test_short_lines_at_every_split(shared, service, family):
    check(shared, f"{service}_small", family, short_splittings, {s: model(s, SMALL) for s in SHORT})


@pytest.mark.parametrize("service", LINES)
def test_long_lines_and_many_lines(shared, service, family):
    check(shared, service, family, long_splittings, {s: model(s, DEFAULT) for s in long_streams()})


@pytest.mark.parametrize("service", RAW)
def test_raw_bytes_come_back_as_they_went(shared, service, family):
    check(shared, service, family, short_splittings, {s: (s, "eof") for s in SHORT[:18]})
    check(shared, service, family, long_splittings, {s: (s, "eof") for s in long_streams()})


@pytest.mark.parametrize("service", LINES)
@pytest.mark.parametrize("pieces", [[b"good\n" + X + b"x"], [b"good\n", X + b"x"], [b"good\n" + X, b"xyz"]], ids=len)
def test_an_over_long_line_ends_the_connection_without_the_peers_help(client, service, family, pieces):
    """The good line is answered, then comes the end of file, though the peer says nothing more."""
    peer = client(f"{service}_small", family)
    for piece in pieces:
        peer.send(piece)
    assert peer.to_end() == b"GOOD\n"


@pytest.mark.parametrize("service", LINES)
def test_the_smallest_send_buffer_of_the_peer_loses_nothing(client, service, family):
    """200 KiB of lines to a peer that takes them in small bites (FAQ I.4)."""
    peer = client(service, family, SO_RCVBUF=1)
    lines = b"".join(b"line %d\n" % i for i in range(20_000))
    exchange = Exchange(peer, [lines])
    exchange.push(lines)
    exchange.finish()
    assert bytes(exchange.answer) == lines.upper()


def test_the_smallest_send_buffer_of_the_daemon_loses_nothing(client, family):
    peer = client("tight", family)
    lines = b"".join(b"line %d\n" % i for i in range(20_000))
    exchange = Exchange(peer, [lines])
    exchange.push(lines)
    exchange.finish()
    assert bytes(exchange.answer) == lines.upper()


def test_a_reply_is_ended_as_the_service_says(client, family):
    assert client("crlf", family).finish_with(b"a\nb\r\n") == b"A\r\nB\r\n"
