"""Signals reach the loop as readiness of a descriptor, and are given back.

Seen to fail: with close() not restoring the handlers; with handle() reading one byte.
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
