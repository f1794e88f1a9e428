# SPDX-License-Identifier: MIT
"""`sockctl trace` on one connection that sends 200,000 lines a second: what it takes from the others.

Turns of a table in this process, each with a line of 64 others and with what such a connection sends meanwhile, over
TCP: their processor time with a trace and without one, in pairs that follow each other.  The lower quartile says what
they cost where nothing else disturbed them, so that it can be measured beside other tests.

Seen failing, before a traced connection had events of its own: 0.88 of their rate at a function, 0.43 in the C core.
"""

from __future__ import annotations

import socket
import statistics
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from sockd.daemon.control.tracing import INTERVALS_PER_SECOND, Trace, Tracer, TraceSubject
from sockd.net.connection.codec import make_codec
from sockd.net.connection.events import ConnectionEvents
from sockd.net.connection.group import GroupOptions
from sockd.net.connection.table import ConnectionTable
from sockd.services.handlers.function import function_sink
from sockd.services.kinds import CODE, BuiltinKind, FunctionKind
from sockd.wire.framing import Line

LEAST_SHARE = 0.97
OTHERS, FLOOD = 64, 60
"""Lines in a turn: 64 take 0.3 ms, in which a connection with 200,000 a second sends 60."""
TURNS_A_TICK = 300
PAIRS = 12
LINE = b"a line of 32 bytes, its end too\n"


class House:
    """A table with one group of 65 connections, and a tracer."""

    def __init__(self, kind, stack):
        self.table = table = ConnectionTable(size=OTHERS + 1, memory=1 << 26, epoll=True)
        stack.callback(table.close)
        times = {"idle_timeout": 900, "frame_timeout": 60, "write_timeout": 60, "linger_timeout": 0}
        options = {"framing": Line(1000), "merge": True, "announce": False, "high_water": 1 << 20}
        core = CODE["upper"].number if kind == "core" else 0
        if core:
            sink = ConnectionEvents()
            sink.core = core
        else:
            sink = function_sink("own", bytes.upper, make_codec(Line(1000), table, wire=False), table)
        self.sink = sink
        self.group = table.groups.add(GroupOptions(**options, serve=core, max_buffer=1 << 20, **times), sink)
        self.peers, self.ids = [], []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            for _ in range(OTHERS + 1):
                peer = stack.enter_context(socket.create_connection(listening.getsockname()))
                own, _ = listening.accept()
                for sock in (peer, own):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                own.setblocking(False)
                self.peers.append(peer)
                self.ids.append(table.add(own, self.group))
        self.ticks = []
        kinds = {"core": BuiltinKind(CODE["upper"]), "function": FunctionKind(bytes.upper)}
        spec = SimpleNamespace(kind=kinds[kind], name="own", framing=Line(1000))
        listener = SimpleNamespace(groups=[self.group])
        served = SimpleNamespace(run=SimpleNamespace(spec=spec), listener=listener)
        at_once = {
            "guarded": lambda step, _failed: step,
            "attempt": lambda step: step(),
            "call_soon": lambda step: step(),
        }
        loop = SimpleNamespace(call_later=self._later, clock=time.monotonic, **at_once)
        tools = SimpleNamespace(connections=table, loop=loop)
        serving = SimpleNamespace(tools=tools, every=lambda: [served], service=lambda _group: "own")
        self.loop, self.tracer = loop, Tracer(serving)

    def _later(self, _seconds, callback):
        self.ticks.append(callback)
        return SimpleNamespace(cancel=lambda: None)

    def turn(self):
        """Answer a line of each of the others, and those of the first one; return the processor time."""
        self.peers[0].sendall(LINE * FLOOD)
        for peer in self.peers[1:]:
            peer.sendall(LINE)
        left = [FLOOD * len(LINE), *[len(LINE)] * OTHERS]
        spent = 0
        while any(left):
            began = time.thread_time_ns()
            self.table.wait(1000)
            self.table.dispatch()
            self.table.reap_closed()
            spent += time.thread_time_ns() - began
            for number, peer in enumerate(self.peers):
                while left[number]:
                    try:
                        left[number] -= len(peer.recv(1 << 16, socket.MSG_DONTWAIT))
                    except BlockingIOError:
                        break
        return spent

    def interval(self, is_on):
        """The processor time of each turn between two ticks of a trace, or without one."""
        trace = Trace(TraceSubject(connection=self.ids[0]), 200, 256, lambda _records, _left_out: None, self.loop)
        if is_on:
            self.tracer.add(trace)
        times = [self.turn() for _ in range(TURNS_A_TICK // INTERVALS_PER_SECOND)]
        self.tracer.remove(trace)
        return times


@pytest.fixture(params=["function", "core"])
def house(request):
    with ExitStack() as stack:
        yield House(request.param, stack)


def test_others_keep_their_rate(house):
    times = {False: [], True: []}
    for number in range(2 * PAIRS):
        for is_on in (False, True) if number % 2 == 0 else (True, False):
            times[is_on] += house.interval(is_on)
    without, traced = (statistics.quantiles(times[is_on], n=4)[0] for is_on in (False, True))
    assert without / traced >= LEAST_SHARE, f"{without / 1000:.0f} us without a trace, {traced / 1000:.0f} with one"


def test_nothing_is_left_of_a_trace(house):
    trace = Trace(TraceSubject(connection=house.ids[0]), 200, 256, lambda _records, _left_out: None, house.loop)
    house.tracer.add(trace)
    house.turn()
    house.tracer.remove(trace)
    assert type(house.table) is ConnectionTable
    assert house.table.groups.sinks[house.group] is house.sink
    assert house.tracer.ignored == set()
