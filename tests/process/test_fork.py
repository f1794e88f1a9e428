# SPDX-License-Identifier: MIT
"""A process that is forked from one that serves.

Seen to fail: with what is frozen left so, garbage in the parent is never collected.
"""

from __future__ import annotations

import gc
import os
import signal

import pytest

from sockd.process.fork import fork, how_it_ended
from sockd.process.signals import Signals
from sockd.process.stop_bound import StopBound

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
"""From 3.12 on, of whoever forks beside the threads of pytest-xdist."""


@pytest.fixture
def signals():
    """Signals as a daemon has them, for the two that are of no interest to pytest."""
    one = Signals(StopBound(), [signal.SIGTERM, signal.SIGUSR1])
    one.install()
    yield one
    one.close()


def _exit_status(run, signals):
    return how_it_ended(os.waitpid(fork(run, signals), 0)[1])


def test_it_ends_with_the_exit_code(signals):
    assert _exit_status(lambda _: 7, signals) == {"exit_code": 7}


def test_what_it_raises_reaches_nothing_on_the_parents_stack(signals):
    def fails(_):
        raise SystemExit(0)

    assert _exit_status(fails, signals) == {"exit_code": 1}


def test_a_signal_is_told_by_its_name(signals):
    def kill(_):
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert _exit_status(kill, signals) == {"signal": "KILL"}


def test_signals_are_noted_from_its_first_moment_on(signals):
    """fails with default handlers until it has its own: TERM ends it"""

    def noted(own):
        os.kill(os.getpid(), signal.SIGTERM)
        accepted = []
        own.act({signal.SIGTERM: lambda: accepted.append(1)})
        own.handle()
        return len(accepted)

    assert _exit_status(noted, signals) == {"exit_code": 1}
    assert signal.getsignal(signal.SIGTERM) == signals._note


def test_garbage_is_collected_in_the_parent_afterwards(signals):
    assert _exit_status(lambda _: 0 if gc.get_freeze_count() else 1, signals) == {"exit_code": 0}
    assert gc.get_freeze_count() == 0
