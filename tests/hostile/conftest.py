# SPDX-License-Identifier: MIT
"""Crowds of clients in processes of their own, what the kernel tells of a port, and the figures that were measured.

SOCKD_SOAK=1 asks for the large counts (make soak); without it the same tests run with a small share of them.
`figure(name, value)` keeps what was measured; all of them are printed at the end, under "measured".
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

CROWD = Path(__file__).with_name("crowd.py")
SOAK_TIMEOUT_S = 3600
TCP_STATES = {
    1: "ESTABLISHED",
    4: "FIN_WAIT1",
    5: "FIN_WAIT2",
    6: "TIME_WAIT",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    10: "LISTEN",
}
"""include/net/tcp_states.h of Linux."""

_figures: list[str] = []


def pytest_collection_modifyitems(items):
    if os.environ.get("SOCKD_SOAK") == "1":
        for item in items:
            item.add_marker(pytest.mark.timeout(SOAK_TIMEOUT_S))


def pytest_runtest_logreport(report):
    """Keep what was measured, by whichever process."""
    if report.when == "call":
        _figures.extend(line for name, line in report.user_properties if name == "figure")


def pytest_terminal_summary(terminalreporter):
    if _figures:
        terminalreporter.section("measured")
        for line in _figures:
            terminalreporter.write_line(line)


@pytest.fixture
def figure(multiplexer, request):
    """`figure("p99", "3 ms")`: one line of what was measured, printed at the end."""

    def keep(name, value):
        request.node.user_properties.append(("figure", f"{request.node.path.stem} [{multiplexer}] {name}: {value}"))

    return keep


class Crowd:
    """A process of crowd.py: many clients that do one thing.

    It prints one JSON value a line; `tell` sends it a line.
    """

    def __init__(self, words) -> None:
        self.process = subprocess.Popen(
            [sys.executable, CROWD, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._said: queue.Queue = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._said.put(json.loads(line))
        self._said.put(EOFError("the crowd has gone"))

    def hear(self, within: float = 60):
        """Return the next value; queue.Empty after `within` seconds."""
        said = self._said.get(timeout=within)
        if isinstance(said, EOFError):
            raise said
        return said

    def waiting(self) -> bool:
        """Whether it has said nothing that was not heard."""
        return self._said.empty()

    def tell(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """End it in order; its sockets are closed by the kernel."""
        if not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(30)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._reader.join(10)
            self.process.stdout.close()


@pytest.fixture
def crowd():
    """`crowd("hold", port, count, source)`: start a crowd; ended at the end of the test."""
    with ExitStack() as stack:

        def start(*words) -> Crowd:
            one = Crowd(words)
            stack.callback(one.end)
            return one

        yield start


@pytest.fixture
def visit():
    """`visit(name, source)`: a connection to a socket name, from an address of ours if given; 20 s time-out.

    Asks nothing of the daemon's log, whose length grows with the connections.  Closed at the end of the test.
    """
    with ExitStack() as stack:

        def connect(name, source=""):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            sock.settimeout(20)
            if source:
                sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT, FAQ III.6
                sock.bind((source, 0))
            sock.connect(name)
            return sock

        yield connect


def _tcp_states(port: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    with open("/proc/net/tcp") as table:
        next(table)
        for line in table:
            local, _, state = line.split(maxsplit=4)[1:4]
            if int(local.rpartition(":")[2], 16) == port:
                name = TCP_STATES.get(int(state, 16), state)
                counts[name] = counts.get(name, 0) + 1
    return counts


@pytest.fixture
def tcp_states():
    """`tcp_states(port)`: how many IPv4 sockets of the daemon's side are in each state (proc(5), net/tcp)."""
    return _tcp_states
