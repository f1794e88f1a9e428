# SPDX-License-Identifier: MIT
# Seen failing against a daemon that keeps a connection open after the peer's end of file (CLOSE_WAIT), and one whose
# closing connections wait for the peer's FIN for ever.
"""FAQ IV.2: every connection ends with one close reason, and every phase of closing has a bound."""

from __future__ import annotations

import collections
import socket
from pathlib import Path

import pytest

ROUNDS, ROUNDS_SOAK = 5, 500
REASONS = {
    "eof", "closed", "reset", "unreachable", "truncated", "frame-too-long", "malformed", "idle-timeout",
    "frame-timeout", "write-stall", "limit", "handler-error", "refused", "shutdown", "aborted",
}  # fmt: skip
TOML = """
[[listen]]
address = "tcp://127.0.0.1:0"
service = "talk"

[service.talk]
handler = "app:talk"
max_frame = 1000
idle_timeout = 0.4
frame_timeout = 0.4
write_timeout = 0.4
linger_timeout = 0.4
max_buffer = "1 MiB"
"""
APP = """
import sockd

def talk(line, connection):
    if line == b"close":
        raise sockd.Close(b"bye")
    if line == b"abort":
        connection.abort()
    if line == b"fail":
        raise RuntimeError("as asked")
    if line == b"huge":
        return b"x" * 2_000_000
    return b"x" * 900_000 if line == b"large" else line.upper()
"""


def connected_only(client):
    return "idle-timeout"


def says_a_line_and_closes(client):
    client.sendall(b"hello\n")
    client.recv(100)
    client.close()
    return "eof"


def ends_in_a_line(client):
    client.sendall(b"hel")
    client.close()
    return "truncated"


def half_closes(client):
    client.sendall(b"hello\n")
    client.shutdown(socket.SHUT_WR)
    return "eof"


def half_a_line(client):
    client.sendall(b"hel")
    return "frame-timeout"


def too_long(client):
    client.sendall(b"x" * 2000)
    return "frame-too-long"


def never_reads(client):
    client.sendall(b"huge\n")
    return "limit"


def never_reads_a_little(client):
    client.sendall(b"large\n")
    return "write-stall"


def is_sent_away(client):
    client.sendall(b"close\n")
    return "closed"


def is_aborted(client):
    client.sendall(b"abort\n")
    return "aborted"


def meets_a_failure(client):
    client.sendall(b"fail\n")
    return "handler-error"


HABITS = [
    connected_only, says_a_line_and_closes, ends_in_a_line, half_closes, half_a_line, too_long, never_reads,
    never_reads_a_little, is_sent_away, is_aborted, meets_a_failure,
]  # fmt: skip


def states(port):
    """Count the states of a local port's sockets, as /proc/net/tcp prints them."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return collections.Counter(row[3] for row in rows if int(row[1].rpartition(":")[2], 16) == port)


def small(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def test_nothing_is_left_after_a_hostile_run(daemon, until, name_of, reset, soak):
    toml = TOML.replace('"talk"\n\n', '"talk"\nsend_buffer = 4608\n\n', 1)
    one = daemon(toml=toml, app=APP)
    before = one.descriptors()
    wanted, clients = [], []
    for _ in range(ROUNDS_SOAK if soak else ROUNDS):
        for habit in HABITS:
            client = one.connect(before=small)
            peer = name_of(client)
            wanted.append((peer, habit(client)))
            clients.append(client)
        client = one.connect()
        client.sendall(b"hello\n")
        client.recv(100)
        wanted.append((name_of(client), "reset"))
        reset(client)
    one.wait_for("closed", count=len(wanted), within=60 if soak else 10)
    assert {line["reason"] for line in one.logged("closed")} <= REASONS
    ends = [(line["peer"], line["reason"]) for line in one.logged("closed")]
    assert sorted(ends) == sorted(wanted)  # exactly one reason each; the kernel may give a port twice
    until(lambda: one.descriptors() == before)  # with every client still there that did not close
    assert states(one.port())["08"] == 0  # CLOSE_WAIT
    for client in clients:
        client.close()
    until(lambda: not states(one.port())["05"] and not states(one.port())["08"])  # FIN_WAIT2
    assert one.ask(b"hello\n") == b"HELLO\n"


@pytest.mark.parametrize("habit", [is_sent_away, too_long, meets_a_failure])
def test_a_peer_that_never_closes_is_let_go_in_time(daemon, habit, name_of):
    """Its FIN is waited for until linger_timeout, no longer."""
    one = daemon(toml=TOML, app=APP)
    client = one.connect()
    reason = habit(client)
    line = one.closed(reason, peer=name_of(client))
    assert 0.4 <= line["seconds"] < 3
