# SPDX-License-Identifier: MIT
"""Addresses of both ends of a connection, in every form that the kernel has.

Seen to fail: with text alone taken for the name of a Unix socket.
"""

from __future__ import annotations

import socket

import pytest

from sockd.net.address.sockaddr import UNKNOWN, SocketAddress

NAMES = {
    ("127.0.0.1", 7): "tcp://127.0.0.1:7",
    ("::1", 7, 0, 0): "tcp://[::1]:7",
    ("fe80::1", 7, 5, 1): "tcp://[fe80::1%lo]:7",
    ("::ffff:192.0.2.7", 7, 0, 0): "tcp://192.0.2.7:7",
    "/run/s": "unix:/run/s",
    "": "unix:",
    b"\0client": "unix:@client",
    b"\0a\0b\xff\n": "unix:@a\\x00b\\udcff\\n",
    "/caf\udce9": "unix:/caf\\udce9",
    None: "unknown",
}


@pytest.mark.parametrize(("name", "text"), NAMES.items(), ids=map(str, NAMES.values()))
def test_what_the_socket_module_names_comes_back(name, text):
    address = SocketAddress.from_sockaddr(name)
    assert address.sockaddr == name
    assert str(address) == text
    packed = address.packed()
    if isinstance(name, tuple):
        assert SocketAddress.unpack(packed) == address
        assert (address.host, address.port) == name[:2]
    else:
        assert (packed, address.host, address.port) == (b"", "", 0)


def test_a_scope_in_the_host_is_told_by_its_number_alone():
    assert SocketAddress.from_sockaddr(("fe80::1%lo", 7, 0, 1)) == SocketAddress.from_sockaddr(("fe80::1", 7, 0, 1))


@pytest.mark.parametrize("packed", [b"", bytes(16), bytes(28)])
def test_nothing_is_nobody(packed):
    assert SocketAddress.unpack(packed) is UNKNOWN


@pytest.mark.parametrize(
    ("host", "sockaddr"),
    [
        ("192.0.2.7", ("192.0.2.7", 9)),
        ("2001:DB8:0::7", ("2001:db8::7", 9, 0, 0)),
        ("fe80::1%1", ("fe80::1", 9, 0, 1)),
        ("fe80::1%lo", ("fe80::1", 9, 0, 1)),
        ("::ffff:192.0.2.7", ("::ffff:192.0.2.7", 9, 0, 0)),
    ],
)
def test_what_is_told_in_text(host, sockaddr):
    assert SocketAddress.parse(host, 9).sockaddr == sockaddr


@pytest.mark.parametrize("host", ["", "localhost", "1.2.3", "fe80::1%nosuch", "::g", "1.2.3.4%1"])
def test_what_is_no_address(host):
    with pytest.raises((OSError, ValueError)):
        SocketAddress.parse(host, 9)


def test_the_kernel_is_asked_once_it_knows(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.bind(b"\0sockd-test-%d" % id(client))
        client.connect(str(tmp_path / "s"))
        accepted, _ = server.accept()
        with accepted:
            assert SocketAddress.query_peer(accepted.fileno()).name == b"\0sockd-test-%d" % id(client)
            assert accepted.fileno() >= 0
    with socket.socket() as alone:
        assert SocketAddress.query_peer(alone.fileno()) is UNKNOWN


def test_names_as_people_write_them():
    assert SocketAddress.from_sockaddr(b"\0a\0b").unix_name == "@a@b"
    assert SocketAddress.from_sockaddr("/run/s").unix_name == "/run/s"
    assert SocketAddress.from_sockaddr(("::1", 1, 0, 0)).unix_name == ""
