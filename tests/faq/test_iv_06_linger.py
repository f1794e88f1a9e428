# SPDX-License-Identifier: MIT
# Seen failing against a daemon whose connections have SO_LINGER of 0 seconds, and one whose abort() closes in order.
"""FAQ IV.6: an abort (RST) happens when it is asked for, and only then."""

from __future__ import annotations

import socket
import struct

import pytest

RST = 4
FIN = 1
APP = """
import sockd

def close(line):
    raise sockd.Close(b"x" * 1000)

def abort(line, connection):
    connection.write(b"dropped")
    connection.abort()
"""


def test_every_orderly_end_is_without_rst(daemon, wire, read_to_end):
    one = daemon("tcp://127.0.0.1:0=app:close", "tcp://127.0.0.1:0=upper", app=APP)
    takes = [wire(one.port(index)) for index in range(2)]
    for _ in range(10):
        sent_away = one.connect()
        sent_away.sendall(b"close\n")
        assert len(read_to_end(sent_away)) == 1001
        sent_away.close()
        leaves = one.connect(1)
        leaves.sendall(b"hello\n")
        assert leaves.recv(100) == b"HELLO\n"
        leaves.close()
    one.wait_for("closed", count=20)
    assert one.stop() == 0
    segments = [segment for take in takes for segment in take()]
    assert len({segment[:2] for segment in segments if segment.flags & FIN}) == 40  # one may be sent twice
    assert [segment for segment in segments if segment.flags & RST] == []


def test_an_abort_is_one_rst_and_drops_what_was_written(daemon, wire, name_of):
    one = daemon("tcp://127.0.0.1:0=app:abort", app=APP)
    take = wire(one.port())
    client = one.connect()
    peer = name_of(client)
    client.sendall(b"now\n")
    with pytest.raises(ConnectionResetError):
        client.recv(100)
    one.closed("aborted", peer=peer)
    ends = [segment for segment in take() if segment.flags & (RST | FIN)]
    assert [(segment.source, bool(segment.flags & RST)) for segment in ends] == [(one.port(), True)]


def test_whom_a_limit_resets_gets_rst(daemon):
    """at_limit = "reset" asks for it."""
    toml = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\nmax_connections = 1\nat_limit = "reset"\n'
    one = daemon(toml=toml)
    first = one.connect()
    first.sendall(b"hello\n")
    assert first.recv(100) == b"HELLO\n"
    with pytest.raises(ConnectionResetError):  # by connect() or by recv(), whichever comes later
        one.connect().recv(100)


@pytest.mark.parametrize(("line", "wanted"), [("", (0, 0)), ('linger = "3s"', (1, 3))])
def test_it_is_read_back(daemon, sockets_of, line, wanted):
    one = daemon(toml=f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n{line}\n')
    client = one.connect()
    client.sendall(b"x\n")
    assert client.recv(10) == b"X\n"
    found = [
        struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.calcsize("ii")))
        for sock in sockets_of(one)
    ]
    assert found == [wanted] * 2  # the listener's and the connection's
