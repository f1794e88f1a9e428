"""A process that is forked from one that serves.

Seen to fail: with what is frozen left so, garbage in the parent is never collected.
"""

from __future__ import annotations

import gc
import os
import signal

import pytest

from sockd.process.fork import fork, how_it_ended


def _status_of(run, handled=()):
    return how_it_ended(os.waitpid(fork(run, handled), 0)[1])


def test_it_ends_with_the_exit_code():
    assert _status_of(lambda: 7) == {"exit_code": 7}


def test_what_it_raises_reaches_nothing_on_the_parents_stack():
    def fails():
        raise SystemExit(0)

    assert _status_of(fails) == {"exit_code": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_is_told_by_its_name(number):
    def kill():
        os.kill(os.getpid(), number)
        return 0

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        assert _status_of(kill, [signal.SIGTERM]) == {"signal": number.name.removeprefix("SIG")}
    finally:
        signal.signal(signal.SIGTERM, before)


def test_garbage_is_collected_in_the_parent_afterwards():
    assert _status_of(lambda: 0 if gc.get_freeze_count() else 1) == {"exit_code": 0}
    assert gc.get_freeze_count() == 0
