# SPDX-License-Identifier: MIT
"""Frames on their way out: encoders against the oracle, partial sends, water marks."""

import os
import random
import socket
import ssl
from array import array
from dataclasses import replace

import pytest
from framing_oracle import encoded, events
from framing_streams import PIECES, STREAMS

from sockd.buffer import (
    BufferFull,
    Datagram,
    Fixed,
    Line,
    Netstring,
    OctetCount,
    PayloadError,
    Prefix,
    Raw,
    ReceiveBuffer,
    SendBuffer,
    core,
    encode,
    encode_all,
)
from sockd.buffer.send import KEPT_BYTES

TRIES = 20_000 if os.environ.get("SOCKD_SOAK") == "1" else 400
FRAMINGS = [*STREAMS, Line(3, b"\r\n")]


def payload_of(chance, framing):
    alphabet = [*PIECES[type(framing)], b"x"]
    size = framing.size if isinstance(framing, Fixed) else framing.max_bytes
    payload = b"".join(chance.choices(alphabet, k=chance.randint(0, 4)))
    return payload if chance.random() < 0.3 else payload[:size]


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
def test_what_is_encoded_comes_back_and_what_would_not_is_refused(framing):
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    accepted = 0
    for _ in range(TRIES):
        payload = payload_of(chance, framing)
        try:
            wire, back = encoded(framing, payload)
        except OverflowError:  # the prefix cannot say it
            wire = back = b""
        comes_back = bool(wire) and events(framing, wire) == [(len(wire), "frame", back)]
        try:
            assert encode(framing, payload) == wire, (seed, payload)
        except PayloadError:
            assert not comes_back, (seed, payload)
        else:
            accepted += 1
            assert comes_back, (seed, payload)
            buffer = ReceiveBuffer(framing)
            buffer.feed(wire)
            assert list(buffer) == [back]
    assert accepted


def test_raw_and_datagrams_are_sent_as_they_are():
    assert encode_all(Raw(), [b"a\n", b"", b"b"]) == b"a\nb"
    assert encode(Datagram(2), b"\n\0") == b"\n\0"
    with pytest.raises(PayloadError, match="3 bytes exceed the limit of"):
        encode(Datagram(2), b"abc")


@pytest.mark.parametrize("bad", [b"a\n", b"a\nb", b"a\r", b"12345", b"\n"])
def test_one_bad_line_of_many(bad):
    buffer = SendBuffer(Line(4))
    with pytest.raises(PayloadError):
        buffer.extend([b"ok", b"", bad, b"never"])
    assert buffer.pop_all() == b"ok\n\n"
    buffer.extend([])
    buffer.extend(iter([b"a", bytearray(b"b")]))
    assert buffer.pop_all() == b"a\nb\n"


def test_the_framing_may_change_between_two_frames():
    buffer = SendBuffer(Line(10))
    buffer.append(b"a")
    buffer.framing = Netstring(10)
    assert buffer.framing == Netstring(10)
    buffer.append(memoryview(b"bc"))
    buffer.framing = Line(10, b"\r\n")
    buffer.append(bytearray(b"d"))
    with pytest.raises(PayloadError, match="cannot be encoded"):
        buffer.append(b"\n")
    assert buffer.pop_all() == b"a\n2:bc,d\r\n"


def test_max_bytes_takes_all_of_a_frame_or_nothing():
    buffer = SendBuffer(Prefix(100, 1), max_bytes=10)
    buffer.append(b"12345")
    for payload in (b"1234", b"123456789"):
        with pytest.raises(BufferFull):
            buffer.append(payload)
    with pytest.raises(BufferFull):
        buffer.write(b"12345")
    buffer.append(b"123")
    assert len(buffer) == 10
    assert buffer.pop_all() == b"\x0512345\x03123"
    assert len(buffer) == 0


def test_max_bytes_counts_large_pieces_too():
    buffer = SendBuffer(Prefix(100, 1), max_bytes=70_000)
    buffer.write(bytes(69_998))
    with pytest.raises(BufferFull):
        buffer.append(b"12")
    buffer.append(b"1")
    assert buffer.pop_all() == bytes(69_998) + b"\x011"


def test_high_water():
    buffer = SendBuffer(Raw(), high_water=3)
    buffer.write(b"abc")
    assert not buffer.is_high
    buffer.write(b"d")
    assert buffer.is_high


class Reluctant:
    """Takes some bytes, or none; with `gather` in one call also of several pieces."""

    def __init__(self, chance, gather):
        self.chance = chance
        self.got = b""
        if gather:
            self.sendmsg = lambda pieces: self.send(b"".join(pieces))

    def send(self, data):
        size = self.chance.choice([0, 1, 10, 100_000])
        if not size:
            raise BlockingIOError
        self.got += data[:size]
        return len(data[:size])


@pytest.mark.parametrize("gather", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_no_byte_is_lost_doubled_or_reordered(seed, gather):
    chance = random.Random(seed)
    target = Reluctant(chance, gather)
    buffer = SendBuffer(Line(1000))
    sent = b""
    for _ in range(300):
        piece = chance.randbytes(chance.choice([0, 1, 100, 70_000])).replace(b"\n", b" ").replace(b"\r", b" ")
        if len(piece) > 1000:
            buffer.write(piece)
            sent += piece
        else:
            buffer.append(piece)
            sent += piece + b"\n"
        before = len(buffer)
        taken = buffer.send_to(target)
        assert len(buffer) == before - taken == len(sent) - len(target.got)
    while buffer:
        buffer.send_to(target)
    assert target.got == sent


def test_partial_sends_over_a_socket():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        buffer = SendBuffer(Prefix(1 << 20, 4))
        frames = [os.urandom(size) for size in (0, 1, 300_000, 5, 70_000)]
        buffer.extend(frames)
        buffer.write(large := os.urandom(200_000))
        back = ReceiveBuffer(Prefix(1 << 20, 4))
        while buffer:
            buffer.send_to(ours)
            back.receive_from(theirs)
        ours.close()
        while back.receive_from(theirs):
            pass
        for expected in frames:
            assert back.pop() == expected
        back.framing = Raw(1 << 20)
        assert b"".join(back) == large


def test_send_to_a_descriptor_of_any_kind():
    reading, writing = os.pipe()
    try:
        buffer = SendBuffer(Line(10))
        buffer.append(b"a")
        assert buffer.send_to(writing) == 2
        assert os.read(reading, 10) == b"a\n"
        buffer.write(bytes(100_000))
        buffer.append(b"b")
        assert buffer.send_to(writing) > 0
        while buffer.send_to(writing):
            pass  # until the pipe is full
        assert buffer
        os.close(reading)
        reading = -1
        with pytest.raises(BrokenPipeError):
            buffer.send_to(writing)
    finally:
        os.close(writing)
        if reading >= 0:
            os.close(reading)
    assert SendBuffer(Line(1)).send_to(-1) == 0  # nothing to be sent


@pytest.mark.parametrize("returned", [None, "2", -1, 1000])
def test_a_target_that_does_not_say_how_much_it_took(returned):
    class Transport:
        def send(self, data):
            return returned

    buffer = SendBuffer(Line(10))
    buffer.append(b"a")
    with pytest.raises(TypeError, match=r"not how many bytes it has taken; a transport gets pop_all\(\)"):
        buffer.send_to(Transport())
    assert buffer.pop_all() == b"a\n"


class Tls:
    """As an ssl.SSLSocket is: sendmsg is there and says that it is not."""

    sendmsg = ssl.SSLSocket.sendmsg

    def __init__(self):
        self.got = b""

    def send(self, data):
        self.got += data
        return len(data)


def test_a_tls_socket_takes_piece_by_piece():
    buffer = SendBuffer(Line(10))
    buffer.append(b"a")
    buffer.write(bytes(70_000))
    buffer.append(b"b")
    target = Tls()
    while buffer:
        buffer.send_to(target)
    assert target.got == b"a\n" + bytes(70_000) + b"b\n"


# ---- data count in bytes, whatever their elements are


@pytest.mark.parametrize("kind", ["B", "b", "h", "I", "d"])
@pytest.mark.parametrize("framing", [one for one in FRAMINGS if not isinstance(one, Fixed)], ids=str)
def test_elements_of_several_bytes_are_sent_whole(framing, kind):
    framing = replace(framing, max_bytes=200)
    numbers = array(kind, [65 + i for i in range(6)])
    buffer = SendBuffer(framing)
    for data in (memoryview(numbers), memoryview(numbers)[::2], memoryview(numbers)[:0], memoryview(numbers.tobytes())):
        payload = data.tobytes()
        try:
            wire = encode(framing, payload)
        except PayloadError:
            with pytest.raises(PayloadError):
                encode(framing, data)
            continue
        buffer.append(data)
        assert buffer.pop_all() == wire
        buffer.extend([payload, data])
        assert buffer.pop_all() == wire * 2
        assert encode(framing, data) == wire
        assert encode_all(framing, [data, data]) == wire * 2
        buffer.write(data)
        assert len(buffer) == data.nbytes
        assert buffer.pop_all() == payload
        buffer.write(b"x" * KEPT_BYTES)  # is kept as it is, and frames go behind it
        buffer.append(data)
        assert buffer.pop_all() == b"x" * KEPT_BYTES + wire


def test_limits_count_bytes_too():
    numbers = memoryview(array("I", [1, 2, 3]))
    assert encode(Fixed(12), numbers) == numbers.tobytes()
    with pytest.raises(PayloadError):
        SendBuffer(Netstring(11)).append(numbers)
    full = SendBuffer(Raw(), max_bytes=11)
    for add in (full.append, full.write):
        with pytest.raises(BufferFull):
            add(numbers)
    assert len(full) == 0


@pytest.mark.parametrize("data", ["text", 5, None, [1, 2]])
def test_what_is_not_bytes_like_is_refused(data):
    buffer = SendBuffer(Netstring(100))
    for add in (buffer.append, buffer.write, lambda data: buffer.extend([data]), lambda data: encode(Raw(), data)):
        with pytest.raises(TypeError):
            add(data)
    assert len(buffer) == 0


def test_a_descriptor_is_sent_whole_elements():
    reading, writing = os.pipe()
    numbers = memoryview(array("I", [1, 2, 3]))
    try:
        assert core.send(writing, numbers) == 12
        assert os.read(reading, 100) == numbers.tobytes()
    finally:
        os.close(reading)
        os.close(writing)


def test_an_octet_count_of_nothing_cannot_be():
    with pytest.raises(PayloadError):
        encode(OctetCount(10), b"")
    assert encode(OctetCount(10, mixed=True), b"") == b"\n"
