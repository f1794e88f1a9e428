# SPDX-License-Identifier: MIT
"""Drain and shutdown in-process, on a clock that the test moves: each deadline, and each way to be done before it."""

from __future__ import annotations

import socket

import pytest
from in_process import FakeClock

from sockd.daemon.drain import MAX_LOGGED, Drain, DrainState
from sockd.daemon.shutdown import ServingState
from sockd.errors import TemporaryFault
from sockd.net.connection.info import ConnectionFilter
from sockd.net.loop.loop import EventLoop
from sockd.net.loop.turns import PAUSE_SECONDS
from sockd.wire.close_reason import CloseReason

SECONDS = 10.0


class FakeInfo:
    group = 1
    input_pending_bytes = 0
    output_pending_bytes = 0
    elapsed = 1.0


class FakeSink:
    """Who is busy with a connection, and what it was told."""

    def __init__(self) -> None:
        self.busy: set[int] = set()
        self.stopped: list[tuple[int, bool]] = []

    def is_busy(self, id: int) -> bool:
        return id in self.busy

    def stop(self, id: int, *, now: bool) -> None:
        self.stopped.append((id, now))


class FakeTable:
    """Connections by their state: quiet, in the middle of something, or closing; the output of some is stuck."""

    def __init__(self) -> None:
        self.groups = self
        self.quiet: set[int] = set()
        self.middle: set[int] = set()
        self.closing: set[int] = set()
        self.stuck: set[int] = set()
        self.told: list[tuple[str, int]] = []
        self.peers = self
        self.sinks = FakeSink()

    def ids(self, which: ConnectionFilter, _group: int) -> list[int]:
        open_ones = self.quiet | self.middle
        found = {
            ConnectionFilter.QUIET: self.quiet,
            ConnectionFilter.OPEN: open_ones,
            ConnectionFilter.LIVE: open_ones | self.closing,
        }
        return sorted(found[which])

    @property
    def tls(self) -> FakeTable:
        return self

    def is_shaking(self, _id: int) -> bool:
        return False

    def find(self, id: int, _info: object) -> str:
        return f"peer {id}"

    def info(self, _id: int) -> FakeInfo:
        return FakeInfo()

    def sink(self, _group: int) -> FakeSink:
        return self.sinks

    def flush(self) -> None:
        pass

    def write(self, id: int, data: bytes) -> None:
        self.told.append((data.decode(), id))

    def shut(self, id: int, reason: CloseReason) -> None:
        assert reason is CloseReason.SHUTDOWN
        self.told.append(("shut", id))
        self.quiet.discard(id)
        self.middle.discard(id)
        self.closing.add(id)

    def abort(self, id: int, reason: CloseReason) -> None:
        assert reason is CloseReason.SHUTDOWN
        self.told.append(("abort", id))
        self.closing.discard(id)
        self.middle.discard(id)

    def output_pending_bytes(self, id: int) -> int:
        return int(id in self.stuck)


class FakeSelector:
    """Nothing is ever ready."""

    def __init__(self) -> None:
        self._map: dict[int, object] = {}

    def register(self, fd, events, data):
        self._map[fd] = data

    def unregister(self, fd):
        del self._map[fd]

    def get_map(self):
        return self._map

    def select(self, timeout):
        return []


class Case:
    """A drain of such a table."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.loop = EventLoop(FakeSelector(), self.clock)
        self.table = FakeTable()
        self.done: list[float] = []
        self.drain = Drain(self.table, self.loop, None, self, SECONDS, lambda: self.done.append(self.clock.now))

    def goodbye(self, _group: int) -> bytes:
        return b"bye"

    def service(self, _group: int) -> str:
        return "lines"

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.loop.run_once(0)

    @property
    def sleeps(self) -> bool:
        """Whether nothing is to be done before a deadline."""
        due = [when for when, _, timer in self.loop._timers if timer.callback is not None]
        return not self.loop.is_busy and min(due, default=1e9) - self.clock.now > 1


@pytest.fixture
def case():
    one = Case()
    yield one
    one.loop.close()


def test_where_there_is_nobody_it_is_done_at_once(case):
    case.drain.start()
    assert case.done == [1000.0]
    assert case.drain.state is DrainState.DONE


def test_who_is_quiet_is_told_goodbye_and_awaited(case):
    case.table.quiet = {1, 2}
    case.drain.start()
    assert case.table.told == [("bye", 1), ("shut", 1), ("bye", 2), ("shut", 2)]
    assert case.drain.state is DrainState.FLUSHING
    case.pass_time(1)
    case.table.closing = {2}
    case.pass_time(1)
    assert case.done == []
    case.table.closing = set()
    case.pass_time(1)
    assert case.done == [1003.0]
    assert case.drain.left == 0


def test_who_is_in_the_middle_has_half_of_the_time(case, caplog):
    case.table.middle = {7}
    case.drain.start()
    case.pass_time(4.9)
    assert case.drain.state is DrainState.FINISHING
    assert caplog.messages == []
    case.pass_time(0.2)
    assert caplog.messages == ["connection closed before it finished"]
    assert case.table.told == [("bye", 7), ("shut", 7)]
    assert case.drain.state is DrainState.FLUSHING


def test_whose_output_is_not_taken_has_the_other_half(case, caplog):
    case.table.quiet, case.table.stuck = {7}, {7}
    case.drain.start()
    case.pass_time(9.9)
    assert case.done == []
    case.pass_time(0.2)
    assert len(case.done) == 1
    assert case.table.told[-1] == ("abort", 7)
    assert case.drain.left == 1
    assert caplog.messages == ["connection closed before it finished"]


def test_who_does_not_close_is_left_without_a_word(case, caplog):
    """Its output is with the kernel: only its own end is missing."""
    case.table.quiet = {7}
    case.drain.start()
    case.pass_time(SECONDS)
    assert case.done == [1010.0]
    assert case.drain.left == 1
    assert caplog.messages == []


def test_who_is_at_work_is_asked_and_then_told(case):
    case.table.middle = {7}
    case.table.sinks.busy = {7}
    case.drain.start()
    assert case.table.sinks.stopped == [(7, False)]
    case.pass_time(SECONDS / 2)
    assert (7, True) in case.table.sinks.stopped
    assert case.table.told == []  # its own end closes it
    case.table.middle.clear()
    case.pass_time(0.1)
    assert len(case.done) == 1


def test_only_so_many_are_named(case, caplog):
    case.table.middle = set(range(MAX_LOGGED + 5))
    case.drain.start()
    case.pass_time(SECONDS / 2)
    assert caplog.messages == ["connection closed before it finished"] * MAX_LOGGED + [
        "more connections closed before they finished"
    ]


def test_while_nobody_does_anything_it_sleeps(case):
    """fails with a drain that looks every 50 ms"""
    case.table.middle = {7}
    case.drain.start()
    for _ in range(4):
        case.pass_time(PAUSE_SECONDS)
    assert case.sleeps
    case.table.middle.clear()
    case.table.quiet.add(7)
    case.pass_time(PAUSE_SECONDS)  # a turn: whatever happened, it woke the loop
    assert case.table.told == [("bye", 7), ("shut", 7)]


@pytest.mark.parametrize("step", ["flush", "ids"])
def test_a_step_that_fails_is_the_last_one(case, monkeypatch, step):
    case.table.middle = {7}
    case.drain.start()
    monkeypatch.setattr(case.table, step, lambda *_: 1 // 0)
    case.pass_time(PAUSE_SECONDS)
    case.pass_time(PAUSE_SECONDS)
    assert len(case.done) == 1
    assert case.loop.defects.count == 1


def test_it_is_begun_once(case):
    case.drain.start()
    with pytest.raises(RuntimeError, match="from DONE to FINISHING"):
        case.drain.start()


# ---- the whole of a stop

TEXT = """
[daemon]
stop_timeout = "10s"
pre_drain = "PRE"
[[listen]]
address = "unix:DIRECTORY/lines"
service = "upper"
"""


@pytest.fixture
def serving(in_process, tmp_path):
    def make(pre_drain: str = "0s"):
        daemon = in_process.daemon(TEXT.replace("DIRECTORY", str(tmp_path)).replace("PRE", pre_drain))
        daemon.act_on_signals()
        return daemon

    return make


def signalled(in_process, name: str) -> None:
    next(act for number, act in in_process.signals.actions.items() if number.name == name)()


def test_a_stop_is_held_to_its_time(in_process, serving):
    daemon = serving()
    signalled(in_process, "SIGTERM")
    assert daemon.shutdown.state is ServingState.NOT_READY
    daemon.drain()
    assert daemon.shutdown.state is ServingState.STOPPING
    told = [one for one in in_process.signals.bound.told if one[0] == "within"]
    assert told == [("within", 10.0), ("within", 10.0), ("within", 10.0)]


def test_before_a_drain_it_serves_on_and_says_that_it_is_not_ready(in_process, serving, tmp_path):
    daemon = serving("3s")
    loop, stopped = daemon.serving.tools.loop, []
    loop.stop = lambda: stopped.append(in_process.clock.now)
    signalled(in_process, "SIGTERM")
    assert daemon.state() == "not-ready"
    with pytest.raises(TemporaryFault, match="stopping"):
        daemon.reload(lambda _: None)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(f"{tmp_path}/lines")
        client.sendall(b"still\n")
        in_process.turn(daemon, lambda: daemon.serving.totals()["upper"].frames == 1)
        assert client.recv(99) == b"STILL\n"
    in_process.pass_time(daemon, 2.9)
    assert stopped == []
    in_process.pass_time(daemon, 0.2)
    assert len(stopped) == 1


@pytest.mark.parametrize("second", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_a_second_signal_makes_it_urgent(in_process, serving, tmp_path, second):
    daemon = serving("3s")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/lines")
        client.sendall(b"half a line")
        in_process.turn(daemon, lambda: daemon.serving.tools.connections.memory > 0)
        signalled(in_process, "SIGTERM")
        assert not daemon.shutdown.is_urgent
        signalled(in_process, second)
        assert daemon.shutdown.is_urgent
        assert ("at_once", None) in in_process.signals.bound.told
        daemon.drain()  # on a clock that stands still: it waits for nobody
    assert daemon.shutdown.state is ServingState.STOPPING


def test_a_connection_in_the_middle_is_ended_in_time(in_process, serving, tmp_path, caplog):
    daemon = serving()
    loop = daemon.serving.tools.loop
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(f"{tmp_path}/lines")
        client.sendall(b"half a line")
        in_process.turn(daemon, lambda: daemon.serving.tools.connections.memory > 0)
        signalled(in_process, "SIGTERM")
        turn = loop.run_once

        def hasten(_timeout: float | None) -> None:
            in_process.clock.now += 1.0
            turn(0)

        loop.run_once = hasten  # time passes, second by second
        began = in_process.clock.now
        daemon.drain()
        assert in_process.clock.now - began <= 12
        assert "connection closed before it finished" in caplog.messages
    assert daemon.shutdown.state is ServingState.STOPPING


def test_nothing_is_done_twice(in_process, serving):
    daemon = serving()
    signalled(in_process, "SIGTERM")
    daemon.drain()
    with pytest.raises(RuntimeError, match="from STOPPING to STOPPING"):
        daemon.drain()
