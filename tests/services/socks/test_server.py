# SPDX-License-Identifier: MIT
"""What the clients of a SOCKS server share: a source that asks for very much, or for what never comes, has its part.

Seen to fail without shares (slow names, wrong logins) and with names that failed forgotten.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.loop.loop import EventLoop
from sockd.services.socks.server import SocksService
from sockd.services.socks.users import Scrypt, Users
from sockd.settings import SocksSettings
from sockd.settings.socks import parse_rule

LIMIT_S = 30
BAD, GOOD = "127.0.0.66", "127.0.0.7"
PLAIN = SocksSettings(allow=(parse_rule("loopback"),))
GREETING, CHOSEN = b"\5\1\0", b"\5\0"


class House:
    """A server in a loop, and clients from any address, as far as it knows."""

    def __init__(self, stack, settings, **options):
        selector = stack.enter_context(selectors.DefaultSelector())
        self.loop = EventLoop(selector, time.monotonic)
        stack.callback(self.loop.close)
        self.server = SocksService("proxy", settings, self.loop, **options)
        stack.callback(self.server.close)
        stack.callback(self.server.abort)
        self._stack = stack

    def client(self, source, data):
        near, far = socket.socketpair()
        self._stack.callback(near.close)
        near.setblocking(False)
        far.setblocking(False)
        near.send(data)
        self.server.serve(far, SocketAddress(socket.AF_INET, source, 1), lambda: None)
        return near

    def until(self, condition, limit=LIMIT_S):
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end
            self.loop.run_once(0.05)

    def heard(self, sock):
        """All that has come of it; None while it is open."""
        try:
            return sock.recv(1000, socket.MSG_PEEK)
        except BlockingIOError:
            return b""


@pytest.fixture
def house():
    with ExitStack() as stack:
        yield lambda settings=PLAIN, **options: House(stack, settings, **options)


def by_name(name):
    return GREETING + b"\5\1\0\3" + bytes([len(name)]) + name + b"\0\7"


def test_slow_names_of_one_source_hold_up_no_other(house):
    """300 of them: an honest client of another source is served within a second, one after the other."""
    go, asked = threading.Event(), []

    def names(name):
        asked.append(name)
        if name.startswith("slow"):
            go.wait(LIMIT_S)
            raise OSError("no such name")
        return ["127.0.0.1"]

    one = house(names=names)
    for number in range(300):
        one.client(BAD, by_name(b"slow%d" % number))
    for number in range(10):
        begun = time.monotonic()
        honest = one.client(GOOD, by_name(b"quick%d" % number))
        one.until(lambda honest=honest: len(one.heard(honest)) > 2)
        assert time.monotonic() - begun < 1.0
    assert sum(name.startswith("slow") for name in asked) == 8  # of 16 threads
    go.set()


def test_a_name_that_failed_is_not_looked_up_again_at_once(house):
    asked = []

    def names(name):
        asked.append(name)
        raise OSError("no such name")

    one = house(names=names)
    for _ in range(20):
        client = one.client(BAD, by_name(b"none"))
        one.until(lambda client=client: len(one.heard(client)) > 2)
        assert one.heard(client)[2:4] == b"\5\4"  # host unreachable
    assert asked == ["none"]


class File:
    """The users, as the server's file has them."""

    def __init__(self, stack):
        self.right = threading.Event()
        cheap = Scrypt(4, 8, 1, b"salt" * 4, bytes(32))
        self.users = Users(f"alice:{Scrypt(4, 8, 1, cheap.salt, cheap.compute(b'secret'))}".encode(), "users")
        self.checked = []
        check = self.users.check

        def slow(user, password):
            self.checked.append(password)
            time.sleep(0.05)  # the work of a hash
            return check(user, password)

        self.users.check = slow


def login(user, password):
    return b"\5\1\2\1" + bytes([len(user)]) + user + bytes([len(password)]) + password


def test_wrong_logins_of_one_source_hold_up_no_other_and_none_is_called_wrong_that_is_not(house):
    with ExitStack() as stack:
        file = File(stack)
        one = house(SocksSettings(users="/users", allow=(parse_rule("loopback"),)), file=file)
        wrong = [one.client(BAD, login(b"alice", b"wrong%d" % number)) for number in range(100)]
        same = one.client(BAD, login(b"alice", b"secret"))  # behind them: it may have to wait, or to come again
        begun = time.monotonic()
        honest = one.client(GOOD, login(b"alice", b"secret"))
        one.until(lambda: len(one.heard(honest)) == 4)
        assert one.heard(honest) == b"\5\2\1\0"
        assert time.monotonic() - begun < 1.0
        begun = time.monotonic()
        one.until(lambda: time.monotonic() - begun > 2.0)
        told = [one.heard(client) for client in wrong]
        assert one.heard(same) in (b"\5\2", b"\5\2\1\0")  # no verdict, or the right one
        tried = sum(password.startswith(b"wrong") for password in file.checked)
        assert tried <= 4  # one a second
        assert sum(data == b"\5\2\1\1" for data in told) <= tried
