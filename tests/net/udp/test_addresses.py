# SPDX-License-Identifier: MIT
from __future__ import annotations

import socket

import pytest

from sockd.net.udp.addresses import asked_address, request_pktinfo
from sockd.net.udp.table import DatagramTable


@pytest.mark.parametrize(
    ("family", "host", "told"),
    [
        (socket.AF_INET, "0.0.0.0", True),
        (socket.AF_INET, "127.0.0.1", False),
        (socket.AF_INET6, "::", True),
        (socket.AF_INET6, "::1", False),
    ],
)
def test_only_a_socket_of_every_address_is_told(family, host, told):
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        assert request_pktinfo(sock) is told


def test_a_unix_socket_is_not():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        assert not request_pktinfo(sock)


@pytest.mark.parametrize(
    ("family", "every", "asked"), [(socket.AF_INET, "0.0.0.0", "127.0.0.77"), (socket.AF_INET6, "::", "::1")]
)
def test_the_address_that_was_asked(family, every, asked):
    """How control data becomes that of an answer, csrc/tests/test_datagrams.c tests."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock, socket.socket(family, socket.SOCK_DGRAM) as client:
        sock.bind((every, 0))
        table = DatagramTable(sock, reports_pktinfo=request_pktinfo(sock))
        client.sendto(b"x", (asked, sock.getsockname()[1]))
        assert table.receive(1) == 1
        assert asked_address(table.look(0).control) == asked


@pytest.mark.parametrize("control", [b"", b"short", bytes(40), bytes(400)])
def test_where_it_is_not_reported_there_is_none(control):
    assert asked_address(control) == ""
