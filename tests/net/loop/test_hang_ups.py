# SPDX-License-Identifier: MIT
"""Hang-ups of sockets that nobody reads: reported by the kernel, with each multiplexer, and no timer asks."""

from __future__ import annotations

import errno
import gc
import os
import selectors
import socket
import time

import pytest

from sockd.net.connection.peer_gone import PeerWatch
from sockd.net.loop.hang_ups import HangUps
from sockd.net.loop.loop import EventLoop

LIMIT_S = 30
RESET = b"\1\0\0\0\0\0\0\0"
SELECTORS = [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector]


@pytest.fixture(params=SELECTORS)
def loop(request):
    with request.param() as selector:
        one = EventLoop(selector, time.monotonic)
        yield one
        one.close()
        assert one.defects.count == 0


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        return client, listening.accept()[0]


def until(loop, reported):
    end = time.monotonic() + LIMIT_S
    while not reported:
        assert time.monotonic() < end
        loop.run_once(LIMIT_S)


@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair])
def test_who_is_gone_is_reported_once_whatever_waits_to_be_read(loop, pair):
    reported = []
    client, server = pair()
    with server:
        watch = PeerWatch(loop, server, lambda: reported.append("gone"))
        client.sendall(b"not read")
        client.shutdown(socket.SHUT_WR)
        for _ in range(3):
            loop.run_once(0)
        assert reported == []
        assert loop.next_due is None
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        until(loop, reported)
        for _ in range(3):
            loop.run_once(0)
        assert reported == ["gone"]
        watch.cancel()


def test_who_is_watched_no_more_is_not_reported(loop):
    reported = []
    client, server = socket.socketpair()
    with server:
        watch = PeerWatch(loop, server, lambda: reported.append("gone"))
        watch.cancel()
        client.close()
        loop.run_once(0)
        again = PeerWatch(loop, server, lambda: reported.append("again"))
        until(loop, reported)
        again.cancel()
        watch.cancel()
    assert reported == ["again"]


def test_a_callback_that_fails_costs_no_other(loop):
    reported = []
    pairs = [socket.socketpair() for _ in range(2)]
    PeerWatch(loop, pairs[0][1], lambda: 1 // 0)
    PeerWatch(loop, pairs[1][1], lambda: reported.append("gone"))
    for client, _ in pairs:
        client.close()
    until(loop, reported)
    assert loop.defects.count == 1
    loop.defects.count = 0
    for _, server in pairs:
        server.close()


def test_without_a_descriptor_to_watch_with_the_peer_is_served_all_the_same(loop, monkeypatch):
    def fails():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    client, server = socket.socketpair()
    with client, server, monkeypatch.context() as patch:
        patch.setattr("select.epoll", fails)
        PeerWatch(loop, server, lambda: None).cancel()
    assert loop.instance(HangUps)._epoll is None


def test_it_has_a_descriptor_only_while_it_watches(loop):
    """Seen failing with one that stays open: a descriptor more than before the first client that waited."""
    gc.collect()  # what earlier tests left must not be collected in between
    before = sorted(os.listdir("/proc/self/fd"))
    pairs = [socket.socketpair() for _ in range(2)]
    with pairs[0][0], pairs[0][1], pairs[1][0], pairs[1][1]:
        held = len(os.listdir("/proc/self/fd"))
        reported = []
        watch = PeerWatch(loop, pairs[0][1], lambda: None)
        PeerWatch(loop, pairs[1][1], lambda: reported.append("gone"))
        assert len(os.listdir("/proc/self/fd")) == held + 1
        pairs[1][0].close()
        until(loop, reported)
        watch.cancel()
        assert len(os.listdir("/proc/self/fd")) == held - 1
    assert sorted(os.listdir("/proc/self/fd")) == before
