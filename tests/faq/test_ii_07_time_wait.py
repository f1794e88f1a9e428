# SPDX-License-Identifier: MIT
# Seen failing against a daemon without SO_REUSEADDR (both restarts), and one that sets SO_LINGER to 0 seconds before
# every close() (RST in place of the last acknowledgements).
"""II.7, TIME_WAIT: never cut short, left to the client where it may close first, and no hindrance to a restart."""

from __future__ import annotations

import collections
import signal
from pathlib import Path

import pytest

from sockd.net.kernel import time_wait_count

STATES = {
    "01": "ESTABLISHED", "04": "FIN_WAIT1", "05": "FIN_WAIT2", "06": "TIME_WAIT", "08": "CLOSE_WAIT", "09": "LAST_ACK",
}  # fmt: skip
CONNECTIONS = 1000
APP = """
from sockd.errors import Close

def bye(line):
    raise Close(b"bye")
"""


def states(port, clients):
    """Count the connections between a port and clients' ports by state: (on the daemon's side, on the clients')."""
    ours, theirs = collections.Counter(), collections.Counter()
    rows = {tuple(line.split()[1:4]) for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
    for local, remote, state in rows:  # once each: a table that changes while it is read may show one twice
        name = STATES.get(state, state)
        near, far = (int(address.rpartition(":")[2], 16) for address in (local, remote))
        if near == port and far in clients:
            ours[name] += 1
        elif far == port and near in clients:
            theirs[name] += 1
    return ours, theirs


@pytest.fixture
def visits(read_to_end):
    """Open connections one after the other, each asking once; returns their ports."""

    def visit(one, count, *, client_first):
        ports = set()
        for _ in range(count):
            with one.connect() as sock:
                ports.add(sock.getsockname()[1])
                sock.sendall(b"hello\n")
                if client_first:
                    assert sock.recv(100) == b"HELLO\n"
                else:
                    assert read_to_end(sock) == b"bye\n"
        return ports

    return visit


def test_a_client_that_closes_first_keeps_time_wait(daemon, visits):
    one = daemon("tcp://127.0.0.1:0=upper")
    clients = visits(one, 100, client_first=True)
    one.closed("eof", count=100)
    ours, theirs = states(one.port(), clients)
    assert ours["TIME_WAIT"] == 0
    assert 90 <= theirs["TIME_WAIT"] <= 100  # after a second on loopback Linux uses one again (tcp_tw_reuse)


def test_a_service_that_closes_first_does_not_avoid_it(daemon, visits, until):
    """An RST in its place (SO_LINGER, 0 seconds) could destroy what was sent, and lets old duplicates in."""
    one = daemon("tcp://127.0.0.1:0=app:bye", app=APP)
    clients = visits(one, 100, client_first=False)
    one.closed("closed", count=100)
    until(lambda: states(one.port(), clients)[0]["TIME_WAIT"] == 100)
    until(lambda: time_wait_count(one.port()) >= 100)
    ours, theirs = states(one.port(), clients)
    assert theirs["TIME_WAIT"] == 0
    assert set(ours) == {"TIME_WAIT"}


def test_a_restart_on_the_same_port_works_at_once(daemon, visits, until):
    one = daemon("tcp://127.0.0.1:0=app:bye", app=APP)
    address, port = one.address(), one.port()
    clients = visits(one, CONNECTIONS, client_first=False)
    one.closed("closed", count=CONNECTIONS)
    assert one.stop() == 0
    until(lambda: states(port, clients)[0]["TIME_WAIT"] == CONNECTIONS)
    again = daemon(f"{address}=upper")
    assert again.ask(b"hello\n") == b"HELLO\n"
    until(lambda: states(port, clients)[0]["TIME_WAIT"] == CONNECTIONS)  # none was assassinated (RFC 1337)


def test_a_restart_with_connections_that_are_still_closing(daemon):
    """Our FIN is acknowledged and the peer's does not come: FIN_WAIT2, whose process is gone."""
    one = daemon("tcp://127.0.0.1:0=upper")
    address = one.address()
    held = [one.connect() for _ in range(5)]
    for sock in held:
        sock.sendall(b"hello\n")
        assert sock.recv(100) == b"HELLO\n"
    assert one.stop(signal.SIGQUIT) == 0
    again = daemon(f"{address}=upper")
    assert again.ask(b"hello\n") == b"HELLO\n"
