# SPDX-License-Identifier: MIT
# Seen failing against a daemon that listens with the backlog of the system, whatever the configuration says.
"""FAQ III.3: connect() succeeds before accept(); the backlog is an option, and the queue can be seen."""

from __future__ import annotations

import errno
import os
import signal
import socket
from pathlib import Path

import pytest

BACKLOG = 7
WAITING = BACKLOG + 1  # the kernel asks whether there are more than the backlog, not as many
SYN_AGAIN_S = 15  # a SYN is repeated after 1, 3 and 7 seconds (tcp(7))


@pytest.fixture
def stopped(daemon):
    """A daemon with a backlog, stopped by SIGSTOP; it goes on when the test is over at the latest."""
    one = daemon(toml=f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\nbacklog = {BACKLOG}\n')
    one.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, one.pid, os.WSTOPPED | os.WNOWAIT)
    yield one
    one.process.send_signal(signal.SIGCONT)


@pytest.fixture
def fill(stopped):
    """Connect as many as fit, each with a line sent."""

    def connect():
        clients = []
        for _ in range(WAITING):
            clients.append(stopped.connect())
            clients[-1].sendall(b"hello\n")
        return clients

    return connect


def overflows():
    """Count the SYNs that this host dropped for a full queue."""
    names, values = [
        line.split() for line in Path("/proc/net/netstat").read_text().splitlines() if line.startswith("TcpExt")
    ]
    return int(values[names.index("ListenOverflows")])


def queue(port):
    """Tell how many wait: of a listening socket, rx_queue is the accept queue (net/ipv4/tcp_ipv4.c)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (length,) = (row[4] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port)
    return int(length.rpartition(":")[2], 16)


def test_connections_complete_while_the_loop_is_stopped(stopped, fill, sockets_of):
    clients = fill()
    assert queue(stopped.port()) == WAITING
    (listener,) = sockets_of(stopped)
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    assert int.from_bytes(info[24:28], "little") == WAITING
    assert int.from_bytes(info[28:32], "little") == BACKLOG
    stopped.process.send_signal(signal.SIGCONT)
    for client in clients:
        assert client.recv(100) == b"HELLO\n"
    assert queue(stopped.port()) == 0


def test_one_more_is_not_answered_until_there_is_room(stopped, fill, until):
    clients = fill()
    before = overflows()
    with socket.socket() as late:
        late.setblocking(False)
        assert late.connect_ex(("127.0.0.1", stopped.port())) == errno.EINPROGRESS
        until(lambda: overflows() > before)
        assert queue(stopped.port()) == WAITING
        stopped.process.send_signal(signal.SIGCONT)
        late.settimeout(SYN_AGAIN_S)
        assert late.connect_ex(("127.0.0.1", stopped.port())) in (0, errno.EISCONN, errno.EALREADY)
        until(lambda: late.connect_ex(("127.0.0.1", stopped.port())) == errno.EISCONN, within=SYN_AGAIN_S)
        late.sendall(b"late\n")
        assert late.recv(100) == b"LATE\n"
    for client in clients:
        assert client.recv(100) == b"HELLO\n"
