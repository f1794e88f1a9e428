# SPDX-License-Identifier: MIT
"""Functions served in one call of C (sockd/net/connection/exchange.c): every client gets, byte for byte, what it gets
where each frame is answered by itself, whatever the function does.

Seen failing with the lengths of two frames exchanged (42 tests), with a reply that is not bytes and is left out (59),
and with a reference to each reply, or to each exception, that is kept (2, and 13 framings).
"""

from __future__ import annotations

import logging
import random
import socket

import pytest
from holding import held

import sockd
from sockd.buffer import encode
from sockd.net.connection.codec import make_codec
from sockd.net.connection.group import GroupOptions
from sockd.net.connection.table import ConnectionTable
from sockd.services.handlers import function as module
from sockd.services.handlers.function import FunctionHandler
from sockd.wire.close_reason import CloseReason
from sockd.wire.framing import (
    BlankLine,
    Delimiter,
    DotBlock,
    Fixed,
    Line,
    Netstring,
    Nul,
    OctetCount,
    Prefix,
    StrictLine,
    Varint,
)

MAX = 6000
OPTIONS = {
    "serve": 0, "merge": True, "announce": False, "high_water": 1 << 20, "max_buffer": 1 << 24, "idle_timeout": 60.0,
    "frame_timeout": 60.0, "write_timeout": 60.0, "linger_timeout": 0.0,
}  # fmt: skip
FRAMINGS = [
    Line(MAX), Line(MAX, b"\r\n"), Line(MAX, "same"), StrictLine(MAX), Delimiter(MAX, b"||"), Nul(MAX), Netstring(MAX),
    Prefix(MAX, 2), Varint(MAX), OctetCount(MAX), Fixed(24), DotBlock(MAX), BlankLine(MAX),
]  # fmt: skip


class Words(bytes):
    """Says of itself what is not so."""

    def __len__(self):
        return 3


def answer(frame):
    """Do what the first word of the frame says."""
    verb = frame.split(b" ", 1)[0]
    match verb:
        case b"none":
            return None
        case b"many":
            return b"one\ntwo||\0three\r\n" + frame
        case b"stuffed":
            return b".a\r\n..b\r\n.\r\n" + frame
        case b"empty":
            return b""
        case b"array":
            return bytearray(frame)
        case b"view":
            return memoryview(frame)
        case b"own":
            return Words(frame)
        case b"large":
            return frame * 200
        case b"long":
            return frame * 20_000
        case b"text":
            return frame.decode()
        case b"number":
            return len(frame)
        case b"tuple":
            return (frame,)
        case b"raise":
            raise RuntimeError(frame)
        case b"stop":
            raise StopIteration
        case b"exit":
            raise SystemExit
        case b"close":
            raise sockd.Close
        case b"bye":
            raise sockd.Close(frame)
        case b"wrong":
            raise sockd.Close("text")
    return frame.swapcase()


USUAL = [b"echo", b"none", b"many", b"empty", b"array", b"view", b"own", b"large", b"stuffed"]
LAST = [b"long", b"text", b"number", b"tuple", b"raise", b"stop", b"exit", b"close", b"bye", b"wrong"]


class OneByOne(FunctionHandler):
    """Answers each frame by itself: what is right by definition."""

    def frames(self, index, id, part, offset, size, count):
        endings = self._codec.endings(offset, size)
        frames = self._codec.cut(offset, size, count)
        self._answer_connections(index, self._parts(id, part, count), frames, [], None, endings)


def make_one_by_one(service, function, codec, connections):
    return OneByOne(service, function, codec, connections)


def stream(chance, framing, verbs):
    """Return the requests of one client, which are all different."""
    ending = {DotBlock: b"\r\n", BlankLine: b"\n"}.get(type(framing), b"")
    wire = b""
    for number, verb in enumerate(verbs):
        payload = b"%b %d %x " % (verb, number, chance.randrange(2**32))
        payload = payload.ljust(24 - len(ending), b"x") + ending
        encoder = Line(MAX, chance.choice([b"\n", b"\r\n"])) if type(framing) is Line else framing
        wire += encode(encoder, payload)
    return wire


def scripts(seed, framing, clients=9):
    """Return what each client sends: most do nothing special, and some end by what a function does wrong."""
    chance = random.Random(seed)
    found = []
    for _ in range(clients):
        usual = chance.choice([[b"echo"], USUAL])
        verbs = chance.choices(usual, k=chance.choice([1, 1, 3, 20, 200]))
        if chance.random() < 0.5:
            verbs.insert(chance.randint(len(verbs) // 2, len(verbs)), chance.choice(LAST))
        found.append(stream(chance, framing, verbs))
    return found


def served(make, framing, streams, function=answer):
    """Return what each client has received, and why it was closed."""
    table = ConnectionTable(size=len(streams) + 1, memory=1 << 28, epoll=True)
    reasons, ids, peers = {}, [], []
    try:
        codec = make_codec(framing, table, wire=False)
        handler = make("test", function, codec, table)
        handler.closed = reasons.__setitem__
        is_wire = type(framing) is Line and framing.ending == "same"
        group = table.groups.add(GroupOptions(framing=framing, wire=is_wire, **OPTIONS), handler)
        if is_wire:
            handler._codec = make_codec(framing, table, wire=True)
        for data in streams:
            ours, theirs = socket.socketpair()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
            ours.setblocking(False)
            theirs.setblocking(False)
            ids.append(table.add(ours, group))
            peers.append(theirs)
            theirs.send(data)
            theirs.shutdown(socket.SHUT_WR)
        received = [b""] * len(peers)
        open_peers = set(range(len(peers)))
        for _ in range(10_000):
            table.wait(10)
            table.dispatch()
            for at in list(open_peers):
                try:
                    while piece := peers[at].recv(1 << 20):
                        received[at] += piece
                    open_peers.remove(at)
                except BlockingIOError:
                    pass
                except ConnectionResetError:
                    open_peers.remove(at)
            if not open_peers and len(reasons) == len(peers):
                break
        return received, [reasons.get(id) for id in ids]
    finally:
        table.close()
        for peer in peers:
            peer.close()


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_every_client_gets_what_it_gets_frame_by_frame(framing, seed, caplog):
    streams = scripts(seed, framing)
    right = served(make_one_by_one, framing, streams)
    failures = sorted((one.message, one.exc_info[0].__name__) for one in caplog.records)
    caplog.clear()
    assert served(module.function_sink, framing, streams) == right
    assert sorted((one.message, one.exc_info[0].__name__) for one in caplog.records) == failures
    assert None not in right[1]


@pytest.mark.parametrize("framing", [Line(MAX), Netstring(MAX)], ids=str)
@pytest.mark.parametrize("verb", [*USUAL, *LAST])
def test_each_thing_that_a_function_can_do_alone_and_among_others(framing, verb):
    chance = random.Random(1)
    alone = [stream(chance, framing, [verb])]
    among = [stream(chance, framing, [b"echo"] * 3) for _ in range(3)]
    among.insert(1, stream(chance, framing, [b"echo", verb, b"echo"]))
    for streams in (alone, among):
        assert served(module.function_sink, framing, streams) == served(make_one_by_one, framing, streams)


@pytest.mark.parametrize("framing", [Line(MAX), Netstring(MAX)], ids=str)
def test_no_frame_is_handed_out_twice(framing):
    chance = random.Random(1)
    verbs = [b"echo", b"text", b"echo", b"raise", b"echo"]
    streams = [stream(chance, framing, verbs) for _ in range(20)]
    seen = []

    def note(frame):
        seen.append(frame)
        return answer(frame)

    served(module.function_sink, framing, streams, note)
    assert len(set(seen)) == len(seen) >= 40


def test_a_slow_burst_leaves_time_to_others():
    """More than 64 frames: the clock is asked, and what has to wait is answered in the next turn, in its order."""
    asked = []

    class Late(FunctionHandler):
        def _is_late(self, index, frames):
            asked.append(frames)
            self._table.turn.cut(index, frames)
            return True

    for framing in (Line(MAX), Netstring(MAX)):
        streams = [stream(random.Random(client), framing, [b"echo"] * 300) for client in range(3)]
        asked.clear()
        assert served(Late, framing, streams) == served(make_one_by_one, framing, streams)
        assert asked
        assert set(asked) == {64}


def test_an_exception_of_the_clock_costs_the_connections_of_the_event():
    class Broken(FunctionHandler):
        def _is_late(self, index, frames):
            raise RuntimeError("no clock")

    streams = [stream(random.Random(1), Line(MAX), [b"echo"] * 100)]
    received, reasons = served(Broken, Line(MAX), streams)
    assert reasons == [CloseReason.ABORTED]
    assert received == [b""]


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
def test_a_million_frames_keep_nothing(framing, caplog):
    """85,000 in each framing, a sixth of each usual kind, and 100 connections for each kind of end.

    What one kind keeps, even one object, is above the limit; caches are below.
    """
    usual = [b"echo", b"none", b"array", b"view", b"own", b"empty"]
    streams = [stream(random.Random(n), framing, usual * 40) for n in range(35)]
    streams += [stream(random.Random(n), framing, [b"echo", verb]) for n, verb in enumerate(LAST * 10)]

    caplog.set_level(logging.CRITICAL, "sockd.handler")  # what is logged is kept by caplog

    def grown():
        before = held()
        for _ in range(10):
            served(module.function_sink, framing, streams)
        return held() - before

    for _ in range(2):
        served(module.function_sink, framing, streams)
    assert any(grown() < 90 for _ in range(3))  # what is kept is kept each time; caches of 3.14 grow now and then
