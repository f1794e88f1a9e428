# SPDX-License-Identifier: MIT
# Seen failing against a daemon whose Connection.write() sends at once instead of gathering (50 segments), and one whose
# upper answers a line at a time (100 segments).
"""FAQ II.11: a reply, and all replies to one batch, leave in one send; small writes are gathered."""

from __future__ import annotations

import socket
import struct

import pytest

LINES = 100
APP = """
def small(line, connection):
    for byte in line:
        connection.write(bytes([byte]))
    connection.write(b"\\n")

def answer(line):
    return line.upper()
"""
DATA_SEGMENTS_IN_AT = 152  # tcpi_data_segs_in of linux/tcp.h


def data_segments(sock):
    """Count the segments with data that this end has received."""
    return struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), DATA_SEGMENTS_IN_AT)[0]


@pytest.mark.parametrize("service", ["upper", "app:answer"])
def test_the_replies_to_a_batch_leave_in_one_segment(daemon, read_exactly, service):
    client = daemon(f"tcp://127.0.0.1:0={service}", app=APP).connect()
    client.sendall(b"hello\n" * LINES)
    assert read_exactly(client, 6 * LINES) == b"HELLO\n" * LINES
    assert data_segments(client) == 1


def test_small_writes_of_a_handler_are_gathered(daemon, read_exactly):
    client = daemon("tcp://127.0.0.1:0=app:small", app=APP).connect()
    client.sendall(b"x" * 49 + b"\n")
    assert read_exactly(client, 50) == b"x" * 49 + b"\n"
    assert data_segments(client) == 1


def test_nothing_is_held_back_for_more(daemon):
    """Gathering costs no time: the answer leaves in the turn in which its line came."""
    client = daemon("tcp://127.0.0.1:0=app:answer", app=APP).connect()
    for count in range(1, 21):
        client.sendall(b"hello\n")
        assert client.recv(100) == b"HELLO\n"
        assert data_segments(client) == count
