# SPDX-License-Identifier: MIT
# Seen failing against a daemon that closes right after its last byte, without discarding (the whole answer; a stop in
# order), and one that waits for the end of the peer without a bound.
"""II.5, a proper close: all that was written arrives, whatever the peer is still sending; closing has an end."""

from __future__ import annotations

import socket
import threading
import time

import pytest

MIB = 1 << 20
REPLY = 200_000
APP = """
import sockd
from sockd.errors import Close

class Bye(sockd.LineProtocol):
    def line_received(self, line):
        self.transport.write(b"y" * 200_000)
        self.transport.close()

def raises(line):
    raise Close(b"y" * 199_999)

def fails(line):
    raise ValueError("of the handler")
"""


def sends(sock, data, errors):
    try:
        sock.sendall(data)
    except OSError as error:
        errors.append(error)


@pytest.mark.parametrize("handler", ["Bye", "raises"])
def test_the_whole_answer_arrives_while_the_peer_is_still_sending(daemon, read_to_end, soak, handler):
    """Closing with unread input would send RST, and RST destroys the answer on its way."""
    one = daemon(f"tcp://127.0.0.1:0=app:{handler}", app=APP)
    rounds = 1000 if soak else 20
    data = b"go\n" + b"q" * (10 * MIB)
    for _ in range(rounds):
        with one.connect() as sock:
            errors = []
            sender = threading.Thread(target=sends, args=(sock, data, errors))
            sender.start()
            answer = read_to_end(sock)
            sender.join()
            assert len(answer) == REPLY
            assert errors == []
    one.closed("closed", count=rounds, within=30)
    assert {line["reason"] for line in one.logged("closed")} == {"closed"}


def test_an_answer_larger_than_every_buffer(daemon, read_to_end):
    app = "import sockd\nfrom sockd.errors import Close\ndef big(line):\n    raise Close(b'y' * 30_000_000)\n"
    one = daemon("tcp://127.0.0.1:0=app:big", app=app)
    sock = one.connect()
    sock.sendall(b"go\n" + b"q" * MIB)
    assert len(read_to_end(sock)) == 30_000_001
    sock.close()
    one.closed("closed")


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_our_end_is_seen_before_the_peers_own(daemon, read_to_end, tmp_path, scheme):
    one = daemon({"tcp": "tcp://127.0.0.1:0", "unix": f"unix:{tmp_path}/s"}[scheme] + "=app:Bye", app=APP)
    sock = one.connect()
    sock.sendall(b"go\n")
    assert len(read_to_end(sock)) == REPLY
    assert one.logged("closed") == []  # it waits for the peer's end
    sock.sendall(b"more that nobody wants\n")
    sock.close()
    one.closed("closed")


def talks_on(sock, within=10):
    end = time.monotonic() + within
    sock.sendall(b"go\n")
    while time.monotonic() < end:
        sock.sendall(b"q" * 65536)


def test_a_peer_that_never_ends_is_waited_for_within_a_bound(daemon, read_to_end):
    toml = """
    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "bye"
    [service.bye]
    handler = "app:Bye"
    linger_timeout = "500ms"
    """
    one = daemon(toml=toml, app=APP)
    silent, talking = one.connect(), one.connect()
    silent.sendall(b"go\n")
    assert len(read_to_end(silent)) == REPLY
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        talks_on(talking)
    lines = [one.closed("closed", count=count) for count in (1, 2)]
    for line in lines:
        assert 0.5 <= line["seconds"] < 1.5, line


def test_no_descriptor_is_kept(daemon, read_to_end, until):
    one = daemon("tcp://127.0.0.1:0=app:Bye", app=APP)
    before = one.descriptors()
    for _ in range(50):
        with one.connect() as sock:
            sock.sendall(b"go\n")
            read_to_end(sock)
    one.closed("closed", count=50)
    until(lambda: one.descriptors() == before)


def test_a_handler_that_fails_closes_in_order_too(daemon, read_to_end):
    one = daemon("tcp://127.0.0.1:0=app:fails", app=APP)
    sock = one.connect()
    sock.sendall(b"go\n" + b"q" * MIB)
    assert read_to_end(sock) == b""
    sock.close()
    one.closed("handler-error")


def test_a_stop_is_a_proper_close(daemon, read_to_end):
    one = daemon("tcp://127.0.0.1:0=upper")
    sock = one.connect()
    sock.sendall(b"before\n")
    assert sock.recv(100) == b"BEFORE\n"
    stopper = threading.Thread(target=one.stop)
    stopper.start()
    assert read_to_end(sock) == b""
    sock.shutdown(socket.SHUT_WR)
    stopper.join()
    assert one.process.returncode == 0
    assert one.logged("closed")[0]["reason"] == "shutdown"
