# SPDX-License-Identifier: MIT
"""The pace of a program that dies at once, by a fake clock."""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter
from types import SimpleNamespace

import pytest

from sockd.net.address.sockaddr import Endpoint
from sockd.net.listen.bind import ServerSocket
from sockd.net.loop.loop import Timer
from sockd.process.program import ExitStatus
from sockd.services.exec.program import make_program
from sockd.services.exec.restarts import (
    LONGEST_PAUSE_SECONDS,
    PACE_SECONDS,
    Outcome,
    Restarts,
    is_power_of_ten,
    outcome,
)
from sockd.services.exec.service import ProgramService
from sockd.services.exec.wait_listener import WaitListener
from sockd.settings import ListenSettings
from sockd.settings.service import ServiceSettings


class FakeLoop:
    """Time that passes when the test says so; what is watched is ready."""

    def __init__(self):
        self.now, self.timers, self.watched = 100.0, [], {}

    def clock(self):
        return self.now

    def call_later(self, delay, callback):
        timer = Timer(self.now + delay, callback, self)
        self.timers.append(timer)
        return timer

    def timer_cancelled(self):
        pass

    def add_reader(self, fd, callback):
        self.watched[fd] = callback

    def remove_reader(self, fd):
        self.watched.pop(fd, None)

    def run(self):
        """Go on to the next timer, and call who is watched."""
        due = min(self.timers, key=lambda one: one.when, default=None)
        if not self.watched and due is not None:
            self.timers.remove(due)
            self.now = max(self.now, due.when)
            if due.callback is not None:
                due.callback()
        for callback in list(self.watched.values()):
            callback()


class DyingService:
    """A program that dies at once, and says why."""

    def __init__(self, loop):
        self.name, self.loop, self.count = "a", loop, 0
        self.program = make_program(ServiceSettings(exec=("/bin/false",), wait=True), ("/bin/false",))
        self.real = ProgramService(
            "a", self.program, stderr=None, spawn=self.spawn, loop=loop, find_name=lambda host: None, environment={}
        )

    def spawn(self, command, ended):
        self.count += 1
        os.write(command.descriptors[2], b"no configuration\n")
        self.ended = ended
        return SimpleNamespace(pid=self.count, end=lambda: None)

    def serve_socket(self, *words):
        child = self.real.serve_socket(*words)
        self.loop.now += 0.01
        self.loop.call_later(0, lambda: self.ended(ended(3)))
        return child


def test_a_thousand_deaths_are_ten_lines_of_the_log(caplog):
    loop = FakeLoop()
    service = DyingService(loop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, caplog.at_level(logging.DEBUG, "sockd"):
        sock.bind(("127.0.0.1", 0))
        sock.sendto(b"x", sock.getsockname())
        endpoint = Endpoint(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP, sock.getsockname())
        listener = WaitListener(ServerSocket(sock, endpoint), service, loop, ListenSettings(), Counter())
        listener.start()
        while listener.counts.programs["ended_at_once"] < 1000:
            loop.run()
        assert service.count == 1000
        assert loop.now - 100 > 9000  # seconds: a start in ten
        listener.detach()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) <= 10, lines
    assert lines.count("program ended at once, a pause before its next start") == 4


FIRST, OTHER = (b"a", ("127.0.0.1", 1)), (b"b", ("127.0.0.1", 1))


def ended(code=0, signal=None, seconds=0.01):
    return ExitStatus(code, signal, seconds, 0.001)


@pytest.mark.parametrize(
    ("how", "before", "after", "is_ready", "expected"),
    [
        (ended(1, seconds=1.5), FIRST, FIRST, True, Outcome.WORKED),  # it has lived
        (ended(1), FIRST, None, False, Outcome.FAILED),  # also where it has received what came
        (ended(None, signal=11), FIRST, None, False, Outcome.FAILED),
        (ended(0), FIRST, None, False, Outcome.WORKED),
        (ended(0), FIRST, OTHER, True, Outcome.WORKED),  # a busy service
        (ended(0), FIRST, FIRST, True, Outcome.FAILED),  # /bin/true
        (ended(0), None, None, True, Outcome.UNKNOWN),  # a listening socket: whose connection waits cannot be seen
        (ended(0), None, None, False, Outcome.WORKED),
    ],
)
def test_a_run_is_judged(how, before, after, is_ready, expected):
    assert outcome(how, before=before, after=after, is_ready=is_ready) is expected


def run(count, how):
    now = [100.0]
    restarts = Restarts(lambda: now[0])
    told, pauses = [], []
    for _ in range(count):
        restarts.count(how)
        told.append(is_power_of_ten(restarts.streak))
        pauses.append(restarts.pause)
        now[0] += restarts.pause
    return restarts, sum(told), pauses


def test_a_thousand_quick_deaths_are_four_starts_told_and_wait_longer_and_longer():
    restarts, told, pauses = run(1000, Outcome.FAILED)
    assert told == 4
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert [max(pauses), pauses[-1]] == pytest.approx([LONGEST_PAUSE_SECONDS] * 2)
    assert restarts.failed == 1000


def test_programs_that_may_have_served_are_paced_and_not_stopped():
    restarts, told, pauses = run(1000, Outcome.UNKNOWN)
    assert max(pauses) == pytest.approx(PACE_SECONDS)
    assert (told, restarts.failed) == (4, 0)


def test_one_that_works_ends_the_streak():
    restarts, _, _ = run(5, Outcome.FAILED)
    restarts.count(Outcome.WORKED)
    assert (restarts.pause, restarts.streak, restarts.is_next_logged) == (0.0, 0, True)
