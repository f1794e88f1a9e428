# SPDX-License-Identifier: MIT
# Seen failing against a daemon that goes on reading a connection after its end of file (state.c: MAY_RECEIVE for
# ROW_HALF_REMOTE): 100 % of a processor.
"""FAQ II.13: readable, and read returns 0, is an end of file, never a busy loop."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

PEERS = 1000
PEERS_UNDER_SELECT = 900  # it waits for 1,024 descriptors (FAQ II.14)
WATCHED_S = 1.0
MOST_SHARE = 0.05  # of one processor; a loop that spins takes all of it
APP = """
import sockd

class Stay(sockd.LineProtocol):
    def line_received(self, line):
        self.send_line(line.upper())

    def eof_received(self):
        self.send_line(b"bye")
        return True
"""


@pytest.fixture
def share(until):
    """Tell the share of a processor that a daemon takes, once what was to do is done."""

    def measure(one):
        def quiet():
            before = one.cpu_seconds()
            time.sleep(0.1)  # a window of measurement
            return one.cpu_seconds() == before

        def watched():
            before, begin = one.cpu_seconds(), time.monotonic()
            time.sleep(WATCHED_S)  # a window of measurement
            return (one.cpu_seconds() - before) / (time.monotonic() - begin)

        with contextlib.suppress(AssertionError):  # it is never quiet: what follows tells how much
            until(quiet, within=3)
        return watched()

    return measure


def test_half_closed_peers_cost_no_processor_time(daemon, share, multiplexer):
    one = daemon("tcp://127.0.0.1:0=app:Stay", app=APP)
    peers = []
    for _ in range(PEERS_UNDER_SELECT if multiplexer == "select" else PEERS):
        peer = one.connect()
        peer.sendall(b"hello\n")
        peer.shutdown(socket.SHUT_WR)
        peers.append(peer)
    for peer in peers:
        got = b""
        while not got.endswith(b"bye\n"):
            got += peer.recv(100)
        assert got == b"HELLO\nbye\n"
    assert share(one) <= MOST_SHARE
    assert one.logged("closed") == []  # all of them are there still


def test_an_end_of_file_is_the_end_of_a_plain_service(daemon, name_of, read_to_end):
    one = daemon("tcp://127.0.0.1:0=upper")
    peer = one.connect()
    peer.shutdown(socket.SHUT_WR)
    assert read_to_end(peer) == b""
    one.closed("eof", peer=name_of(peer))
