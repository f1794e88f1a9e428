# SPDX-License-Identifier: MIT
"""Frames shown to an observer: what it costs those that nobody watches, and that nothing is left of it.

Seen failing: with a watched connection that is merged with others, all of these are cut and answered one by one.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from sockd.net.connection.events import ConnectionEvents
from sockd.net.connection.group import GroupOptions
from sockd.net.connection.table import ConnectionTable
from sockd.net.connection.tapped import TappedEvents, tap, untap
from sockd.net.connection.write_buffer import WriteBuffer
from sockd.wire.framing import Line


class Sink(ConnectionEvents):
    """Keeps who sent what, event by event."""

    def __init__(self, table):
        self.table = table
        self.events = []

    def frames(self, index, id, part, offset, size, count):
        parts = [(id, count)] if id >= 0 else list(self.table.turn.parts(part, count))
        self.events.append([one for one, _ in parts])
        assert not self.table.parts or self.table.parts == [(id, count, size)]


class Ended:
    """A connection that was aborted in the turn in which something was written to it."""

    id = 12345
    has_more = False

    def __init__(self):
        self.outbox = WriteBuffer()
        self.outbox.is_listed = True


class Watcher:
    """Watches one connection."""

    is_apart = True

    def __init__(self, id):
        self.id = id
        self.ignored = set()
        self.seen = []
        self.asked = 0

    def room(self, id):
        self.asked += 1
        return 1 if id == self.id else -1

    def show(self, id, direction, data, size):
        self.seen.append((id, direction, data))

    def leave_out(self, id, frames):
        self.seen.append((id, frames))

    def rest(self, id, frames):
        pass

    def forget(self, id):
        pass


@pytest.fixture
def house():
    """A table with a group, its sink, and three peers with their connections."""
    with ExitStack() as stack:
        table = ConnectionTable(size=10, memory=1 << 20, epoll=True)
        stack.callback(table.close)
        sink = Sink(table)
        times = {"idle_timeout": 900, "frame_timeout": 60, "write_timeout": 60, "linger_timeout": 0}
        options = {"framing": Line(100), "serve": 0, "merge": True, "announce": False, "high_water": 65_536}
        group = table.groups.add(GroupOptions(**options, max_buffer=1 << 20, **times), sink)
        pairs = [socket.socketpair() for _ in range(3)]
        peers = [stack.enter_context(peer) for peer, _ in pairs]
        ids = []
        for _, own in pairs:
            own.setblocking(False)
            ids.append(table.add(own, group))
        yield table, sink, group, peers, ids


def turn(table, peers):
    for peer in peers:
        peer.sendall(b"x\n")
    table.wait(1000)
    table.dispatch()
    table.reap_closed()


def test_who_is_not_watched_is_served_as_before(house):
    table, sink, group, peers, ids = house
    turn(table, peers)
    assert list(map(sorted, sink.events)) == [sorted(ids)]  # all in one event
    watcher = Watcher(ids[1])
    tapped = tap(table, watcher)
    table.groups.sinks[group] = TappedEvents(sink, tapped, Line(100))
    table.groups.set_apart(ids[1], True)
    sink.events.clear()
    turn(table, peers)
    assert [ids[1]] in sink.events
    assert sorted(one for event in sink.events if event != [ids[1]] for one in event) == sorted([ids[0], ids[2]])
    assert watcher.seen == [(ids[1], "in", b"x")]
    assert watcher.asked <= 3


def test_nothing_is_left_of_it(house):
    table, sink, group, peers, ids = house
    tapped = tap(table, Watcher(ids[1]))
    table.groups.sinks[group] = TappedEvents(sink, tapped, Line(100))
    table.groups.set_apart(ids[1], True)
    turn(table, peers)
    table.groups.set_apart(ids[1], False)
    untap(table)
    sink.events.clear()
    turn(table, peers)
    assert type(table) is ConnectionTable
    assert table.groups.sinks[group] is sink
    assert list(map(sorted, sink.events)) == [sorted(ids)]


def test_a_connection_that_has_ended_is_asked_about_no_more(house):
    """Seen failing: it was, and a trace keeps what it is asked about until it is told of its end."""
    table, _, _, _, ids = house
    watcher = Watcher(ids[1])
    tap(table, watcher)
    writer = Ended()
    table.will_write(writer)
    table.flush()
    assert (watcher.asked, writer.outbox.is_listed) == (0, False)
