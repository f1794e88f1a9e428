"""Rows that come from another process: what one wrote goes on, what none would write is refused."""

import os
import socket

import msgspec
import pytest

from sockd.net import moving, packed
from sockd.net.connection_set import ConnectionSet, Group
from sockd.net.sink import Sink
from sockd.wire.framing import Line


class Frames(Sink):
    def __init__(self, connections):
        self.connections = connections
        self.blocks = []

    def frames(self, index, id, part, offset, size, count):
        self.blocks.append(self.connections.block(offset, size))


@pytest.fixture
def house():
    made = []

    def make():
        connections = ConnectionSet(size=4, memory=1 << 20, epoll=True)
        made.append(connections)
        sink = Frames(connections)
        group = Group(
            framing=Line(100), serve=0, merge=False, announce=False, high_water=1 << 16, max_buffer=1 << 20,
            idle_timeout=60, frame_timeout=60, write_timeout=60, linger_timeout=0,
        )  # fmt: skip
        assert connections.add_group(group, sink) == 0
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
        connections.name_peer(id, packed.pack("::1", 4242))
        far.send(b"one\npart")
        assert connections.wait(1000) == 1
        connections.dispatch()
        yield moving.export(connections, id, 0, None)


def other_end(connections, row):
    near, far = socket.socketpair()
    near.setblocking(False)
    fd = near.detach()
    id = moving.take(connections, row, fd, 0)
    if id is None:
        os.close(fd)
    return id, far


def test_a_row_goes_on(house, row):
    connections, sink = house()
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=moving.Row)
    id, far = other_end(connections, told)
    with far:
        assert connections.info(id).peer == row.peer
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


@pytest.mark.parametrize("size", [1, 15, 17, 27, 29, 32, 33, 100, 256, 1 << 20])
def test_a_peer_of_no_size_that_a_name_has_is_refused(house, row, size):
    connections, _ = house()
    id, far = other_end(connections, msgspec.structs.replace(row, peer=(row.peer * 40_000)[:size]))
    far.close()
    assert id is None
    assert len(connections) == 0


def test_a_name_of_another_size_than_its_family_has_is_refused(house, row):
    connections, _ = house()
    for peer in (row.peer[:16], packed.pack("127.0.0.1", 1) + bytes(12), bytes(16), bytes(28)):
        id, far = other_end(connections, msgspec.structs.replace(row, peer=peer))
        far.close()
        assert id is None


@pytest.mark.parametrize("number", [-1, -(2**63), 2**63 - 1, 2**63, 2**64, -(2**64)])
@pytest.mark.parametrize("name", moving.NUMBERS)
def test_a_number_that_cannot_be_is_refused(house, row, name, number):
    connections, _ = house()
    id, far = other_end(connections, msgspec.structs.replace(row, numbers=row.numbers | {name: number}))
    far.close()
    assert id is None
    assert connections.memory == 0
