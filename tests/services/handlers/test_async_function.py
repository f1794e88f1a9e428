# SPDX-License-Identifier: MIT
"""`async def f(line)` and `async def f(line, connection)`: their order, how many at once, their ends."""

from __future__ import annotations

import asyncio
import functools
import os
import textwrap
import time

import pytest

import sockd
from sockd import CloseReason, testing
from sockd.errors import HandlerError


async def greet(line):
    await asyncio.sleep(0)
    return b"hello " + line


async def at_once(line):
    return line.upper()


async def told(line, connection):
    await asyncio.sleep(0)
    connection.write(b"(" + line + b")")
    return line.upper()


async def annotated(frame, peer: sockd.Connection):
    return frame + peer.peer[:4].encode()


class Called:
    async def __call__(self, line):
        return b"called " + line


def decorated(function):
    @functools.wraps(function)
    def inner(*arguments):
        return function(*arguments)

    return inner


@decorated
async def behind_a_decorator(line):
    return b"decorated " + line


async def with_word(word, line):
    return word + line


@pytest.mark.parametrize("sizes", [(), (1,), (5, 2)])
@pytest.mark.parametrize(
    ("handler", "reply"),
    [
        (greet, b"hello a\nhello b\n"),
        (at_once, b"A\nB\n"),
        (told, b"(a)A\n(b)B\n"),
        (annotated, b"aunix\nbunix\n"),
        (Called(), b"called a\ncalled b\n"),
        (behind_a_decorator, b"decorated a\ndecorated b\n"),
        (functools.partial(with_word, b"partial "), b"partial a\npartial b\n"),
    ],
    ids=lambda value: value[:9].decode() if isinstance(value, bytes) else "",
)
def test_each_line_is_answered(handler, reply, sizes):
    assert testing.answer(handler, b"a\r\nb\n", sizes=sizes) == reply


def of(function, **options):
    service = sockd.Service(**options)
    service.frame(function)
    return service


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_replies_keep_their_order_and_no_more_are_at_work_than_may_be(most):
    at_work, seen = 0, []

    async def slow(line):
        nonlocal at_work
        at_work += 1
        seen.append(at_work)
        await asyncio.sleep(0.02 if int(line) % 2 else 0.001)
        at_work -= 1
        return line

    lines = b"".join(b"%d\n" % i for i in range(20))
    with testing.connect(of(slow, max_in_flight=most)) as peer:
        peer.send(lines)
        peer.run(0.5)
        assert peer.received() == lines
    assert max(seen) == min(most, 20)


def test_many_lines_are_held_up_and_all_answered():
    async def count(line):
        if int(line) % 100 == 0:
            await asyncio.sleep(0.001)
        return line

    for most in (1, 7):
        lines = b"".join(b"%d\n" % i for i in range(5000))
        with testing.connect(of(count, max_in_flight=most)) as peer:
            peer.send(lines)
            peer.end()
            for _ in range(300):
                if peer.ended:
                    break
                peer.run(0.1)
            assert peer.received() == lines
            assert peer.close_reason is CloseReason.EOF


def test_one_task_answers_the_lines_of_a_connection():
    """Seen to fail with a task for each line that came alone, which was most of what a line cost."""
    tasks = set()

    async def note(line):
        tasks.add(asyncio.current_task())
        return line

    assert testing.answer(note, b"a\nb\nc\n", sizes=(2,)) == b"a\nb\nc\n"
    assert len(tasks) == 1
    assert all(task.done() for task in tasks)


def test_a_handler_that_cancels_its_task_is_called_for_the_next_line():
    async def cancel(line):
        asyncio.current_task().cancel()
        return line

    assert testing.answer(cancel, b"a\nb\n", sizes=(2,)) == b"a\nb\n"


def test_a_task_that_is_cancelled_between_two_lines_ends_its_connection():
    async def cancel(line):
        time.sleep(0.02)  # a turn of the loop is over by then
        asyncio.current_task().cancel()
        return line

    with testing.connect(cancel) as peer:
        peer.send(b"a\nb\nc\nd\n")
        for _ in range(100):
            if peer.ended:
                break
            peer.run(0.1)
        assert peer.close_reason is CloseReason.HANDLER_ERROR


def test_none_is_no_reply_and_a_batch_is_refused():
    async def none(line):
        return None if line == b"a" else line

    assert testing.answer(none, b"a\nb\na\n") == b"b\n"
    service = sockd.Service()
    service.frames(none)
    with pytest.raises(HandlerError, match="batch is a plain function"):
        testing.connect(service)


@pytest.mark.parametrize("most", [1, 3])
def test_a_failure_ends_the_connection_behind_the_replies_before_it(most, caplog):
    async def fails(line):
        await asyncio.sleep(0.001)
        if line == b"boom":
            raise LookupError("told to")
        return line

    with testing.connect(of(fails, max_in_flight=most)) as peer:
        peer.send(b"a\nb\nboom\nc\n")
        peer.run(0.1)
        assert peer.received() == b"a\nb\n"
        assert peer.ended
        assert peer.close_reason is CloseReason.HANDLER_ERROR
    (record,) = [one for one in caplog.records if one.message == "handler failed"]
    assert "told to" in str(record.exc_info[1])


@pytest.mark.parametrize("most", [1, 3])
def test_close_has_last_words(most):
    async def bye(line):
        await asyncio.sleep(0.001)
        if line == b"quit":
            raise sockd.Close(b"bye")
        return line

    with testing.connect(of(bye, max_in_flight=most)) as peer:
        peer.send(b"a\nquit\nb\n")
        peer.run(0.1)
        assert peer.received() == b"a\nbye\n"
        assert peer.close_reason is CloseReason.CLOSED


@pytest.mark.parametrize("wrong", ["text", 5, [b"x"]])
def test_a_wrong_reply_is_a_failure(wrong):
    async def returns(line):
        return wrong

    with testing.connect(returns) as peer:
        peer.send(b"a\n")
        assert peer.close_reason is CloseReason.HANDLER_ERROR


def test_the_framing_may_change_behind_a_frame():
    async def change(frame, connection):
        await asyncio.sleep(0.001)
        if frame == b"net":
            connection.reply(b"ok")
            connection.set_framing(sockd.Netstring(100))
            return None
        return frame.upper()

    with testing.connect(change) as peer:
        peer.send(b"a\nnet\n3:b\nc,1:d,")
        peer.run(0.1)
        assert peer.received() == b"A\nok\n3:B\nC,1:D,"


@pytest.mark.parametrize(
    "framing", [sockd.Netstring(100), sockd.Prefix(100, 2), sockd.Record("!H"), sockd.Line(100, "same")]
)
def test_every_framing(framing):
    async def same(frame):
        await asyncio.sleep(0.001)
        return frame

    data = {"Netstring": b"1:a,2:bc,", "Prefix": b"\0\1a\0\2bc", "Record": b"\0\1\0\2", "Line": b"a\r\nb\nc\r\n"}
    with testing.connect(of(same, framing=framing)) as peer:
        peer.send(data[type(framing).__name__])
        peer.run(0.1)
        assert peer.received() == data[type(framing).__name__]


def test_text():
    async def greet(line):
        assert isinstance(line, str)
        return f"hello {line}"

    assert testing.answer(of(greet, text="utf-8"), "grüße\n".encode()) == "hello grüße\n".encode()


def test_what_fits_nowhere():
    async def three(one, two, three): ...

    def plain(line): ...

    with pytest.raises(HandlerError, match="cannot be called with a reader and a writer"):
        testing.connect(three)
    with pytest.raises(HandlerError, match="max_in_flight is for async def"):
        testing.connect(of(plain, max_in_flight=2))
    with pytest.raises(HandlerError, match="blocking = true is for functions"):
        testing.connect(of(greet, blocking=True))
    with pytest.raises(ValueError, match="max_in_flight must be positive"):
        sockd.Service(max_in_flight=0)


# ---- a daemon


APP = """
import asyncio, os, sockd
async def slow(line):
    if line == b"wait":
        await asyncio.sleep(3600)
    await asyncio.sleep(0.2)
    return line.upper()
async def quick(line):
    return line.upper()
async def rude(line):
    if line == b"hold":  # the loop, until the test has written
        with open(os.path.join(os.path.dirname(__file__), "hold")) as file:
            file.read()
    if line == b"cancel":
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    return line.upper()
"""


@pytest.fixture
def app(serve, tmp_path):
    def start(*names, keys="", daemon=""):
        (tmp_path / "app.py").write_text(textwrap.dedent(APP))
        tables = "".join(
            f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{name}"\n'
            f'[service.{name}]\nhandler = "app:{name}"\n{keys}\n'
            for name in names
        )
        return serve(config=f"[daemon]\n{daemon}\n{tables}")

    return start


def test_a_daemon_serves_them(app):
    server = app("slow", keys="max_in_flight = 10")
    peers = [server.connect() for _ in range(5)]
    for peer in peers:
        peer.send(b"a\nb\nc\n")
    for peer in peers:
        assert peer.finish() == b"A\nB\nC\n"
        assert server.end_of(peer)["reason"] == "eof"


def test_tasks_that_another_one_cancels_as_their_lines_come_end_their_connections(app, tmp_path):
    server = app("rude")
    os.mkfifo(tmp_path / "hold")
    os.chmod(tmp_path / "hold", 0o666)
    peers = [server.connect() for _ in range(5)]
    assert {peer.ask(b"a") for peer in peers} == {b"A"}  # each has its task
    peers[0].send(b"hold\n")
    with open(tmp_path / "hold", "w"):
        for peer in peers[1:]:
            peer.send(b"cancel\n")  # the first of them cancels the tasks of the others, which have not begun
    assert sorted(peer.finish() for peer in peers[1:]) == [b"", b"", b"", b"CANCEL\n"]
    assert sorted(server.end_of(peer)["reason"] for peer in peers[1:]) == ["eof"] + 3 * ["handler-error"]


def test_a_stop_answers_what_was_asked(app):
    server = app("slow", daemon='stop_timeout = "10s"')
    peer = server.connect()
    peer.send(b"a\n")
    assert peer.line() == b"A\n"
    peer.send(b"b\n")
    idle = server.connect()
    assert idle.ask(b"i") == b"I"
    server.signal()
    assert peer.to_end() == b"B\n"
    assert idle.to_end() == b""
    peer.close()
    idle.close()
    assert server.wait() == 0
    assert {one["reason"] for one in server.having("closed")} == {"shutdown"}


def test_a_stop_cancels_what_takes_too_long(app):
    server = app("slow", daemon='stop_timeout = "1s"')
    peer = server.connect()
    peer.send(b"wait\n")
    other = server.connect()
    assert other.ask(b"x") == b"X"
    server.signal()
    assert peer.to_end() == b""
    other.close()
    peer.close()
    assert server.wait() == 0
    assert "Traceback" not in server.said()


def test_a_line_that_is_too_long_comes_behind_the_answers(app):
    server = app("slow", keys='max_frame = 100\nlinger_timeout = "200ms"')
    peer = server.connect()
    peer.send(b"a\nb\n" + b"x" * 300)
    assert peer.lines(2) == [b"A\n", b"B\n"]
    assert peer.to_end() == b""
    assert server.end_of(peer)["reason"] == "frame-too-long"
