# SPDX-License-Identifier: MIT
"""Rows that come from another process: what one wrote goes on, what none would write is refused."""

import os
import socket

import msgspec
import pytest

from sockd._sockbuf import ffi, lib
from sockd.net.address.sockaddr import SocketAddress
from sockd.net.connection import transfer
from sockd.net.connection.events import ConnectionEvents
from sockd.net.connection.group import GroupOptions
from sockd.net.connection.table import ConnectionTable
from sockd.wire.framing import Line


class Frames(ConnectionEvents):
    def __init__(self, connections):
        self.connections = connections
        self.blocks = []

    def frames(self, index, id, part, offset, size, count):
        self.blocks.append(self.connections.block(offset, size))


@pytest.fixture
def house():
    made = []

    def make():
        connections = ConnectionTable(size=4, memory=1 << 20, epoll=True)
        made.append(connections)
        sink = Frames(connections)
        group = GroupOptions(
            framing=Line(100), serve=0, merge=False, announce=False, high_water=1 << 16, max_buffer=1 << 20,
            idle_timeout=60, frame_timeout=60, write_timeout=60, linger_timeout=0,
        )  # fmt: skip
        assert connections.groups.add(group, sink) == 0
        return connections, sink

    yield make
    for connections in made:
        connections.close()


@pytest.fixture
def row(house):
    connections, _ = house()
    near, far = socket.socketpair()
    near.setblocking(False)
    with far:
        id = connections.add(near, 0)
        connections.peers.name(id, SocketAddress.parse("::1", 4242))
        far.send(b"one\npart")
        assert connections.wait(1000) == 1
        connections.dispatch()
        yield transfer.export(connections, id, 0, None)


def other_end(connections, row):
    near, far = socket.socketpair()
    near.setblocking(False)
    fd = near.detach()
    id = transfer.import_row(connections, row, fd, 0)
    if id is None:
        os.close(fd)
    return id, far


def test_a_row_goes_on(house, row):
    connections, sink = house()
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=transfer.ConnectionState)
    id, far = other_end(connections, told)
    with far:
        assert connections.peers.find(id) == row.peer == SocketAddress.parse("::1", 4242)
        far.send(b"ed\n")
        for _ in range(10):
            connections.wait(0)
            connections.dispatch()
        assert sink.blocks == [b"parted\n"]


def test_numbers_of_another_version_are_left_out(house, row):
    connections, _ = house()
    id, far = other_end(connections, msgspec.structs.replace(row, numbers=row.numbers | {"colour": 1}))
    with far:
        assert id is not None
    some = {name: number for name, number in row.numbers.items() if name != "frames"}
    id, far = other_end(connections, msgspec.structs.replace(row, numbers=some))
    with far:
        assert connections.info(id).frames == 0


WRONG = [
    SocketAddress(socket.AF_INET, "::1", 1),
    SocketAddress(socket.AF_INET6, "127.0.0.1", 1),
    SocketAddress(socket.AF_INET, "x" * 1000, 1),
    SocketAddress(socket.AF_INET, "127.0.0.1\0", 1),
    SocketAddress(socket.AF_INET, "127.0.0.1", 65_536),
    SocketAddress(socket.AF_INET, "127.0.0.1", -1),
    SocketAddress(socket.AF_INET6, "::1", 1, 1 << 32),
    SocketAddress(socket.AF_INET6, "::1", 1, 0, -1),
]


@pytest.mark.parametrize("peer", WRONG, ids=repr)
def test_a_peer_that_is_none_is_refused(house, row, peer):
    connections, _ = house()
    id, far = other_end(connections, msgspec.structs.replace(row, peer=peer))
    far.close()
    assert id is None
    assert len(connections) == 0


@pytest.mark.parametrize("size", [1, 15, 16, 17, 27, 29, 32, 33, 100, 256, 1 << 31])
def test_a_name_of_no_size_that_a_name_has_is_refused(house, row, size):
    connections, _ = house()
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        peer = row.peer.packed()
        moved = ffi.new("sb_moved *", {"peer_size": size})
        ffi.memmove(moved.peer, peer, len(peer))
        code = lib.sb_mux_import(connections.handle, near.fileno(), 0, moved, ffi.NULL, ffi.NULL)
        assert code == lib.SB_ERR_INVALID
    assert len(connections) == 0


@pytest.mark.parametrize("number", [-1, -(2**63), 2**63 - 1, 2**63, 2**64, -(2**64)])
@pytest.mark.parametrize("name", transfer.NUMBERS)
def test_a_number_that_cannot_be_is_refused(house, row, name, number):
    connections, _ = house()
    id, far = other_end(connections, msgspec.structs.replace(row, numbers=row.numbers | {name: number}))
    far.close()
    assert id is None
    assert connections.memory == 0
