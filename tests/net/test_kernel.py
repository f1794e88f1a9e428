# SPDX-License-Identifier: MIT
from __future__ import annotations

import errno
import socket
import struct
import time
from contextlib import ExitStack

import pytest

from sockd.net import kernel
from sockd.net.address.address import Address
from sockd.net.kernel import AcceptQueue, accept_queue, time_wait_count, unacknowledged
from sockd.net.listen.bind import open_listener
from sockd.settings.listen import ListenSettings


@pytest.fixture
def opened():
    with ExitStack() as stack:
        yield stack


def listen(opened, text="tcp://127.0.0.1:0", **settings):
    (one,) = open_listener(Address.parse(text), ListenSettings(**settings))
    opened.callback(one.close)
    return one.socket


def until(wanted, tell):
    """Ask again until the kernel tells what is wanted, for what a packet does is done a moment later."""
    end = time.monotonic() + 10
    while (told := tell()) != wanted and time.monotonic() < end:
        pass
    return told


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:0", "tcp://[::1]:0"])
def test_the_queue_fills_up_to_its_limit_and_overflows(opened, text):
    sock = listen(opened, text, backlog=3)
    assert accept_queue(sock) == AcceptQueue(0, 3, 0)
    for filled in range(1, 5):
        opened.enter_context(socket.create_connection(sock.getsockname()[:2]))
        assert accept_queue(sock) == AcceptQueue(filled, 3, 0)
    late = []
    for overflows in (1, 2):
        late.append(opened.enter_context(socket.socket(sock.family)))
        late[-1].setblocking(False)
        assert late[-1].connect_ex(sock.getsockname()[:2]) == errno.EINPROGRESS  # its SYN was dropped
        assert until(overflows, lambda: accept_queue(sock).overflows) == overflows
    assert accept_queue(sock) == AcceptQueue(4, 3, 2)
    opened.enter_context(sock.accept()[0])
    assert accept_queue(sock).length == 3


def test_the_limit_is_what_the_kernel_made_of_the_backlog(opened):
    with open("/proc/sys/net/core/somaxconn") as file:
        most = int(file.read())
    assert accept_queue(listen(opened, backlog=65_535)).limit == min(most, 65_535)


def test_only_a_listening_tcp_socket_has_a_queue(opened, tmp_path):
    sock = listen(opened)
    client = opened.enter_context(socket.create_connection(sock.getsockname()))
    for other in (
        client,
        opened.enter_context(socket.socket()),
        listen(opened, "udp://127.0.0.1:0"),
        listen(opened, f"unix:{tmp_path}/s"),
        listen(opened, f"unixgram:{tmp_path}/d"),
    ):
        assert accept_queue(other) is None
    sock.close()
    assert accept_queue(sock) is None


def test_no_queue_is_told_elsewhere(opened, monkeypatch):
    sock = listen(opened)
    monkeypatch.setattr(kernel.sys, "platform", "freebsd14")
    assert accept_queue(sock) is None


def test_overflows_are_unknown_to_an_old_kernel(opened, monkeypatch):
    monkeypatch.setattr(kernel, "SO_MEMINFO", 9999)
    assert accept_queue(listen(opened, backlog=2)) == AcceptQueue(0, 2, None)


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://[::]:0"])
def test_time_wait_is_counted_on_the_side_that_closed_first(opened, text):
    sock = listen(opened, text, reuse_address=False)  # a port on which nobody left one behind, but of other addresses
    port = sock.getsockname()[1]
    before = time_wait_count(port)
    host = "::1" if "::1" in text else "127.0.0.1"
    for _ in range(3):
        with socket.create_connection((host, port)) as client:
            sock.accept()[0].close()
            assert client.recv(1) == b""
    assert until(3, lambda: time_wait_count(port) - before) == 3
    assert time_wait_count(1) == 0


def test_time_wait_is_unknown_without_its_table(monkeypatch, tmp_path):
    present, missing = kernel.TABLES[0], tmp_path / "none"
    monkeypatch.setattr(kernel, "TABLES", (missing, missing))
    assert time_wait_count(7) is None
    monkeypatch.setattr(kernel, "TABLES", (present, missing))
    assert time_wait_count(1) == 0


def test_bytes_that_the_peer_does_not_take_are_unacknowledged(opened):
    sock = listen(opened, receive_buffer=4096, send_buffer=1 << 20)
    client = opened.enter_context(socket.create_connection(sock.getsockname()))
    accepted = opened.enter_context(sock.accept()[0])
    assert unacknowledged(client) == 0
    client.setblocking(False)
    sent = client.send(bytes(1 << 20))
    assert 0 < unacknowledged(client) <= sent
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_what_was_acknowledged_is_not_counted(opened):
    sock = listen(opened)
    client = opened.enter_context(socket.create_connection(sock.getsockname()))
    accepted = opened.enter_context(sock.accept()[0])
    client.sendall(b"abc")
    assert accepted.recv(3) == b"abc"
    assert until(0, lambda: unacknowledged(client)) == 0


def test_a_socket_without_output_has_nothing_to_tell(opened):
    sock = listen(opened)
    assert unacknowledged(sock) is None
    sock.close()
    assert unacknowledged(sock) is None
