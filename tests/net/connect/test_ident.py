# SPDX-License-Identifier: MIT
"""The ident client (RFC 1413): what it asks, what it believes, and that it ends in time."""

from __future__ import annotations

import selectors
import socket
import time

import pytest

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.connect import ident
from sockd.net.connect.ident import IdentClient, parse_reply
from sockd.net.loop.loop import EventLoop

LIMIT_S = 30
ENDS = SocketAddress.parse("127.0.0.1", 79), SocketAddress.parse("127.0.0.1", 40_000)


@pytest.mark.parametrize(
    ("line", "user"),
    [
        (b"40000, 79 : USERID : UNIX :alice", "alice"),
        (b"40000,79:USERID:OTHER,US-ASCII: a b ", "a b"),
        (b"40000 , 79 : USERID : UNIX : with:colon", "with:colon"),
        (b"40000, 79 : ERROR : NO-USER", None),
        (b"40000, 79 : ERROR : HIDDEN-USER", None),
        (b"40001, 79 : USERID : UNIX :alice", None),
        (b"79, 40000 : USERID : UNIX :alice", None),
        (b"40000, 79 : USERID : UNIX :", None),
        (b"40000, 79 : USERID : UNIX :a\x1b[2Jb", None),
        (b"40000, 79 : USERID : UNIX :a\nb", None),
        (b"", None),
        (b"\xff" * 999, None),
    ],
)
def test_only_an_answer_to_the_question_counts(line, user):
    assert parse_reply(line, 40_000, 79) == user


@pytest.fixture
def loop():
    with selectors.DefaultSelector() as selector:
        one = EventLoop(selector, time.monotonic)
        yield one
        one.close()


@pytest.fixture
def host():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(LIMIT_S)
        yield server


def run_until(loop, done):
    end = time.monotonic() + LIMIT_S
    while not done():
        assert time.monotonic() < end
        loop.run_once(0.05)


def ask(loop, host, answer, *, deadline=LIMIT_S):
    """Ask, and play the host: `answer` gets its connection, and returns whether it stays open."""
    found = []
    client = IdentClient(loop, deadline, host.getsockname()[1])
    client.ask(*ENDS, found.append)
    run_until(loop, lambda: bool(selectors_ready(host)))
    with host.accept()[0] as sock:
        sock.settimeout(LIMIT_S)
        run_until(loop, lambda: bool(selectors_ready(sock)))
        assert sock.recv(100) == b"40000, 79\r\n"
        answer(sock)
        run_until(loop, lambda: found)
    return found


def selectors_ready(sock):
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return selector.select(0)


def test_a_user_is_found(loop, host):
    assert ask(loop, host, lambda sock: sock.sendall(b"40000, 79 : USERID : UNIX :alice\r\n")) == ["alice"]


def test_a_reply_in_pieces(loop, host):
    def pieces(sock):
        for byte in b"40000,79:USERID:UNIX:bob\n":
            sock.sendall(bytes([byte]))
            loop.run_once(0.01)

    assert ask(loop, host, pieces) == ["bob"]


@pytest.mark.parametrize("said", [b"", b"x" * 1000, b"x" * 2000 + b"\r\n", b"half a line"])
def test_what_is_no_reply_is_nobody(loop, host, said):
    def answer(sock):
        sock.sendall(said)
        sock.shutdown(socket.SHUT_WR)

    assert ask(loop, host, answer) == [None]


def test_a_host_that_says_nothing_ends_in_time(loop, host):
    began = time.monotonic()
    assert ask(loop, host, lambda sock: None, deadline=0.2) == [None]
    assert time.monotonic() - began < 10


def test_a_host_without_ident_is_nobody_at_once(loop, host):
    port = host.getsockname()[1]
    host.close()
    found = []
    IdentClient(loop, LIMIT_S, port).ask(*ENDS, found.append)
    run_until(loop, lambda: found)
    assert found == [None]


def test_there_is_a_bound_and_an_end(loop, host, monkeypatch):
    monkeypatch.setattr(ident, "MAX_ASKING", 4)  # half of them for one source
    found = []
    client = IdentClient(loop, LIMIT_S, host.getsockname()[1])
    for _ in range(3):
        client.ask(*ENDS, found.append)
    assert found == []  # never before ask() has returned
    run_until(loop, lambda: found)
    assert found == [None]
    client.close()
    assert found == [None] * 3


def test_hosts_that_say_nothing_leave_room_for_the_question_about_another(loop, host):
    client = IdentClient(loop, LIMIT_S, host.getsockname()[1])
    for port in range(1000):
        client.ask(ENDS[0], SocketAddress.parse("127.0.0.1", 1 + port), lambda _user: None)
    with socket.create_server(("127.0.0.2", host.getsockname()[1])) as other:
        client.ask(ENDS[0], SocketAddress.parse("127.0.0.2", 40_000), lambda _user: None)
        run_until(loop, lambda: selectors_ready(other))
    client.close()
