# SPDX-License-Identifier: MIT
"""The conversation in one process, where a test from outside cannot choose the moment."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from sockd.client.pumps import INPUT_PAUSE_S, WINDOW, WINDOW_STALL_S, DatagramPump, StdioPump, converse
from sockd.errors import SystemFault, TemporaryFault
from sockd.net.address.address import Address

ADDRESS = Address.parse("unix:/peer")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def pair():
    """Give a socket for the client and its peer of a kind."""
    opened = []

    def make(kind=socket.SOCK_STREAM):
        opened.extend(socket.socketpair(socket.AF_UNIX, kind))
        opened[0].setblocking(False)
        return opened

    yield make
    for sock in opened:
        sock.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(clock):
    """Make a pump with a clock of the test's; a pump that is not run has its selector closed here."""
    pumps = []

    def pump(kind, sock, timeout=10.0):
        pumps.append(kind(sock, ADDRESS, timeout=timeout, clock=clock))
        return pumps[-1]

    yield pump
    for one in pumps:
        one.ready.close()


def through(sock, data, timeout=10.0):
    """Converse with input from a pipe; gives the exception, if any, and all that was printed."""
    source, feed = os.pipe()
    drain, sink = os.pipe()
    printed = []
    failed = []

    def read():
        with open(drain, "rb") as stream:
            printed.append(stream.read())

    reader = threading.Thread(target=read)
    reader.start()
    os.write(feed, data)
    os.close(feed)
    try:
        converse(sock, ADDRESS, timeout=timeout, source=source, sink=sink)
    except (SystemFault, TemporaryFault) as error:
        failed.append(error)
    finally:
        os.close(sink)
        os.close(source)
        reader.join()
    return (failed or [None])[0], printed[0]


def test_what_a_peer_sent_before_it_closed_is_printed_although_sending_fails(pair):
    sock, peer = pair()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    answer = os.urandom(150_000)  # more than one turn reads
    peer.sendall(answer)
    peer.close()
    failure, printed = through(sock, b"more input")
    assert printed == answer
    assert str(failure) == "connection closed: unix:/peer (before all of the input was sent)"
    assert sock.fileno() == -1


def test_a_socket_that_takes_nothing_after_all_is_no_failure(pair, make):
    sock, _ = pair()
    for kind in (StdioPump, DatagramPump):
        pump = make(kind, sock)
        with_full_buffer(sock)
        pump.outgoing += b"x\n"
        pump._serve(sock.fileno(), 2)
        assert pump.failure is None
        assert pump.outgoing == b"x\n"


def with_full_buffer(sock):
    try:
        while True:
            sock.send(b"x" * 65536)
    except BlockingIOError:
        pass


def test_descriptors_that_cannot_be_read_or_written_are_named(pair, tmp_path):
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        sock, _ = pair()
        with pytest.raises(SystemFault, match=r"^standard input: .*EISDIR"):
            converse(sock, ADDRESS, timeout=1, source=directory)
    finally:
        os.close(directory)


def test_input_that_pauses_after_the_peers_end_is_not_waited_for(pair, make, clock):
    sock, _ = pair()
    pump = make(StdioPump, sock)
    assert pump.patience() is None
    pump.peer_ended = True
    assert pump.patience() == INPUT_PAUSE_S
    clock.now += INPUT_PAUSE_S
    pump.turn_ended(idle=False)
    assert not pump.is_over()
    pump.turn_ended(idle=True)
    assert pump.is_over()
    assert pump.failure is None


def test_a_peer_that_takes_no_more_has_the_timeout(pair, make, clock):
    sock, _ = pair()
    pump = make(StdioPump, sock, timeout=3.0)
    pump.peer_ended = True
    pump.outgoing += b"left"
    assert pump.patience() == 3.0
    clock.now += 3.0
    pump.turn_ended(idle=True)
    assert pump.is_over()
    assert "timed out after 3 s: unix:/peer (4 bytes of input not sent)" in str(pump.failure)


def test_a_full_window_waits_a_little_and_is_then_taken_as_lost(pair, make, clock):
    sock, peer = pair(socket.SOCK_DGRAM)
    peer.setblocking(False)
    pump = make(DatagramPump, sock)
    pump.in_flight = WINDOW
    pump.outgoing += b"next\n"
    assert pump.patience() == pytest.approx(WINDOW_STALL_S)
    assert not pump.socket_events() & 2
    clock.now += WINDOW_STALL_S
    assert pump.patience() is None
    assert pump.socket_events() & 2
    pump.send()
    assert pump.in_flight == 1
    assert peer.recv(9) == b"next\n"


def test_an_answer_that_nobody_asked_for_is_printed_and_owed_to_none(pair, make):
    sock, peer = pair(socket.SOCK_DGRAM)
    pump = make(DatagramPump, sock)
    peer.send(b"hello")
    pump.receive()
    assert (pump.incoming, pump.unanswered, pump.in_flight) == (b"hello", 0, 0)


def test_an_empty_answer_counts(pair, make):
    sock, peer = pair(socket.SOCK_DGRAM)
    pump = make(DatagramPump, sock)
    pump.outgoing += b"x\n"
    pump.send()
    pump.input_ended = True
    assert not pump.is_over()
    peer.send(b"")
    pump.receive()
    assert pump.is_over()


def test_answers_are_not_overdue_while_they_cannot_be_printed(pair, make, clock):
    sock, _ = pair(socket.SOCK_DGRAM)
    pump = make(DatagramPump, sock, timeout=3.0)
    pump.input_ended, pump.unanswered = True, 1
    assert pump.patience() == 3.0
    pump.incoming += b"x" * (1 << 20)
    clock.now += 100
    assert pump.patience() is None
