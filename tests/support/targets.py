"""Servers of the tests' own, to which relays and SOCKS servers connect."""

from __future__ import annotations

import socket
from contextlib import ExitStack

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
