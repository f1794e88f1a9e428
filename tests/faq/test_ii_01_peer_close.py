# SPDX-License-Identifier: MIT
# Seen failing against a daemon that calls an end within a frame eof (function, upper), one for which ETIMEDOUT is like
# every other error (unreachable becomes reset), and one that takes RST for an end of file (every test with one).
"""II.1, closed on the other end: end of file, reset and unreachable differ; half a frame is handed to nobody."""

from __future__ import annotations

import socket

import pytest

APP = """
import logging
import sockd

logger = logging.getLogger("app")

def note(what, **fields):
    logger.info(what, extra={"event": fields})

def function(line):
    note("frame", line=line.decode())
    return line

def with_connection(line, connection):
    note("frame", line=line.decode())
    return line

class Lines(sockd.LineProtocol):
    def line_received(self, line):
        note("frame", line=line.decode())
        self.send_line(line)
    def eof_received(self):
        note("end of input")
    def connection_lost(self, exc):
        note("lost", error=type(exc).__name__)

def grow(line):
    return b"x" * 30_000_000
"""
HANDLERS = ["function", "with_connection", "Lines"]


@pytest.fixture(params=HANDLERS)
def served(daemon, request):
    return daemon(f"tcp://127.0.0.1:0=app:{request.param}", app=APP)


def frames(one):
    return [line["line"] for line in one.logged("frame")]


def test_fin_is_an_end_of_file(served, read_to_end):
    sock = served.connect()
    sock.sendall(b"one\ntwo\n")
    sock.shutdown(socket.SHUT_WR)
    assert read_to_end(sock) == b"one\ntwo\n"
    line = served.closed("eof")
    assert (line["frames"], line["received"], line["sent"]) == (2, 8, 8)


def test_fin_without_a_byte_is_an_end_of_file(served):
    served.connect().close()
    assert served.closed("eof")["received"] == 0


def test_fin_within_a_frame_is_truncated_and_the_piece_is_not_delivered(served, read_to_end):
    sock = served.connect()
    sock.sendall(b"whole\nhal")
    sock.shutdown(socket.SHUT_WR)
    assert read_to_end(sock) == b"whole\n"
    line = served.closed("truncated")
    assert (line["frames"], line["received"]) == (1, 9)
    assert frames(served) == ["whole"]


def test_rst_is_a_reset_and_what_came_before_it_is_delivered(served, reset):
    sock = served.connect()
    sock.sendall(b"whole\nhal")
    assert sock.recv(6) == b"whole\n"
    reset(sock)
    served.closed("reset")
    assert frames(served) == ["whole"]


def test_rst_right_behind_a_frame(served, reset):
    for number in range(20):
        sock = served.connect()
        sock.sendall(b"%d\n" % number)
        reset(sock)
    served.closed("reset", count=20)
    assert frames(served) == [str(number) for number in range(20)]


@pytest.mark.parametrize("builtin", ["upper", "echo", "discard"])
def test_the_three_reasons_of_a_built_in(daemon, reset, builtin):
    one = daemon(f"tcp://127.0.0.1:0={builtin}")
    sock = one.connect()
    sock.sendall(b"hello\n")
    sock.close()
    one.closed()
    assert one.logged("closed")[0]["reason"] in ("eof", "reset")  # reset: its end came before our answer
    sock = one.connect()
    sock.sendall(b"half")
    sock.shutdown(socket.SHUT_WR)
    one.closed("truncated" if builtin == "upper" else "eof", count=2)
    reset(one.connect())
    one.closed("reset", count=3)


def test_rst_while_an_answer_is_in_flight(daemon, reset):
    one = daemon("tcp://127.0.0.1:0=app:grow", app=APP)
    sock = one.connect()
    sock.sendall(b"go\n")
    assert sock.recv(1) == b"x"
    reset(sock)
    assert one.closed("reset")["output_pending_bytes"] > 0


def test_a_protocol_is_told_each_end_once(daemon, reset):
    one = daemon("tcp://127.0.0.1:0=app:Lines", app=APP)
    one.connect().close()
    assert one.wait_for("lost")["error"] == "NoneType"
    assert len(one.logged("end of input")) == 1
    reset(one.connect())
    assert one.wait_for("lost", count=2)["error"] == "ConnectionResetError"
    assert len(one.logged("end of input")) == 1


def test_a_peer_that_cannot_be_reached_is_unreachable(daemon, network):
    toml = """
    [[listen]]
    address = "tcp://0.0.0.0:0"
    service = "app:function"
    keepalive = { idle = "1s", interval = "1s", count = 1 }
    user_timeout = "1s"
    """
    one = daemon(toml=toml, app=APP, prefix=network.prefix)
    with network.connect(one.port()) as asks, network.connect(one.port()) as halfway:
        asks.sendall(b"before\n")
        assert asks.recv(100) == b"before\n"
        halfway.sendall(b"half")
        network.silence()
        one.closed("unreachable", count=2)
        assert {line["reason"] for line in one.logged("closed")} == {"unreachable"}
        assert sorted(line["frames"] for line in one.logged("closed")) == [0, 1]
    assert frames(one) == ["before"]
