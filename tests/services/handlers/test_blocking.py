# SPDX-License-Identifier: MIT
"""blocking = true: handlers in threads, answers in order, the loop goes on.

What is seen: answers in their order, no more calls at once than threads, peers held up, a stop that waits.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import blockers

import sockd
from sockd import testing
from sockd.errors import HandlerError

SOAK = bool(os.environ.get("SOCKD_SOAK"))
MULTIPLEXERS = ("auto", "epoll", "poll", "select")


def fill(peer, most=256 << 20):
    """Send lines until the peer's side takes no more; fail when it takes all."""
    peer.sock.setblocking(False)
    line = b"y" * 999 + b"\n"
    with contextlib.suppress(BlockingIOError):
        for _ in range(most // len(line)):
            peer.sock.send(line)
        pytest.fail("the peer was not held up")


@pytest.fixture
def served(serve, tmp_path):
    """Serve handlers of blockers.py, each on a port of its own and on UDP."""
    shutil.copy(Path(blockers.__file__), tmp_path / "blockers.py")

    def start(*names, more="", addresses='["tcp://127.0.0.1:0", "udp://127.0.0.1:0"]'):
        listens = "".join(
            f'[[listen]]\naddresses = {addresses}\nservice = "{name}"\n'
            f'[service.{name}]\nhandler = "blockers:{name}"\nblocking = {str(name != "callback").lower()}\n'
            for name in names
        )
        return serve(config=f"[daemon]\n{more}\n{listens}")

    return start


@pytest.mark.parametrize("sizes", [(), (1,), (3, 50)])
def test_answers_keep_their_order(sizes):
    data = b"".join(b"%d\n" % number for number in range(60)) + b"none\nsleep 0.01\nend\n"
    expected = data.replace(b"none\n", b"")
    assert testing.answer(blockers.slow, data, sizes=sizes) == expected


def test_a_batch_and_other_framings():
    assert testing.answer(blockers.batch, b"a\nb\n") == b"A\nB\n"
    netstrings = sockd.Service(blocking=True, framing=sockd.Netstring(100))
    netstrings.frame(bytes.upper)
    assert testing.answer(netstrings, b"1:a,2:bc,", sizes=(1,)) == b"1:A,2:BC,"
    kind = sockd.Service(blocking=True, framing=sockd.Line(100, "same"))
    kind.frame(bytes.upper)
    assert testing.answer(kind, b"a\r\nb\n") == b"A\r\nB\n"


@pytest.mark.parametrize("word", [b"boom", b"exit"])
def test_an_exception_ends_that_connection_behind_the_answers_before_it(served, word):
    server = served("slow")
    peer, other = (server.connect(server.address("slow", "tcp4")) for _ in range(2))
    assert other.ask(b"x") == b"x"
    peer.send(b"a\n" + word + b"\nb\n")
    assert peer.to_end() == b"a\n"
    assert server.end_of(peer)["reason"] == "handler-error"
    event = server.wait_for("handler failed", service="slow")
    assert event["frame_bytes"] == 4
    assert "blockers.py" in event["traceback"]
    assert other.ask(b"y") == b"y"


def test_last_words():
    assert testing.answer(blockers.slow, b"a\nbye\nb\n") == b"a\nlast words\n"


@pytest.mark.parametrize("multiplexer", MULTIPLEXERS)
def test_connections_are_served_at_once_and_functions_meanwhile(served, multiplexer):
    server = served("meet", "callback", more=f'multiplexer = "{multiplexer}"\nthreads = 3')
    peers = [server.connect(server.address("meet", "tcp4")) for _ in range(3)]
    beside = server.connect(server.address("callback", "tcp4"))
    for peer in peers[:2]:
        peer.send(b"x\n")
    assert beside.ask(b"while two wait") == b"WHILE TWO WAIT"
    peers[2].send(b"x\n")
    assert [peer.line() for peer in peers] == [b"x\n"] * 3


def test_a_thousand_calls_in_order_by_no_more_threads_than_were_allowed(served):
    server = served("counted", more="threads = 4")
    peers = [server.connect(server.address("counted", "tcp4")) for _ in range(10)]
    lines = [b"%d" % number for number in range(100)]
    for peer in peers:
        peer.send(b"".join(line + b"\n" for line in lines))
    for peer in peers:
        answers = [peer.line().split() for _ in lines]
        assert [answer[0] for answer in answers] == lines
        assert max(int(answer[1]) for answer in answers) <= 4


def test_a_full_pool_holds_up_its_peers(served):
    server = served("stuck", more='threads = 1\nstop_timeout = "300ms"')
    peer = server.connect(server.address("stuck", "tcp4"), SO_SNDBUF=4096)
    assert peer.ask(b"hello") == b"hello"
    peer.send(b"now\n")
    fill(peer)
    server.signal()
    assert server.wait() == 0
    event = server.wait_for("handler did not end in time", service="stuck")
    assert "threading.py" in event["at"]


def test_a_stop_waits_for_what_runs(served):
    server = served("slow")
    peer = server.connect(server.address("slow", "tcp4"))
    assert peer.ask(b"a") == b"a"
    peer.send(b"sleep 0.3\nlast\n")
    peer.send(b"sleep 0\n")
    time.sleep(0.1)  # the call is in progress, which nothing outside can tell
    server.signal()
    assert peer.to_end().startswith(b"sleep 0.3\nlast\n")
    peer.close()
    assert server.wait() == 0


def test_datagrams_are_answered_by_threads(served):
    server = served("slow", "stuck", more='threads = 2\nstop_timeout = "300ms"')
    echo, stuck = (server.connect(server.address(name, "udp4")) for name in ("slow", "stuck"))
    for number in range(100):
        echo.send(b"%d" % number)
        assert echo.sock.recv(100) == b"%d" % number
    stuck.send(b"for ever")
    echo.send(b"boom")
    server.wait_for("handler failed", service="slow")
    echo.send(b"still")
    assert echo.sock.recv(100) == b"still"
    echo.send(b"sleep 0.1")
    assert echo.sock.recv(100) == b"sleep 0.1"


@pytest.mark.parametrize("seconds", [10.0 if SOAK else 1.0])
def test_functions_beside_one_that_computes(served, seconds, capsys):
    server = served("burn", "callback", addresses='["tcp://127.0.0.1:0"]')
    burning = server.connect(server.address("burn", "tcp4"))
    beside = server.connect(server.address("callback", "tcp4"))
    beside.ask(b"x")
    burning.send(b"%f\n" % seconds)
    times = []
    end = time.monotonic() + seconds * 0.9
    while time.monotonic() < end:
        began = time.perf_counter()
        assert beside.ask(b"line") == b"LINE"
        times.append(time.perf_counter() - began)
    assert burning.line()
    times.sort()
    p99 = times[len(times) * 99 // 100]
    with capsys.disabled():
        sys.stdout.write(f"\nbeside a handler that computes: {len(times)} answers, p99 {p99 * 1000:.2f} ms\n")
    assert p99 < 0.1  # the figure is printed; a busy machine has its own mind


def test_what_cannot_block_is_refused():
    for handler, word in ((blockers.with_connection, "only the frame"), (sockd.LineProtocol, "protocol class")):
        service = sockd.Service(blocking=True)
        (service.connect if isinstance(handler, type) else service.frame)(handler)
        with pytest.raises(HandlerError, match=word):
            testing.connect(service)
