# SPDX-License-Identifier: MIT
"""The race in the loop: the first address that answers, within a time, and nothing left behind.

Seen failing with the deadline left out, with the attempts that lost left open, and with the next address tried only
when the one before has failed.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time

import pytest

from sockd.net.address.sockaddr import Endpoint
from sockd.net.connect.dialer import Dialer
from sockd.net.connect.happy_eyeballs import HEAD_START_S
from sockd.net.loop.loop import EventLoop

LIMIT_S = 30


@pytest.fixture
def loop():
    with selectors.DefaultSelector() as selector:
        one = EventLoop(selector, time.monotonic)
        yield one
        one.close()


@pytest.fixture
def dial(loop):
    """Dial to its end: what done() was called with, and what it took."""

    def run(*names, timeout=10.0, source=None):
        told = []
        endpoints = [Endpoint(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, name) for name in names]
        began = time.monotonic()
        Dialer(loop, endpoints, timeout=timeout, source=source, done=lambda *what: told.append(what))
        assert told == []  # never before it is made
        while not told:
            assert time.monotonic() < began + LIMIT_S
            loop.run_once(0.5)
        loop.run_once(0)
        assert len(told) == 1
        return *told[0], time.monotonic() - began

    return run


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def silent():
    """An address that answers no SYN: a listener whose queue is full."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        yield full.getsockname()


@pytest.fixture
def closed():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()


def test_it_connects(dial, listener):
    sock, codes, _ = dial(listener.getsockname())
    with sock:
        assert (sock.getpeername(), codes, sock.gettimeout()) == (listener.getsockname(), [], 0)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_refusal_makes_way_at_once(dial, listener, closed):
    sock, _, took = dial(closed, closed, listener.getsockname())
    sock.close()
    assert took < HEAD_START_S


def test_a_silent_address_costs_a_head_start_and_is_left(dial, listener, silent):
    before = len(os.listdir("/proc/self/fd"))
    sock, _, took = dial(silent, listener.getsockname())
    assert sock.getpeername() == listener.getsockname()
    sock.close()
    assert HEAD_START_S <= took < 5
    assert len(os.listdir("/proc/self/fd")) == before


def test_all_refused(dial, closed):
    assert dial(closed, closed)[:2] == (None, [errno.ECONNREFUSED] * 2)


def test_the_deadline(dial, silent, closed):
    sock, codes, took = dial(silent, closed, timeout=0.6)
    assert (sock, sorted(codes)) == (None, sorted([errno.ECONNREFUSED, errno.ETIMEDOUT]))
    assert 0.6 <= took < 5


def test_a_source(dial, listener):
    sock, _, _ = dial(listener.getsockname(), source="127.0.0.9")
    with sock:
        assert sock.getsockname()[0] == "127.0.0.9"
    assert dial(listener.getsockname(), source="192.0.2.1")[:2] == (None, [errno.EADDRNOTAVAIL])


def test_cancelled(loop, silent):
    told = []
    before = len(os.listdir("/proc/self/fd"))
    endpoint = Endpoint(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, silent)
    one = Dialer(loop, [endpoint], timeout=0.1, source=None, done=lambda *what: told.append(what))
    loop.run_once(0)
    one.cancel()
    for _ in range(3):
        loop.run_once(0.1)
    assert told == []
    assert len(os.listdir("/proc/self/fd")) == before
