# SPDX-License-Identifier: MIT
from __future__ import annotations

import socket
import struct

import pytest

from sockd.net.udp.pktinfo import IP_PKTINFO, answer_from, request_pktinfo

IPV6 = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)


def packed(host, interface):
    return struct.pack("=16sI", socket.inet_pton(socket.AF_INET6, host), interface)


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


def test_ipv4_answers_from_the_local_address_by_any_interface():
    local, written = socket.inet_aton("127.0.0.77"), socket.inet_aton("127.255.255.255")
    accepted = [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i", 3) + local + written)]
    assert answer_from(accepted) == [(socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + local + bytes(4))]


@pytest.mark.parametrize(
    ("host", "interface"),
    [("2001:db8::1", 0), ("::ffff:127.0.0.77", 0), ("fe80::1", 3), ("febf::1", 3), ("fec0::1", 0)],
)
def test_ipv6_keeps_the_interface_of_a_link_local_address(host, interface):
    assert answer_from([(*IPV6, packed(host, 3))]) == [(*IPV6, packed(host, interface))]


@pytest.mark.parametrize("accepted", [[], [(*IPV6, packed("ff02::1", 3))], [(*IPV6, b"short")], [(1, 2, bytes(20))]])
def test_everything_else_is_left_to_the_kernel(accepted):
    assert answer_from(accepted) == []
