# SPDX-License-Identifier: MIT
"""Signals reach the loop as readiness of a descriptor, and are given back.

Seen to fail: with close() not restoring the handlers; with the kinds taken from the bytes of the
wake-up, as it was: the last signal of ten thousand was lost.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress

import pytest

from sockd.process.signals import Signals
from sockd.process.stop_bound import StopBound

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
"""From 3.12 on, of whoever forks beside the threads of pytest-xdist."""


@pytest.fixture
def seen():
    return []


@pytest.fixture
def signals(seen):
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)
    numbers = (signal.SIGUSR1, signal.SIGUSR2)
    signals = Signals(StopBound(), numbers)
    signals.act({number: lambda number=number: seen.append(number) for number in numbers})
    yield signals
    signals.close()
    assert (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_each_signal_calls_its_action_when_handled(signals, seen):
    signals.install()
    os.kill(os.getpid(), signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert select.select([signals.fileno()], [], [], 10)[0]
    assert seen == []
    with suppress(BlockingIOError):
        signals.handle()
    assert sorted(seen) == [signal.SIGUSR1, signal.SIGUSR2]


def test_what_has_no_action_yet_waits_for_it(signals, seen):
    signals.install()
    signals.act({})
    os.kill(os.getpid(), signal.SIGUSR2)
    signals.handle()
    signals.act({signal.SIGUSR2: lambda: seen.append("late")})
    assert select.select([signals.fileno()], [], [], 10)[0]
    signals.handle()
    assert seen == ["late"]


def test_they_are_taken_back_from_whoever_has_them(signals, seen):
    """fails with reclaim() doing nothing: the module's handler is called"""
    signals.install()
    signal.signal(signal.SIGUSR1, lambda *_: seen.append("the module's"))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    signals.reclaim()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert select.select([signals.fileno()], [], [], 10)[0]
    signals.handle()
    assert seen == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN


def test_a_process_that_a_handler_forks_has_none_of_them(signals):
    """fails without the hook of the fork: the child notes the signal, for nobody, and never ends"""
    signals.install()
    signals.handle()  # the fixture's act() has woken it
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        while True:
            signal.pause()
    os.kill(pid, signal.SIGUSR1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGUSR1
    assert not select.select([signals.fileno()], [], [], 0)[0]


def test_nothing_to_handle_is_no_error(signals, seen):
    signals.install()
    signals.handle()
    assert seen == []


def test_ten_thousand_signals_lose_no_kind(signals, seen):
    """The wake-up is full long before they end, and the last one is of another kind."""
    signals.install()
    for _ in range(10_000):
        os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    with pytest.raises(BlockingIOError):
        signals._writer.send(b"\0" * 65_536)
    signals.handle()
    assert seen == [signal.SIGUSR1, signal.SIGUSR2]
    while select.select([signals.fileno()], [], [], 0)[0]:  # what else was in the pair means nothing
        signals.handle()
    assert seen == [signal.SIGUSR1, signal.SIGUSR2]
    os.kill(os.getpid(), signal.SIGUSR1)
    assert select.select([signals.fileno()], [], [], 10)[0]
    signals.handle()
    assert seen[2:] == [signal.SIGUSR1]
