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


def states(port):
    """Count the connections of a port by state: (on the daemon's side, on the clients')."""
    ours, theirs = collections.Counter(), collections.Counter()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        name = STATES.get(state, state)
        if int(local.rpartition(":")[2], 16) == port:
            ours[name] += 1
        elif int(remote.rpartition(":")[2], 16) == port:
            theirs[name] += 1
    return ours, theirs


@pytest.fixture
def visits(read_to_end):
    """Open connections one after the other, each asking once."""

    def visit(one, count, *, client_first):
        for _ in range(count):
            with one.connect() as sock:
                sock.sendall(b"hello\n")
                if client_first:
                    assert sock.recv(100) == b"HELLO\n"
                else:
                    assert read_to_end(sock) == b"bye\n"

    return visit


def test_a_client_that_closes_first_keeps_time_wait(daemon, visits):
    one = daemon("tcp://127.0.0.1:0=upper")
    visits(one, 100, client_first=True)
    one.closed("eof", count=100)
    ours, theirs = states(one.port())
    assert ours["TIME_WAIT"] == 0
    assert theirs["TIME_WAIT"] == 100


def test_a_service_that_closes_first_does_not_avoid_it(daemon, visits, until):
    """An RST in its place (SO_LINGER, 0 seconds) could destroy what was sent, and lets old duplicates in."""
    one = daemon("tcp://127.0.0.1:0=app:bye", app=APP)
    visits(one, 100, client_first=False)
    one.closed("closed", count=100)
    until(lambda: states(one.port())[0]["TIME_WAIT"] == 100)
    assert time_wait_count(one.port()) == 100
    ours, theirs = states(one.port())
    assert theirs["TIME_WAIT"] == 0
    assert set(ours) <= {"TIME_WAIT", "0A"}  # and the listener


def test_a_restart_on_the_same_port_works_at_once(daemon, visits, until):
    one = daemon("tcp://127.0.0.1:0=app:bye", app=APP)
    address, port = one.address(), one.port()
    visits(one, CONNECTIONS, client_first=False)
    one.closed("closed", count=CONNECTIONS)
    assert one.stop() == 0
    assert states(port)[0]["TIME_WAIT"] == CONNECTIONS
    again = daemon(f"{address}=upper")
    assert again.ask(b"hello\n") == b"HELLO\n"
    assert states(port)[0]["TIME_WAIT"] == CONNECTIONS  # none was assassinated (RFC 1337)


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
