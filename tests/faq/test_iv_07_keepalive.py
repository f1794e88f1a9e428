# SPDX-License-Identifier: MIT
# Seen failing against a daemon that sets SO_KEEPALIVE and leaves the timers to the system (7200, 75, 9).
"""FAQ IV.7: SO_KEEPALIVE with timers per connection, read back; what they do is II.8."""

from __future__ import annotations

import socket

import pytest

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="this system has no TCP_KEEPIDLE")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "tcp://[::1]:0"])
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", (120, 30, 4)),
        ('keepalive = { idle = "5m", interval = "7s", count = 3 }', (300, 7, 3)),
        ("keepalive = { idle = 0.5e1 }", (5, 30, 4)),
    ],
)
def test_the_timers_are_read_back(daemon, sockets_of, address, line, wanted):
    one = daemon(toml=f'[[listen]]\naddress = "{address}"\nservice = "upper"\n{line}\n')
    client = one.connect()
    client.sendall(b"x\n")
    assert client.recv(10) == b"X\n"
    sockets = sockets_of(one)
    assert len(sockets) == 2  # the listener and the connection, which inherits
    for sock in sockets:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        numbers = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert tuple(sock.getsockopt(socket.IPPROTO_TCP, number) for number in numbers) == wanted


def test_it_can_be_switched_off(daemon, sockets_of):
    one = daemon(toml='[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\nkeepalive = { on = false }\n')
    client = one.connect()
    client.sendall(b"x\n")
    assert client.recv(10) == b"X\n"
    assert [sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for sock in sockets_of(one)] == [0, 0]


def test_probes_are_sent_to_an_idle_peer_which_stays(daemon, wire):
    """After one second of silence a segment without data, and its acknowledgement; the connection lives on."""
    keepalive = "keepalive = { idle = 1, interval = 1, count = 2 }"
    one = daemon(toml=f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n{keepalive}\n')
    client = one.connect()
    client.sendall(b"x\n")
    assert client.recv(10) == b"X\n"
    take = wire(one.port())
    probes = []
    while not probes:  # take() waits for a while each time; the test's own time-out bounds it
        probes = [segment for segment in take() if segment.source == one.port() and segment.size == 0]
    client.sendall(b"y\n")
    assert client.recv(10) == b"Y\n"
