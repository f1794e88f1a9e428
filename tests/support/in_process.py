# SPDX-License-Identifier: MIT
"""A daemon within the test's own process: real settings, listeners, table and loop; process and clock are fakes.

`in_process.daemon(text)` composes one as sockd.daemon.daemon.run() does, but for the drop of rights: whatever is of the
process (signals, their bound, the log, rights) is a fake that notes what it was told, and time passes by `clock.now`
alone.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from sockd.config.load import loads
from sockd.daemon import runtime, startup
from sockd.daemon.context import StartContext
from sockd.daemon.daemon import Daemon
from sockd.daemon.effective import EffectiveSettings
from sockd.daemon.lineage import Lineage
from sockd.daemon.listeners import ListenerRegistry
from sockd.daemon.startup import ServingProcess, Start, Unprivileged
from sockd.daemon.worker_processes import NoWorkers
from sockd.process.privileges import Dropped, PreparedDrop, Wanted

MOST_TURNS = 200


class FakeClock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeLog:
    """Takes the place of the log's handler."""

    def __init__(self) -> None:
        self.reopened = 0

    def flush(self) -> None:
        pass

    def reopen(self) -> None:
        self.reopened += 1


class FakeBound:
    """Notes how long a stop may take."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def __getattr__(self, name: str):
        return lambda *arguments: self.told.append((name, arguments[0] if arguments else None))


class FakeSignals:
    """Signals that nobody sends but the test."""

    def __init__(self) -> None:
        self.bound = FakeBound()
        self.actions: dict = {}
        self.reclaimed = 0
        self._reader, self._writer = socket.socketpair()

    def fileno(self) -> int:
        return self._reader.fileno()

    def act(self, actions) -> None:
        self.actions = dict(actions)

    def handle(self) -> None:
        self._reader.recv(99)

    def reclaim(self) -> None:
        self.reclaimed += 1

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


@dataclass
class InProcess:
    """The parts, and what they are made to one daemon of."""

    directory: os.PathLike[str]
    stack: ExitStack
    clock: FakeClock = field(default_factory=FakeClock)
    signals: FakeSignals = field(default_factory=FakeSignals)
    log: FakeLog = field(default_factory=FakeLog)
    next: object = None
    """Text of the configuration that a reload reads, or what reading it raises."""

    def process(self, text: str, **context: object) -> ServingProcess:
        """Return what a process is."""
        settings = EffectiveSettings(loads(text, name="sockd.toml"))
        given = StartContext(ready=lambda _: None, check=self._read, **context)
        return ServingProcess(given, settings, self.signals, Lineage(settings, given))

    def _read(self):
        if isinstance(self.next, BaseException):
            raise self.next
        return loads(self.next, name="sockd.toml")

    def start(self, process: ServingProcess) -> Unprivileged:
        """Go through the first two phases."""
        return Start(process, self.stack, lambda _daemon, _wanted: self.log).run()

    def daemon(self, text: str, make=ListenerRegistry, workers=None, **context: object) -> Daemon:
        """Return a daemon that accepts, and whose loop has not run."""
        process = self.process(text, **context)
        start = self.start(process)
        tools = runtime.make(process, start, self.stack, self.clock)
        daemon = Daemon(process, start, make(tools), workers or NoWorkers(), self.stack)
        daemon.begin()
        return daemon

    def turn(self, daemon: Daemon, until, seconds: float = 0.05) -> None:
        """Run turns until something is so."""
        for _ in range(MOST_TURNS):
            if until():
                return
            daemon.serving.tools.loop.run_once(seconds)
        raise AssertionError("it does not come to that")

    def pass_time(self, daemon: Daemon, seconds: float) -> None:
        """Let time pass, and what is due be done."""
        self.clock.now += seconds
        for _ in range(4):
            daemon.serving.tools.loop.run_once(0)


class FakeRights:
    """Stands for sockd.process.privileges: nothing is dropped."""

    @staticmethod
    def wanted(*_: object, **__: object) -> Wanted:
        return Wanted(None, None)

    @staticmethod
    def prepare(wanted: Wanted) -> PreparedDrop:
        return PreparedDrop(wanted, -1)

    @staticmethod
    def drop(_prepared: PreparedDrop) -> Dropped:
        return Dropped(None, 1)


@pytest.fixture
def in_process(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "privileges", FakeRights)
    with ExitStack() as stack:
        one = InProcess(tmp_path, stack)
        stack.callback(one.signals.close)
        yield one


def descriptors() -> dict[int, str]:
    """Return what this process has open, by number."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # of listdir itself
    return found
