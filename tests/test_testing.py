# SPDX-License-Identifier: MIT
"""sockd.testing as the author of a handler uses it.

Seen to fail: with _run_until_idle() running one turn only; with name_peer() left out.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

import sockd
from sockd import CloseReason, testing
from sockd.errors import HandlerError


def greet(line):
    return b"hello " + line


def where(line, connection):
    return connection.peer.encode()


def moody(line):
    if line == b"bye":
        raise sockd.Close(b"farewell")
    return line if line != b"boom" else 1 / 0


ENDS = []


class Counter(sockd.LineProtocol):
    def connection_made(self, transport):
        super().connection_made(transport)
        self.lines = 0
        self.send_line(b"welcome")

    def line_received(self, line):
        self.lines += 1
        if line == b"later":
            self.transport.call_later(0.05, self.send_line, b"now")

    def eof_received(self):
        self.send_line(b"%d lines" % self.lines)

    def connection_lost(self, exc):
        ENDS.append(self.transport.close_reason)


def test_a_line_is_answered_when_it_is_whole():
    with testing.connect(greet) as peer:
        peer.send(b"wor")
        assert peer.received() == b""
        peer.send(b"ld\nand you\r\nre")
        assert peer.received() == b"hello world\nhello and you\n"
        assert (peer.ended, peer.close_reason) == (False, CloseReason.NONE)
        peer.end()
        assert (peer.received(), peer.ended) == (b"", True)
        assert peer.close_reason is CloseReason.TRUNCATED


@pytest.mark.parametrize("sizes", [(), (1,), (2, 3, 1), (100, 7)])
def test_any_splitting_has_the_same_answer(sizes):
    data = b"".join(b"%d\n" % number for number in range(200))
    assert testing.answer(greet, data, sizes=sizes) == b"".join(b"hello %d\n" % number for number in range(200))


def test_more_than_buffers_hold():
    data = b"x" * 50_000 + b"\n"
    assert testing.answer(greet, data * 100) == b"hello " * 0 + (b"hello " + data) * 100


def test_the_end_a_handler_makes():
    with testing.connect(moody) as peer:
        peer.send(b"a\nbye\nnot handed out\n")
        assert (peer.received(), peer.ended) == (b"a\nfarewell\n", True)
        peer.end()
        assert peer.close_reason is CloseReason.CLOSED
    with testing.connect(moody) as peer:
        peer.send(b"boom\n")
        peer.end()
        assert (peer.received(), peer.close_reason) == (b"", CloseReason.HANDLER_ERROR)


def test_a_protocol_class_and_its_timers():
    with testing.connect(Counter) as peer:
        assert peer.received() == b"welcome\n"
        peer.send(b"a\nlater\n")
        assert peer.received() == b""
        peer.run(0.1)
        assert peer.received() == b"now\n"
        peer.end()
        assert peer.received() == b"2 lines\n"
    assert ENDS[-1] is CloseReason.EOF
    with testing.connect(Counter):
        pass
    assert len(ENDS) == 2


def test_who_the_client_is():
    with testing.connect(where, client=("192.0.2.7", 40000)) as peer:
        peer.send(b"\n")
        assert peer.received() == b"tcp://192.0.2.7:40000\n"
    with testing.connect(where) as peer:
        peer.send(b"\n")
        assert peer.received() == b"unix:\n"


def test_a_service_with_its_hooks_and_limits():
    told = []
    service = sockd.Service(framing=sockd.Line(5), text="utf-8")
    service.startup(lambda: told.append("up"))
    service.shutdown(lambda: told.append("down"))
    service.frame(lambda line: line[::-1])
    with testing.connect(service) as peer:
        peer.send("äbc\n".encode())
        assert peer.received() == "cbä\n".encode()
        peer.send(b"too long\n")
        peer.end()
        assert peer.close_reason is CloseReason.FRAME_TOO_LONG
        assert told == ["up"]
    assert told == ["up", "down"]


def test_what_is_no_handler():
    with pytest.raises(HandlerError, match="cannot be called with a line"):
        testing.connect(lambda one, two, three: None)
    with pytest.raises(HandlerError, match="no module"):
        testing.connect("nowhere_at_all:greet")


def test_it_leaves_nothing_open():
    """Warnings of sockets that were not closed are errors here."""
    program = "import gc, sockd.testing as t\nfor _ in range(50): t.answer(bytes.upper, b'a')\ngc.collect()"
    subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", program], check=True, timeout=60, cwd="/")
