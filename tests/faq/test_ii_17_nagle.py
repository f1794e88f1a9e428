# SPDX-License-Identifier: MIT
# Seen failing against a daemon that sends the first byte of a reply by itself (five segments in case 2).
"""FAQ II.17: the two cases of the Nagle diagram, counted on the wire and by both ends."""

from __future__ import annotations

import socket
import struct
import time

import pytest

SEGMENTS_AT = 136  # tcpi_segs_out and tcpi_segs_in of linux/tcp.h
DELAYED_S = 0.02  # the shortest delayed acknowledgement is 40 ms (TCP_DELACK_MIN)
QUIET_S = 0.3  # the longest is 200 ms
TRIES = 6


def segments(sock):
    return struct.unpack_from("=II", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), SEGMENTS_AT)


def settled(sock):
    """Count once nothing has moved for a while: a delayed acknowledgement is sent by a timer of the kernel."""
    last, since = segments(sock), time.monotonic()
    while time.monotonic() - since < QUIET_S:
        time.sleep(0.005)
        if segments(sock) != last:
            last, since = segments(sock), time.monotonic()
    return last


@pytest.fixture
def talked(daemon, read_exactly):
    """A client with Nagle on, one answer after its start: Linux acknowledges the very first segment at once."""
    one = daemon("tcp://127.0.0.1:0=upper")
    client = one.connect(before=lambda sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0))
    client.sendall(b"first\n")
    assert read_exactly(client, 6) == b"FIRST\n"
    settled(client)
    return one, client


def ask(client, pieces):
    begin = time.monotonic()
    for piece in pieces:
        client.send(piece)
    got = b""
    while len(got) < 6:
        got += client.recv(100)
    assert got == b"HELLO\n"
    return time.monotonic() - begin


def of_some_tries(measure, right):
    """Assert that one try is right: a host that is busy for 40 ms adds acknowledgements, it never takes any."""
    for _ in range(TRIES):
        seen = measure()
        if right(*seen):
            return
    raise AssertionError(seen)


def test_case_2_is_three_segments_on_the_wire(talked, wire):
    one, client = talked
    take, port = wire(one.port()), client.getsockname()[1]

    def measure():
        settled(client)
        take()
        took = ask(client, [b"hello\n"])
        return took, [(segment.source, segment.size) for segment in take()]

    three = [(port, 6), (one.port(), 6), (port, 0)]
    of_some_tries(measure, lambda took, seen: seen == three and took < DELAYED_S)


def test_case_2_is_three_segments_by_the_count_of_both_ends(talked, sockets_of):
    one, client = talked
    (accepted,) = (sock for sock in sockets_of(one) if is_peer(sock, client))

    def measure():
        before = (*settled(client), *segments(accepted))
        ask(client, [b"hello\n"])
        return [now - then for now, then in zip((*settled(client), *segments(accepted)), before, strict=True)]

    of_some_tries(measure, lambda *sent_and_received: sent_and_received == (2, 1, 1, 2))


def test_case_1_waits_for_an_acknowledgement(talked, wire):
    """A byte by itself, the rest held back until the server's acknowledgement, then one answer."""
    one, client = talked
    take, port = wire(one.port()), client.getsockname()[1]

    def measure():
        settled(client)
        take()
        took = ask(client, [b"h", b"e", b"l", b"l", b"o", b"\n"])
        return took, take()

    def right(took, seen):
        asked = [segment.size for segment in seen if segment.source == port and segment.size]
        answered = [segment.size for segment in seen if segment.source == one.port() and segment.size]
        # Five in the FAQ; Linux acknowledges the late five bytes at once, by themselves.
        return (asked, answered) == ([1, 5], [6]) and len(seen) in (5, 6) and took > DELAYED_S

    of_some_tries(measure, right)


def test_without_nagle_case_1_is_a_segment_a_byte_and_no_wait(talked, wire):
    one, client = talked
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    take, port = wire(one.port()), client.getsockname()[1]

    def measure():
        settled(client)
        take()
        took = ask(client, [b"h", b"e", b"l", b"l", b"o", b"\n"])
        return took, [segment.size for segment in take() if segment.source == port and segment.size]

    of_some_tries(measure, lambda took, sizes: sizes == [1] * 6 and took < DELAYED_S)


def is_peer(sock, client):
    try:
        return sock.getpeername() == client.getsockname()
    except OSError:
        return False
