# SPDX-License-Identifier: MIT
# Seen failing against a daemon that leaves TCP_NODELAY to the kernel.
"""FAQ II.16: TCP_NODELAY is an option per listener, on by default."""

from __future__ import annotations

import socket

import pytest


@pytest.mark.parametrize(("line", "wanted"), [("", 1), ("nodelay = true", 1), ("nodelay = false", 0)])
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "tcp://[::1]:0"])
def test_it_is_read_back_from_an_accepted_connection(daemon, sockets_of, address, line, wanted):
    one = daemon(toml=f'[[listen]]\naddress = "{address}"\nservice = "upper"\n{line}\n')
    client = one.connect()
    client.sendall(b"x\n")
    assert client.recv(10) == b"X\n"
    accepted = [sock for sock in sockets_of(one) if peer_of(sock) == client.getsockname()]
    assert len(accepted) == 1
    assert bool(accepted[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) == bool(wanted)


def peer_of(sock):
    try:
        return sock.getpeername()
    except OSError:
        return None
