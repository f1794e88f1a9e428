# SPDX-License-Identifier: MIT
"""The transport over a set that only writes down what it is asked.

Seen to fail: with each write() handed on by itself; with write() after close() sent; with
the water marks checked the wrong way round.
"""

from __future__ import annotations

import asyncio

import pytest

from sockd import Close, CloseReason, Connection
from sockd._sockbuf import ffi, lib
from sockd.net.address.sockaddr import UNKNOWN
from sockd.net.connection.codec import LineCodec, make_codec
from sockd.net.loop.loop import Timer
from sockd.wire.framing import Line, Netstring, Raw


class Set:
    """As ConnectionSet, for one connection."""

    class Info:
        fd = -1
        input_pending_bytes = 0
        peer = b""

    class Peers:
        def find(self, id):
            return UNKNOWN

    def __init__(self):
        self.asked = []
        self.dirty = []
        self.memory = b""
        self.peers = self.Peers()
        self.handle = ffi.gc(lib.sb_mux_new(1, False), lib.sb_mux_free)

    def receive(self, connection, *lines):
        """As if these lines had come in one turn."""
        self.memory = b"".join(line + b"\n" for line in lines)
        ffi.memmove(lib.sb_mux_arena(self.handle), self.memory, len(self.memory))
        connection.deliver(0, len(self.memory), len(lines))

    def block(self, offset, size):
        return self.memory[offset : offset + size]

    def pointer(self, offset):
        return ffi.from_buffer(self.memory) + offset

    def unread(self, id, source, size, frames):
        self.asked.append(("unread", ffi.unpack(source, size), frames))

    def will_write(self, writer):
        self.dirty.append(writer)

    def flush(self):
        dirty, self.dirty = self.dirty, []
        for writer in dirty:
            self.asked.append(("write", writer.outbox.pop_all()))
            if writer.has_more:
                writer.flushed()

    def info(self, id):
        return self.Info

    def output_pending_bytes(self, id):
        return 100

    def __getattr__(self, name):
        return lambda id, *rest: self.asked.append((name, *rest))


class Loop:
    """As EventLoop: what is to be called later, and when."""

    def __init__(self):
        self.later = []

    def call_later(self, delay, callback):
        self.later.append(Timer(delay, callback, self))
        return self.later[-1]

    def timer_cancelled(self):
        pass


class Receiver:
    def __init__(self):
        self.told = []
        self.then = lambda frame: None

    def connection_made(self, transport):
        self.told.append("made")

    def frame(self, frame):
        self.told.append(frame)
        self.then(frame)

    def eof_received(self):
        self.told.append("eof")

    def pause_writing(self):
        self.told.append("pause")

    def resume_writing(self):
        self.told.append("resume")

    def connection_lost(self, exc):
        self.told.append(exc)


@pytest.fixture
def connections():
    return Set()


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
def connection(connections, loop, receiver):
    connection = Connection(
        5, connections, LineCodec(Line(100, b"\r\n"), connections, wire=True), 1000, loop, lambda protocol: protocol
    )
    connection.start(receiver, "the protocol")
    receiver.told.clear()
    return connection


def test_it_has_the_methods_of_an_asyncio_transport():
    ours = set(dir(Connection))
    assert {name for name in dir(asyncio.Transport) if not name.startswith("_")} <= ours


def test_what_is_written_in_a_turn_leaves_in_one_piece(connections, connection):
    connection.write(b"a")
    connection.writelines([b"b", bytearray(b"c"), memoryview(b"d")])
    connection.write(b"")
    connection.reply(b"line")
    assert connections.asked == []
    connections.flush()
    assert connections.asked == [("write", b"abcdline\r\n")]


def test_more_than_high_water_is_handed_on_at_once(connections, connection):
    connection.write(b"a" * 600)
    connection.write(b"b" * 600)
    assert connections.asked == [("write", b"a" * 600 + b"b" * 600)]


def test_a_buffer_may_change_after_it_was_written(connections, connection):
    data = bytearray(b"before")
    connection.write(data)
    data[:] = b"later!"
    connections.flush()
    assert connections.asked == [("write", b"before")]


@pytest.mark.parametrize("wrong", ["text", 5, None, [b"x"]])
def test_only_bytes_are_written(connection, wrong):
    with pytest.raises(TypeError, match="bytes-like"):
        connection.write(wrong)


def test_close_comes_behind_the_output_and_once(connections, connection):
    connection.write(b"a")
    connection.close()
    connection.write(b"dropped")
    connection.close()
    connections.flush()
    assert connections.asked == [("write", b"a"), ("shut", CloseReason.CLOSED)]
    assert connection.is_closing()


def test_write_eof_comes_behind_the_output_and_allows_no_more(connections, connection):
    connection.write(b"a")
    connection.write_eof()
    connection.write_eof()
    with pytest.raises(RuntimeError, match="after write_eof"):
        connection.write(b"b")
    connections.flush()
    assert connections.asked == [("write", b"a"), ("shutdown",)]
    assert connection.can_write_eof()


def test_abort_drops_the_output(connections, connection):
    connection.write(b"a")
    connection.abort()
    assert connections.asked == [("abort",)]
    connection.lost(CloseReason.ABORTED, 0)
    connections.flush()
    connection.abort()
    assert connections.asked == [("abort",), ("write", b"")]


def test_frames_are_given_back_while_it_is_paused(connections, connection, receiver):
    receiver.then = lambda frame: connection.pause_reading() if frame == b"2" else None
    connections.receive(connection, b"1", b"2\r", b"3\r", b"4")
    connections.receive(connection, b"5")
    assert receiver.told == [b"1", b"2"]
    assert not connection.is_reading()
    connection.resume_reading()
    given_back = [("unread", b"3\r\n4\n", 2), ("unread", b"5\n", 1)]
    assert connections.asked == [("pause", True), *given_back, ("pause", False)]


def test_the_frames_behind_one_that_changes_the_framing_are_given_back(connections, connection, receiver):
    receiver.then = lambda frame: connection.set_framing(Netstring(10)) if frame == b"2" else None
    connections.receive(connection, b"1", b"2", b"3:ab,")
    assert receiver.told == [b"1", b"2"]
    assert connections.asked == [("set_framing", Netstring(10)), ("unread", b"3:ab,\n", 1)]
    assert connection.framing == Netstring(10)
    connection.reply(b"xyz")
    connections.flush()
    assert connections.asked[2:] == [("write", b"3:xyz,")]


def test_nothing_is_delivered_after_close(connections, connection, receiver):
    receiver.then = lambda frame: connection.close()
    connections.receive(connection, b"1", b"2")
    connections.receive(connection, b"3")
    connection.end()
    connection.resume_reading()
    assert receiver.told == [b"1"]


def test_a_failure_closes_and_is_told_to_the_end(connections, connection, receiver, caplog):
    def fail(frame):
        raise ValueError("secret")

    receiver.then = fail
    connection.write(b"kept")
    connections.receive(connection, b"12345", b"2")
    connections.flush()
    assert connections.asked == [("write", b"kept"), ("shut", CloseReason.HANDLER_ERROR)]
    (record,) = caplog.records
    assert (record.message, record.event["frame_bytes"]) == ("handler failed", 5)
    connection.lost(CloseReason.HANDLER_ERROR, 0)
    first, told = receiver.told
    assert (first, type(told)) == (b"12345", ValueError)


def test_close_may_be_raised_with_last_words(connections, connection, receiver, caplog):
    def end(frame):
        raise Close(b"bye")

    receiver.then = end
    connections.receive(connection, b"1", b"2")
    connections.flush()
    assert connections.asked == [("write", b"bye\r\n"), ("shut", CloseReason.CLOSED)]
    assert caplog.records == []


def test_an_end_of_file_closes_unless_it_is_wanted_otherwise(connections, connection, receiver):
    receiver.eof_received = lambda: True
    connection.end()
    connections.flush()
    assert connections.asked == []
    receiver.eof_received = lambda: None
    connections.Info.input_pending_bytes = 3
    connection.end()
    connections.flush()
    assert connections.asked == [("write", b""), ("shut", CloseReason.TRUNCATED)]


def test_water_marks(connections, connection):
    connection.set_write_buffer_limits(high=10)
    connection.set_write_buffer_limits(low=3)
    connection.set_write_buffer_limits()
    assert connections.asked == [("set_water", 10, 2), ("set_water", 12, 3), ("set_water", 65_536, 16_384)]
    with pytest.raises(ValueError, match="must be >="):
        connection.set_write_buffer_limits(high=1, low=2)
    connection.write(b"abc")
    assert connection.get_write_buffer_size() == 103


def test_when_it_has_ended_it_does_nothing(connections, connection, receiver):
    connection.lost(CloseReason.EOF, 0)
    connection.write(b"a")
    connection.close()
    connection.write_eof()
    connection.pause_reading()
    connection.resume_reading()
    connection.set_write_buffer_limits(5)
    connections.flush()
    assert connections.asked == []
    assert connection.close_reason is CloseReason.EOF
    assert connection.get_extra_info("peername", "nobody") == "nobody"
    assert (connection.peer, connection.get_write_buffer_size()) == ("", 0)


def test_a_raw_reply_is_as_it_is(connections, receiver):
    connection = Connection(
        5, connections, make_codec(Raw(), connections, wire=True), 1000, Loop(), lambda protocol: protocol
    )
    connection.start(receiver)
    connection.reply(b"raw")
    connections.flush()
    assert connections.asked == [("write", b"raw")]


def test_water_marks_are_told(connection):
    assert connection.get_write_buffer_limits() == (250, 1000)
    connection.set_write_buffer_limits(high=40)
    assert connection.get_write_buffer_limits() == (10, 40)
    connection.set_write_buffer_limits(low=3)
    assert connection.get_write_buffer_limits() == (3, 12)


def test_another_protocol_takes_over(connections, connection, receiver):
    assert connection.get_protocol() == "the protocol"
    other = Receiver()
    receiver.then = lambda frame: connection.set_protocol(other)
    connections.receive(connection, b"to the first")
    connections.receive(connection, b"to the other")
    connection.lost(CloseReason.EOF, 0)
    assert connection.get_protocol() is other
    assert (receiver.told, other.told) == ([b"to the first"], [b"to the other", None])


def test_timers_are_called_once_and_end_with_the_connection(connection, loop):
    told = []
    first = connection.call_later(1.5, told.append, "first")
    second = connection.call_later(2.5, told.append, "second")
    assert [timer.when for timer in loop.later] == [1.5, 2.5]
    first.callback()
    connection.lost(CloseReason.EOF, 0)
    assert (told, second.callback) == (["first"], None)


def test_a_timer_that_raises_ends_the_connection(connection, connections, loop):
    connection.call_later(1, lambda: 1 / 0)
    loop.later[0].callback()
    connections.flush()
    assert connections.asked[-1] == ("shut", CloseReason.HANDLER_ERROR)
