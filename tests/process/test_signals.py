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


@pytest.fixture
def seen():
    return []


@pytest.fixture
def signals(seen):
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)
    signals = Signals({n: lambda n=n: seen.append(n) for n in (signal.SIGUSR1, signal.SIGUSR2)})
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
