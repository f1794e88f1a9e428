# SPDX-License-Identifier: MIT
# Seen failing against a daemon whose datagram sockets are never read (every datagram test), and one whose wildcard is
# 0.0.0.0 alone (the last test).
"""I.3, kinds of sockets: streams and datagrams, over IPv4, IPv6 and Unix sockets."""

from __future__ import annotations

import socket

import pytest

MAX_DATAGRAM = 65_507  # what IPv4 leaves of 65,535 for the payload
DATAGRAMS = ("udp", "unixgram")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture
def six(daemon, tmp_path):
    """One configuration, six listeners."""
    if not has_ipv6():
        pytest.skip("this host has no ::1")
    addresses = [
        "tcp://127.0.0.1:0",
        "tcp://[::1]:0",
        f"unix:{tmp_path}/stream",
        "udp://127.0.0.1:0",
        "udp://[::1]:0",
        f"unixgram:{tmp_path}/datagram",
    ]
    return daemon(toml=f"[[listen]]\naddresses = {addresses}\nservice = 'upper'\n")


@pytest.fixture
def client(six, tmp_path):
    """Connect to a listener; a Unix datagram client gets a name, for without one it cannot be answered."""

    def connect(index):
        def name(sock):
            if six.addresses[index].startswith("unixgram:"):
                sock.bind(str(tmp_path / "client"))

        return six.connect(index, before=name)

    return connect


def test_one_configuration_serves_six_kinds(six, client):
    kinds = [address.partition(":")[0] for address in six.addresses]
    assert kinds == ["tcp", "tcp", "unix", "udp", "udp", "unixgram"]
    families = []
    for index in range(6):
        sock = client(index)
        families.append((sock.family, sock.type))
        sock.sendall(b"hello\n")
        assert sock.recv(100) == b"HELLO\n", six.addresses[index]
    assert len(set(families)) == 6


def test_a_stream_has_no_boundaries_and_loses_nothing(six, client, read_exactly):
    for index in range(3):
        sock = client(index)
        for piece in (b"on", b"e\ntwo\nth", b"ree", b"\n"):
            sock.sendall(piece)
        assert read_exactly(sock, 14) == b"ONE\nTWO\nTHREE\n"


@pytest.mark.parametrize("index", [3, 4, 5])
def test_a_datagram_is_one_frame_and_gets_one_answer(client, index):
    sock = client(index)
    for datagram in (b"one\ntwo\n", b"", b"no newline", b"x"):
        sock.send(datagram)
        assert sock.recv(MAX_DATAGRAM) == datagram.upper()
    sock.send(b"first")
    sock.send(b"second")
    assert [sock.recv(100), sock.recv(100)] == [b"FIRST", b"SECOND"]


@pytest.mark.parametrize("index", [3, 4, 5])
def test_the_longest_datagram_comes_back_whole(client, index):
    sock = client(index)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.send(b"a" * MAX_DATAGRAM)
    assert sock.recv(1 << 17) == b"A" * MAX_DATAGRAM


def test_a_sender_without_a_name_is_not_answered_and_harms_nobody(six, client):
    nameless = six.connect(5)
    nameless.send(b"to whom")
    named = client(5)
    named.send(b"to me")
    assert named.recv(100) == b"TO ME"
    nameless.setblocking(False)
    with pytest.raises(BlockingIOError):
        nameless.recv(100)


def test_one_wildcard_serves_both_families(daemon):
    if not has_ipv6():
        pytest.skip("this host has no ::1")
    one = daemon("tcp://:0=upper")
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, one.port()), timeout=10) as sock:
            sock.sendall(b"either\n")
            assert sock.recv(100) == b"EITHER\n"
