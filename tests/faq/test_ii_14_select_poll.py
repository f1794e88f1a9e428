# SPDX-License-Identifier: MIT
# Seen failing against a daemon that under select() accepts as many as max_connections says (it dies of "filedescriptor
# out of range in select()"), and one whose selectors are not told of the wish to write (the large reply never ends).
"""FAQ II.14: select, poll, epoll, auto: the same answers; select pauses accept at FD_SETSIZE, and says so."""

from __future__ import annotations

import select
import socket

import pytest

FD_SETSIZE = 1024
CLIENTS = 1100
LARGE = 4 * 1024 * 1024
APP = """
def large(line):
    return b"x" * int(line)
"""
NAMES = [name for name in ("select", "poll", "epoll") if hasattr(select, name)] + ["auto"]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_answers_under_each(daemon, read_to_end, read_exactly, name_of, reset, name):
    one = daemon("tcp://127.0.0.1:0=upper", "tcp://127.0.0.1:0=app:large", app=APP, multiplexer=name)
    many = [one.connect() for _ in range(50)]
    for client in many:
        client.sendall(b"hel")
    for client in many:
        client.sendall(b"lo\nworld\n")
    for client in many:
        assert read_exactly(client, 12) == b"HELLO\nWORLD\n"
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""
    slow = one.connect(1, before=lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096))
    slow.sendall(f"{LARGE}\n".encode())
    slow.shutdown(socket.SHUT_WR)
    assert len(read_to_end(slow)) == LARGE + 1
    gone = one.connect()
    gone.sendall(b"x\n")
    gone.recv(10)
    peer = name_of(gone)
    reset(gone)
    one.closed("reset", peer=peer)


def test_select_past_its_limit_says_so_and_keeps_serving(daemon, until):
    one = daemon("tcp://127.0.0.1:0=upper", multiplexer="select")
    (said,) = one.logged("select() cannot wait for that many connections; use another multiplexer")
    assert said["descriptors"] == FD_SETSIZE
    most = said["connections"]
    assert 900 <= most < FD_SETSIZE
    clients = [one.connect() for _ in range(CLIENTS)]  # the kernel completes them all (FAQ III.3)
    for client in clients:
        client.sendall(b"hello\n")
    for client in clients[:most]:
        assert client.recv(10) == b"HELLO\n"
    one.wait_for("limit reached, new clients wait in the backlog")
    assert one.descriptors() <= FD_SETSIZE
    unanswered = select.poll()
    for client in clients[most:]:
        unanswered.register(client, select.POLLIN)
    assert unanswered.poll(0) == []
    for client in clients[:most]:
        client.close()
    for client in clients[most:]:
        assert client.recv(10) == b"HELLO\n"
    assert one.ask(b"again\n") == b"AGAIN\n"


def test_poll_and_epoll_know_no_such_limit(daemon, multiplexer):
    names = [name for name in ("poll", "epoll") if name in NAMES]
    for name in names:
        one = daemon("tcp://127.0.0.1:0=upper", multiplexer=name)
        clients = [one.connect() for _ in range(CLIENTS)]
        for client in clients:
            client.sendall(b"hello\n")
        for client in clients:
            assert client.recv(10) == b"HELLO\n"
        one.let_clients_go()
