# SPDX-License-Identifier: MIT
"""Servers of the tests' own, to which relays and SOCKS servers connect."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

LIMIT_S = 30


def received(sock, size):
    data = b""
    while len(data) < size:
        some = sock.recv(size - len(data))
        if not some:
            break
        data += some
    return data


class Target:
    """A server of the test's own: takes connections one by one."""

    def __init__(self, family=socket.AF_INET, name=("127.0.0.1", 0)):
        self.listener = socket.socket(family)
        self.listener.settimeout(LIMIT_S)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(name)
        self.listener.listen(64)
        self.taken = []

    @property
    def address(self):
        name = self.listener.getsockname()
        return f"unix:{name}" if isinstance(name, str) else f"tcp://127.0.0.1:{name[1]}"

    def take(self):
        sock, _ = self.listener.accept()
        sock.settimeout(LIMIT_S)
        self.taken.append(sock)
        return sock

    def close(self):
        for sock in (self.listener, *self.taken):
            sock.close()


@pytest.fixture
def target():
    with ExitStack() as stack:

        def make(*arguments):
            made = Target(*arguments)
            stack.callback(made.close)
            return made

        yield make


class Busy:
    """A listener whose queue is full: it answers no SYN until it accepts; the kernel then tries again within 1 s."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.settimeout(LIMIT_S)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.name = self.listener.getsockname()
        self.address = f"tcp://127.0.0.1:{self.name[1]}"
        self.before = [socket.socket() for _ in range(2)]
        for one in self.before:
            one.setblocking(False)
            assert one.connect_ex(self.name) == errno.EINPROGRESS

    def wait_for_attempts(self, count):
        """Wait until so many are trying, those that were there before included (proc(5), state SYN_SENT)."""
        wanted = f"0100007F:{self.name[1]:04X} 02 "
        until = time.monotonic() + LIMIT_S
        while Path("/proc/net/tcp").read_text().count(wanted) < count:
            assert time.monotonic() < until

    def accept(self):
        """The connection that came behind those that were there before."""
        ours = [one.getsockname() for one in self.before]
        for _ in range(3):
            sock, peer = self.listener.accept()
            if peer not in ours:
                sock.settimeout(LIMIT_S)
                return sock
            sock.close()
        raise AssertionError("nobody else came")

    def close(self):
        for one in (self.listener, *self.before):
            one.close()


@pytest.fixture
def busy():
    with closing(Busy()) as one:
        yield one
