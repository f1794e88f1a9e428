# SPDX-License-Identifier: MIT
"""Limits of what counts.py counts: none of them is passed again."""

from __future__ import annotations

import counts
import pytest

POLLS = {
    "sockd/daemon/workers/memory.py: MemoryWatch": "the kernel has no notice for the memory of another process",
    "sockd/net/tls/tunnel.py: TlsTunnel": "a service that is still open has deadlines of its own: looked at every 10 s",
}
"""Timers that look whether a state has come: two at most.

A timer that arms itself is a function that a timer calls and that arms the timer again, by itself or by what it calls.
"""
DEADLINES = {
    "sockd/net/connect/dialer.py: Dialer": "the next address, or the end of all (RFC 8305)",
    "sockd/net/loop/deadline.py: Deadline": "three times at most, where the loop itself was late",
    "sockd/net/relay/relay_table.py: RelayTable": "the deadline of a pair that comes first",
    "sockd/services/handlers/streams.py: StreamReader": "of a line: moved when it is due, not with every line",
}
"""Timers for the next one of several deadlines."""
RETRIES = {
    "sockd/daemon/absent.py: AbsentListeners": "bind(2): nothing reports when an address, or a name, has come",
    "sockd/daemon/workers/pool.py: WorkerPool": "fork(2): nothing reports when it would succeed",
    "sockd/daemon/reload.py: Reload": "once more, when all workers have closed what was drained",
    "sockd/net/listen/stream_listener.py: StreamListener": "epoll_ctl(2): nothing reports when there is memory",
    "sockd/services/exec/wait_listener.py: WaitListener": "likewise; and the pause of a program that ends at once",
}
"""Timers behind a failure, which do not ask but try again."""
PERIODIC = {
    "sockd/daemon/control/tracing.py: Tracer": "what was seen is sent on in intervals, while somebody looks",
    "sockd/daemon/workers/hangs.py: HangWatch": "a worker that hangs reports nothing: each is asked",
    "sockd/net/listen/refusal.py: Refusals": "a summary in each interval in which a client was refused",
    "sockd/process/sd_notify.py: Notifier": "sd_watchdog_enabled(3) is periodic: that is what it proves",
    "sockd/services/relay/server.py: _Check": "the interval at which targets are tried is a setting",
}
"""Timers of work that is to be done at intervals, and armed only where there is such work."""
ANYS = 32
"""110 by the same count, before the house was built."""
LONGEST = {"sockd/services/api.py: Service": "authors write its options by keywords, each documented"}
"""What more than eight things may be given to, and why."""


def test_no_attribute_is_born_late():
    """Each is set in __init__, or declared in the class, such as a transport, which comes by connection_made()."""
    assert counts.late_attributes("sockd") == ["sockd/wire/framing.py: Record.packer"]  # made of the other field


def test_nothing_asks_which_class_a_listener_is_of():
    assert counts.asked_listeners("sockd") == []


def test_nothing_is_a_kind_of_daemon():
    """A supervisor, a worker and inetd mode are compositions."""
    assert counts.subclasses("sockd", "Daemon") == []


def test_each_timer_that_arms_itself_is_known_and_two_of_them_poll():
    found = {place.rpartition(".")[0] for place in counts.timers("sockd")}
    assert sorted(found) == sorted(POLLS | DEADLINES | RETRIES | PERIODIC)
    assert len(POLLS) <= 2


def test_one_module_has_the_threads_of_a_loop():
    assert [*counts.threads("sockd/net"), *counts.threads("sockd/services")] == ["sockd/net/loop/thread_pool.py"]


def test_no_constructor_takes_more_than_eight_things():
    assert [place for count, place in counts.constructors("sockd") if count > 8] == list(LONGEST)


def test_nothing_has_more_than_two_booleans():
    """What it is in is a state, and has a table (tests/daemon/test_states.py)."""
    assert counts.many_booleans("sockd") == []


@pytest.mark.parametrize("under", ["sockd/daemon", "sockd/process", "sockd/cli", "sockd/client", "sockd/config"])
def test_no_assert_stands_in_for_a_type(under):
    assert counts.asserts_of_none(under) == []


def test_any_does_not_spread():
    assert len(counts.anys("sockd")) <= ANYS


def test_asserts_in_place_of_types_are_few():
    assert len(counts.asserts_of_none("sockd")) <= 10
