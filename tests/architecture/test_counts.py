# SPDX-License-Identifier: MIT
"""Limits of what counts.py counts: none of them is passed again."""

from __future__ import annotations

import counts
import pytest

TIMERS = {
    "sockd/daemon/inetd.py: OneConnection._watch_output": "a thread carries the bytes, and tells nobody that they move",
    "sockd/daemon/workers/memory.py: MemoryWatch._look": "the kernel has no notice for the memory of another process",
    "sockd/daemon/workers/pool.py: WorkerPool._replaced": "a retry: nothing tells when fork(2) would succeed",
    "sockd/process/sd_notify.py: Notifier.ping": "sd_watchdog_enabled(3) is periodic: that is what it proves",
}
"""Of the daemon and the process: what arms itself again, and why nothing can tell in its place."""
LONGEST = {"sockd/services/api.py: Service": "authors write its options by keywords, each documented"}
"""What more than eight things may be given to, and why."""


def test_no_attribute_of_the_daemon_is_born_late():
    assert counts.late_attributes("sockd/daemon") == []


def test_nothing_is_a_kind_of_daemon():
    """A supervisor, a worker and inetd mode are compositions."""
    assert counts.subclasses("sockd", "Daemon") == []


def test_each_timer_that_arms_itself_is_known():
    found = [*counts.timers("sockd/daemon"), *counts.timers("sockd/process")]
    assert sorted(found) == sorted(TIMERS)


def test_no_constructor_takes_more_than_eight_things():
    assert [place for count, place in counts.constructors("sockd") if count > 8] == list(LONGEST)


@pytest.mark.parametrize("under", ["sockd/daemon", "sockd/process", "sockd/cli", "sockd/client", "sockd/config"])
def test_no_assert_stands_in_for_a_type(under):
    assert counts.asserts_of_none(under) == []


def test_asserts_in_place_of_types_are_few():
    assert len(counts.asserts_of_none("sockd")) <= 10
