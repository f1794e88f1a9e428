# SPDX-License-Identifier: MIT
"""Coroutine services: the streams against asyncio's own, and a daemon that serves them.

What is seen: the same answers as asyncio's from the same coroutines, however the bytes arrive; then real daemons.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import coroutines

import sockd
from sockd import CloseReason, testing
from sockd.errors import HandlerError
from sockd.services.handlers.streams import StreamReader

SOAK = bool(os.environ.get("SOCKD_SOAK"))
MULTIPLEXERS = ("auto", "epoll", "poll", "select")
MANY = b"".join(b"number %d\n" % number for number in range(1200))
CONVERSATIONS = [
    b"",
    b"a\n",
    b"a\r\nb\n\nc",
    b"exactly 3\nabcd\nexactly 0\ne\n",
    b"a\nuntil $$\nx\ny$z$$rest\nb\n",
    b"line\nwhole\nline\npart",
    b"exactly 5\nab\ncdline\nx\n",
    b"all\nwhat\nis left",
    b"x\npartial 9\nshort",
    b"eof\neof\n",
    b"lines\nlines\nafter\n",
    b"drain\ndrain\nafter\n",
    b"overrun\n" + b"o" * 66_000 + b"$\nafter\n",
    # more than is cut at once, and then something else than lines
    MANY + b"part",
    MANY + b"exactly 5\nab\ncd" + MANY,
    MANY + b"until $\n" + MANY + b"$" + MANY,
    MANY + b"line\n" + MANY + b"overrun\n" + b"o" * 66_000 + b"$\n" + MANY,
    MANY + b"l" * 9000 + b"\n" + MANY + b"eof\n",
    MANY + b"line\n" + b"o" * 66_000 + b"\nafter\n",
    MANY + b"o" * 66_000 + b"\nafter\n",
    MANY + b"after\n" + b"o" * 66_000,
]


def by_asyncio(handler, data, size):
    """What asyncio's own streams answer."""

    async def run():
        async def serve(reader, writer):
            with contextlib.suppress(RuntimeError):
                await handler(reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for at in range(0, len(data), size):
            writer.write(data[at : at + size])
            await asyncio.sleep(0)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return answer

    return asyncio.run(run())


@pytest.mark.parametrize("data", CONVERSATIONS, ids=lambda data: data[:12].decode())
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_streams_are_asyncios(data, size):
    if len(data) > 1000 and size < 1000:
        size = 4000 + size
    expected = by_asyncio(coroutines.verbs, data, size)
    assert testing.answer(coroutines.verbs, data, sizes=(size,)) == expected


@pytest.mark.parametrize("sizes", [(), (1,), (5, 3)])
def test_lines_come_with_their_endings_and_the_last_without(sizes):
    assert testing.answer(coroutines.lines, b"a\nb\r\nc", sizes=sizes) == b"A\nB\r\nC"


def test_it_ends_when_the_coroutine_does():
    with testing.connect(coroutines.leave) as peer:
        peer.send(b"hello\nmore\n")
        assert peer.received() == b"you said hello\n"
        assert peer.ended
    assert peer.close_reason is CloseReason.CLOSED


def test_last_words():
    assert testing.answer(coroutines.bye, b"x\n") == b"bye\n"


def test_an_exception_ends_the_connection(caplog):
    with testing.connect(coroutines.verbs) as peer:
        peer.send(b"hi\nboom\nhi\n")
        assert peer.received() == b"hi\n"
        assert peer.ended
    assert peer.close_reason is CloseReason.HANDLER_ERROR
    (record,) = [one for one in caplog.records if one.message == "handler failed"]
    assert "told to" in str(record.exc_info[1])


def test_a_raw_service_is_for_any_read():
    service = sockd.Service(framing=sockd.Raw())
    service.session(coroutines.verbs)
    data = b"exactly 2\nab\nuntil ;\nx;\nlast"
    assert testing.answer(service, data, sizes=(4,)) == by_asyncio(coroutines.verbs, data, 4)


def test_two_coroutines_cannot_read_at_once():
    seen = []

    async def session(reader, writer):
        first = asyncio.ensure_future(reader.readline())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already waiting") as raised:
            await reader.readline()
        seen.append(raised)
        writer.write(await first)

    assert testing.answer(session, b"x\n") == b"x\n"
    assert seen


def test_lines_that_wait_cost_nobody_a_turn():
    """Seen to fail where a block was cut as it came, and all that wait weighed at each: 0.43 s."""

    async def run():
        reader = StreamReader(65_536, asyncio.get_running_loop(), lambda: False, 60, lambda: None)
        for size in (65_536, 65_400):
            reader.feed(b"\n" * size)
        begun = time.thread_time()
        for _ in range(300):
            reader.feed(b"\n" * 100)
            for _ in range(100):
                assert await reader.readline() == b"\n"
        return time.thread_time() - begun

    assert asyncio.run(run()) < 0.15


def test_a_line_that_was_cut_off_stays_unread():
    """Seen to fail: the end of the connection, which comes later, made a whole line of it."""

    async def run():
        reader = StreamReader(100, asyncio.get_running_loop(), lambda: False, 60, lambda: None)
        reader.feed(b"whole\nunfinis")
        reader.feed_eof(is_cut=True)
        reader.feed_eof()
        read = [await reader.readline() for _ in range(3)]
        return read, reader.has_left_out

    assert asyncio.run(run()) == ([b"whole\n", b"", b""], True)


def test_what_is_no_session_is_refused():
    async def of_three(reader, writer, more): ...

    def plain(reader, writer): ...

    with pytest.raises(HandlerError, match="cannot be called with a reader and a writer"):
        testing.connect(of_three)
    with pytest.raises(ValueError, match="coroutine function"):
        sockd.Service().session(plain)
    service = sockd.Service(framing=sockd.Netstring(100))
    service.session(coroutines.lines)
    with pytest.raises(HandlerError, match="reads lines or bytes"):
        testing.connect(service)


def fill(peer, most=256 << 20):
    """Send lines until the peer's side takes no more; fail when it takes all."""
    peer.sock.setblocking(False)
    line = b"y" * 999 + b"\n"
    with contextlib.suppress(BlockingIOError):
        for _ in range(most // len(line)):
            peer.sock.send(line)
        pytest.fail("the peer was not held up")


# ---- a daemon


@pytest.fixture
def served(serve, tmp_path):
    """Serve handlers of coroutines.py, each on a port of its own."""
    shutil.copy(Path(coroutines.__file__), tmp_path / "coroutines.py")

    def start(*names, multiplexer="auto", more="", linger="5s", frame=65_536):
        listens = "".join(
            f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{name}"\n'
            f'[service.{name}]\nhandler = "coroutines:{name}"\nlinger_timeout = "{linger}"\n'
            f"max_frame = {frame}\n"
            for name in names
        )
        return serve(config=f'[daemon]\nmultiplexer = "{multiplexer}"\n{more}\n{listens}')

    return start


@pytest.mark.parametrize("multiplexer", MULTIPLEXERS)
def test_a_daemon_serves_coroutines_beside_functions(served, multiplexer):
    server = served("lines", "callback", "verbs", multiplexer=multiplexer)
    one, other, third = (server.connect(server.address(name, "tcp4")) for name in ("lines", "callback", "verbs"))
    for word in (b"a", b"b"):
        assert one.ask(word) == word.upper()
        assert other.ask(word) == word.upper()
        assert third.ask(word) == word
    third.send(b"exactly 3\nab")
    third.send(b"cd\n")
    assert third.line() == b"[abc]d\n"
    assert one.finish_with(b"x\ny") == b"X\nY"
    assert server.end_of(one)["reason"] == "eof"
    third.send(b"boom\n")
    assert third.to_end() == b""
    assert server.end_of(third)["reason"] == "handler-error"
    assert "coroutines.py" in server.wait_for("handler failed")["traceback"]
    assert other.ask(b"still") == b"STILL"


def test_a_handler_is_held_up_by_a_peer_that_does_not_read(served):
    server = served("flood")
    peer = server.connect(SO_RCVBUF=4096)
    peer.send(b"%d\n" % (32 << 20))
    assert len(peer.to_end()) == 32 << 20


def test_a_peer_is_held_up_by_a_handler_that_does_not_read(served):
    server = served("deaf", more='stop_timeout = "1s"')
    peer = server.connect(SO_SNDBUF=4096)
    assert peer.ask(b"x") == b"heard x"
    fill(peer)


def test_an_over_long_line_ends_the_connection(served):
    server = served("lines", linger="200ms")
    peer = server.connect()
    peer.send(b"a\n" + b"x" * 70_000)
    assert peer.line() == b"A\n"
    assert peer.to_end() == b""
    assert server.end_of(peer)["reason"] == "frame-too-long"
    assert not server.having("handler failed")


LONG = b"x" * 70_000


@pytest.mark.parametrize("multiplexer", MULTIPLEXERS)
@pytest.mark.parametrize("frame", [100, 65_536], ids=["in one turn", "in two"])
@pytest.mark.parametrize("name", ["slow", "slow_readline", "threads"])
def test_good_lines_are_answered_before_one_that_is_too_long_ends_the_connection(served, name, frame, multiplexer):
    """All in one send, and each answer takes its time; then again with the long one sent meanwhile."""
    server = served(name, linger="200ms", multiplexer=multiplexer, frame=frame)
    for later in (False, True):
        peer = server.connect()
        peer.send(b"one\ntwo\nthree\n" + (b"" if later else LONG))
        if later:
            assert peer.line() == b"ONE\n"
            peer.send(LONG)
            assert peer.lines(2) == [b"TWO\n", b"THREE\n"]
        else:
            assert peer.lines(3) == [b"ONE\n", b"TWO\n", b"THREE\n"]
        assert peer.to_end() == b""
        assert server.end_of(peer)["reason"] == "frame-too-long"
    assert not server.having("handler failed")


def test_who_is_told_of_a_line_that_is_too_long_may_say_so(served):
    server = served("patient", linger="200ms")
    for before in (b"", b"one\n"):
        peer = server.connect()
        peer.send(before + LONG)
        assert peer.to_end() == before.upper() + b"sorry: Separator is not found, and chunk exceed the limit\n"
        assert server.end_of(peer)["reason"] == "frame-too-long"
    assert not server.having("handler failed")


def test_what_is_no_line_may_be_read_as_bytes(served):
    server = served("headed")
    peer = server.connect()
    peer.send(b"70000\n" + LONG)
    assert peer.lines(2) == [b"70000\n", b"70000\n"]
    assert peer.to_end() == b""


@pytest.mark.parametrize("multiplexer", MULTIPLEXERS)
def test_what_came_before_a_reset_is_read(served, tmp_path, until, multiplexer):
    server = served("diary", multiplexer=multiplexer)
    peer = server.connect()
    assert peer.line() == b"go\n"
    peer.send(b"one\ntwo\nthree\nfo")
    peer.reset()
    until(lambda: (tmp_path / "diary").read_text().count("\n") == 4)
    *lines, end = (tmp_path / "diary").read_text().splitlines()
    assert lines == ["one", "two", "three"]
    assert end == "ConnectionResetError fo"
    assert server.end_of(peer)["reason"] == "reset"
    assert not server.having("handler failed")


def test_a_reset_is_no_failure_of_the_handler(served):
    server = served("lines")
    peer = server.connect()
    assert peer.ask(b"a") == b"A"
    peer.reset()
    assert server.end_of(peer)["reason"] == "reset"
    assert server.connect().ask(b"b") == b"B"
    assert not server.having("handler failed")


@pytest.mark.parametrize("multiplexer", MULTIPLEXERS)
def test_a_stop_cancels_and_lets_clean_up(served, tmp_path, multiplexer):
    server = served("tidy", multiplexer=multiplexer, more='stop_timeout = "800ms"')
    idle, busy = server.connect(), server.connect()
    assert idle.ask(b"x") == b"x"
    assert busy.ask(b"sleep") == b"asleep"
    server.signal()
    assert idle.to_end() == b"last words\n"
    assert busy.to_end() == b"last words\n"
    idle.close()
    busy.close()
    assert server.wait() == 0
    assert {one["reason"] for one in server.having("closed")} == {"shutdown"}
    assert (tmp_path / "tidied").read_text() == "2"
    assert "Traceback" not in server.said()
    assert not server.having("asyncio")


def test_a_coroutine_that_does_not_end_is_named(served):
    server = served("stubborn", more='stop_timeout = "500ms"')
    peer = server.connect()
    assert peer.ask(b"x") == b"x"
    server.signal()
    assert server.wait() == 0
    event = server.wait_for("handlers did not end in time", service="stubborn")
    assert event["count"] == 1
    assert event["at"][0].endswith(" stubborn")


def test_many_await_a_library_of_asyncio_and_are_cancelled(served, files):
    count = 1000 if SOAK else 50
    server = served("database", "callback", more='stop_timeout = "30s"')
    beside = server.connect(server.address("callback", "tcp4"))
    peers = [server.connect(server.address("database", "tcp4")) for _ in range(count)]
    for peer in peers:
        peer.send(b"one\ntwo\nthree\n")
    for peer in peers:
        assert peer.lines(3) == [b"1 one\n", b"2 two\n", b"3 two\n"]
    assert beside.ask(b"still") == b"STILL"
    for peer in peers[::2]:
        peer.send(b"four\n" * 50)
    server.signal()
    for peer in peers:
        peer.to_end()
        peer.close()
    beside.close()
    assert server.wait() == 0
    assert len(server.having("closed", service="database")) == count
    assert "Traceback" not in server.said()
    assert not server.having("handler failed")
    assert not server.having("handlers did not end in time")
