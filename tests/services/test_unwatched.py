# SPDX-License-Identifier: MIT
"""Descriptors that cannot be watched (epoll_ctl(2): ENOMEM, ENOSPC): one client's end, and nobody else's.

Each conversation is held again and again: in the first round its first registration fails, then its second, and so
on, until one comes through without a failure.  Seen failing with the registrations of SOCKS sessions, of attempts
to connect and of questions to a SOCKS server as they were: what they raised went up into the loop.  At the end the
same from outside, with system calls that fail by strace(1).
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import time

import pytest

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.loop.loop import EventLoop
from sockd.net.relay.relay_table import RelayTable
from sockd.services.relay.server import RelayService
from sockd.services.socks.server import SocksService
from sockd.services.socks.users import Scrypt, UsersFile
from sockd.settings.address import Address
from sockd.settings.relay import RelaySettings, read_via
from sockd.settings.socks import SocksSettings, parse_rule

LIMIT_S = 30
HIGH = 40
"""Registrations; no conversation here has so many."""
CHEAP = Scrypt(4, 8, 1, b"salt" * 4, bytes(32))


class Failing(selectors.EpollSelector):
    """Its n-th registration or change from fail() on is not made."""

    left = 0
    failed = False

    def fail(self, nth):
        self.left, self.failed = nth, False

    def _count(self):
        self.left -= 1
        if self.left == 0:
            self.failed = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def register(self, fileobj, events, data=None):
        self._count()
        return super().register(fileobj, events, data)

    def modify(self, fileobj, events, data=None):
        self._count()
        return super().modify(fileobj, events, data)


class House:
    """A loop, services in it, and a target that echoes once and ends."""

    def __init__(self, tmp_path):
        self.selector = Failing()
        self.loop = EventLoop(self.selector, time.monotonic)
        self.target = socket.create_server(("127.0.0.1", 0))
        self.target.setblocking(False)
        self.name = self.target.getsockname()
        self.ends = 0
        self.loop.instance(RelayTable)
        users = tmp_path / "users"
        users.write_text(f"alice:{Scrypt(4, 8, 1, CHEAP.salt, CHEAP.compute(b'secret'))}\n")
        users.chmod(0o600)
        settings = SocksSettings(allow=(parse_rule("loopback"),), users=str(users))
        self.file = UsersFile(str(users))
        self.socks = SocksService(
            "proxy", SocksSettings(allow=(parse_rule("loopback"),)), self.loop, names=lambda name: ["127.0.0.1"]
        )
        self.closed = SocksService("closed", settings, self.loop, file=self.file)
        to = "tcp://{}:{}".format(*self.name)
        self.relay = RelayService("relay", RelaySettings(to=(Address.parse(to),)), self.loop, idle_timeout=LIMIT_S)

    def close(self):
        for service in (self.socks, self.closed, self.relay):
            service.abort()
            service.close()
        self.turn()
        self.file.close()
        self.loop.close()
        self.selector.close()
        self.target.close()

    def turn(self):
        self.loop.run_once(0.02)
        self._serve_target()

    def _ended(self):
        self.ends += 1

    def hold(self, service, said):
        """Talk to a service: what it answers to this and an end of file, before it ends its side."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname(), LIMIT_S)
            theirs, name = listener.accept()
        with ours:
            theirs.setblocking(False)
            ours.sendall(said)
            ours.shutdown(socket.SHUT_WR)
            ours.setblocking(False)
            ends, answer, until = self.ends, b"", time.monotonic() + LIMIT_S
            service.serve(theirs, SocketAddress.from_sockaddr(name), self._ended)
            while self.ends == ends:
                assert time.monotonic() < until, answer
                self.turn()
                answer += self._heard(ours)
            return answer + self._heard(ours)

    def _heard(self, ours):
        try:
            return ours.recv(65536)
        except OSError:  # nothing yet, or it was reset
            return b""

    def _serve_target(self):
        try:
            far, _ = self.target.accept()
        except BlockingIOError:
            return
        with far:
            far.settimeout(0)
            far.sendall(b"welcome")


@pytest.fixture
def house(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sockd.net.connect.dialer._is_connected", lambda sock: False
    )  # as to other hosts: it is waited for
    one = House(tmp_path)
    yield one
    one.close()


def request(where, command=1, kind=1):
    host, port = where
    address = bytes([len(host)]) + host.encode() if kind == 3 else socket.inet_aton(host)
    return bytes([5, command, 0, kind]) + address + struct.pack("!H", port)


GREETING, LOGIN = b"\5\1\0", b"\5\1\2\1\5alice\6secret"
CONVERSATIONS = {
    "connect": lambda house: (house.socks, GREETING + request(house.name), b"welcome"),
    "by name": lambda house: (house.socks, GREETING + request(("x.test", house.name[1]), kind=3), b"welcome"),
    "login": lambda house: (house.closed, LOGIN + request(house.name), b"welcome"),
    "refused": lambda house: (house.socks, GREETING + request(("10.0.0.1", 1)), b"\5\2\0"),
    "udp": lambda house: (house.socks, GREETING + request(("0.0.0.0", 0), command=3), b"\5\0\0\1"),
    "relay": lambda house: (house.relay, b"hello", b"welcome"),
}


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_who_cannot_be_watched_is_alone_in_that(house, name):
    service, said, wanted = CONVERSATIONS[name](house)
    assert wanted in house.hold(service, said)
    before = descriptors()
    for nth in range(1, HIGH):
        house.selector.fail(nth)
        count = house.ends
        answer = house.hold(service, said)
        assert house.ends == count + 1
        assert len(service) == 0
        if not house.selector.failed:
            break
        house.selector.fail(0)
        assert descriptors() == before, nth
        assert wanted in house.hold(service, said), nth
    assert 1 < nth < HIGH
    assert wanted in answer
    assert house.loop.defects.count == 0


@pytest.mark.parametrize("name", ["connect", "by name", "login"])
def test_without_epoll_there_is_a_reply_that_says_so(house, name, monkeypatch):
    service, said, wanted = CONVERSATIONS[name](house)

    def instance(kind):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    with monkeypatch.context() as patch:
        patch.setattr(house.loop, "instance", instance)
        assert b"\5\1\0\1" in house.hold(service, said)
    assert len(service) == 0
    assert wanted in house.hold(service, said)
    assert house.loop.defects.count == 0


def test_through_a_socks_server(house):
    """A relay whose targets are reached through another's SOCKS server, which answers as far as it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as via:
        to, way = "tcp://{}:{}".format(*house.name), "socks5://{}:{}".format(*via.getsockname())
        relay = RelayService(
            "relay", RelaySettings(to=(Address.parse(to),), via=read_via(way)), house.loop, idle_timeout=LIMIT_S
        )
        via.setblocking(False)

        def answer_for_it():
            try:
                sock, name = via.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            house.socks.serve(sock, SocketAddress.from_sockaddr(name), lambda: None)

        turn = house.turn
        house.turn = lambda: (turn(), answer_for_it())
        try:
            assert b"welcome" in house.hold(relay, b"hello")
            for nth in range(1, HIGH):
                house.selector.fail(nth)
                answer = house.hold(relay, b"hello")
                if not house.selector.failed:
                    break
                house.selector.fail(0)
                assert b"welcome" in house.hold(relay, b"hello"), nth
            assert 1 < nth < HIGH
            assert b"welcome" in answer
            assert house.loop.defects.count == 0
        finally:
            house.turn = turn
            relay.abort()
            relay.close()


# ---- from outside

SERVED = """
[[listen]]
address = "tcp://127.0.0.1:0"
service = "upper"
[[listen]]
address = "tcp://127.0.0.1:0"
service = "login"
[[listen]]
address = "tcp://127.0.0.1:0"
service = "proxied"
proxy_protocol = {{ from = ["127.0.0.1"] }}
[[listen]]
address = "tcp://127.0.0.1:0"
service = "front"
[service.login]
socks = {{ users = "{directory}/users", allow = ["loopback"] }}
[service.proxied]
builtin = "upper"
[service.front]
relay = {{ to = ["tcp://localhost:1"], connect_timeout = "1s" }}
"""
HITS = 12


def test_a_daemon_out_of_watches_goes_on(daemon, inject, tmp_path, multiplexer):
    if multiplexer not in ("auto", "epoll"):
        pytest.skip(f"{multiplexer} has no watches")
    (tmp_path / "users").write_text(f"alice:{Scrypt(4, 8, 1, CHEAP.salt, CHEAP.compute(b'secret'))}\n")
    (tmp_path / "users").chmod(0o600)
    one = daemon(toml=SERVED.format(directory=tmp_path))
    ports = [int(line["address"].rpartition(":")[2]) for line in one.logged("listening")]
    login = LOGIN + request(("127.0.0.1", ports[0])) + b"abc\n"
    said = {ports[1]: (login, b"ABC\n"), ports[2]: (b"PROXY UNKNOWN\r\nabc\n", b"ABC\n"), ports[3]: (b"x", b"")}
    with inject(one, "epoll_ctl", "ENOSPC", f"1..{HITS}") as injected:
        until = time.monotonic() + LIMIT_S
        while injected() < HITS:
            assert time.monotonic() < until
            for port, (words, _) in said.items():
                converse(port, words)
    for port, (words, wanted) in said.items():
        assert converse(port, words).endswith(wanted)
    assert one.process.poll() is None
    assert not one.logged("defect")


def converse(port, words):
    """What is answered to this and an end of file, as far as it comes.

    A client that is reset at once may learn it by its connect(): one that has a time limit asks for SO_ERROR later.
    """
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as sock:
            sock.sendall(words)
            sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(4096):
                answer += piece
    except (ConnectionResetError, BrokenPipeError):
        return answer
    return answer
