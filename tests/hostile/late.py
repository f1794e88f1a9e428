# SPDX-License-Identifier: MIT
"""Clients that are in the middle of something when the daemon is stopped, and go on in time, while it stands still."""

from __future__ import annotations

import socket
from contextlib import suppress

from storm import headers
from storm.peers import Talk
from storm.services import PASSWORD, USER

ANSWER_S = 20
BIG = 4_000_000


class Kind:
    """Clients of one kind: what is said before the stop, while it lasts, and how that is answered."""

    service = "function"
    more = ""
    is_read = True
    """Whether the daemon reads all that is said before the stop."""
    before = b"half a "
    during = b"line\n"
    answer = b"HALF A LINE\n"

    def __init__(self, name, sockaddr, world):
        self.name = name
        self.world = world
        self.sock = socket.socket()
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(sockaddr)
        self.talk = Talk(self.sock)

    def begin(self):
        self.talk.raw(self.before)

    def go_on(self):
        self.talk.raw(self.during)

    def finish(self):
        self.expect(self.answer)

    def expect(self, answer):
        accepted = b""
        while len(accepted) < len(answer) and (piece := self.talk.receive()):
            accepted += piece
        assert accepted == answer, f"{self.name}: {accepted[:100]!r} ({len(accepted)})"


class Function(Kind):
    pass


class Fresh(Kind):
    """Said nothing before."""

    before = b""
    during = b"half a line\n"


class Netstring(Kind):
    service = "netstring"
    before = b"11:half a "
    during = b"line,"
    answer = b"11:HALF A LINE,"


class Protocol(Kind):
    service = "protocol"


class Coroutine(Kind):
    service = "session"


class Blocking(Kind):
    service = "blocking"


class BuiltIn(Kind):
    service = "upper"


class Program(Kind):
    service = "exec"
    answer = b"half a line\n"


class Relay(Kind):
    """What goes through is the target's; one second without a byte is the relay's deadline."""

    service = "relay"
    before = b"some of it, "
    during = b"and the rest"
    answer = before + during


class Http(Kind):
    service = "metrics"
    before = b"GET /live HTTP/1.1\r\nHost: loc"
    during = b"alhost\r\n\r\n"
    answer = b"HTTP/1.1 200 "

    def finish(self):
        assert self.talk.receive().startswith(self.answer), self.name


class Header(Kind):
    service = "protocol+proxy"
    before = b"PROXY TCP4 192.0.2.1 192.0.2.2 "
    during = b"1 2\r\na line\n"
    answer = b"A LINE\n"


class Header2(Header):
    """Of version 2."""

    whole = headers.v2(0x11, headers.block_of(headers.INET, ("192.0.2.1", 1), ("192.0.2.2", 2)))
    before = whole[:20]
    during = whole[20:] + b"a line\n"


class Tls(Kind):
    """Is secured before."""

    service = "function+tls"

    def begin(self):
        self.talk.secure(self.world.context())
        self.talk.send(self.before)

    def go_on(self):
        self.talk.send(self.during)


class TlsCoroutine(Tls):
    service = "session+tls"


class Handshake(Kind):
    """Is in the middle of its handshake."""

    service = "protocol+tls"

    def begin(self):
        hello = self.talk.hello(self.world.context())
        self.talk.raw(hello[:30])
        self.rest = hello[30:]

    def go_on(self):
        self.talk.raw(self.rest)

    def finish(self):
        self.talk.complete()
        self.talk.send(b"half a line\n")
        self.expect(self.answer)


class StartTls(Kind):
    """Asks for its handshake before the stop."""

    service = "way+starttls"

    def begin(self):
        self.talk.raw(b"STARTTLS\n")
        self.expect(b"STARTTLS\n")
        hello = self.talk.hello(self.world.context())
        self.talk.raw(hello[:30])
        self.rest = hello[30:]

    def go_on(self):
        self.talk.raw(self.rest)

    def finish(self):
        self.talk.complete()
        self.talk.send(b"half a line\n")
        self.expect(b"half a line\n")


class Socks(Kind):
    """Has chosen its method; SOCKS without a login, which is heard in C."""

    service = "socks"
    greeting, method = b"\5\1\0", b"\5\0"

    def begin(self):
        self.talk.raw(self.greeting)
        self.expect(self.method)

    def go_on(self):
        self.talk.raw(headers.socks5("127.0.0.1", self.world.target))

    def finish(self):
        answer = self.sock.recv(10)
        assert answer[:4] == b"\5\0\0\1", f"{self.name}: {answer!r}"


class SocksHalf(Socks):
    """Has said half of its request."""

    def begin(self):
        super().begin()
        self.talk.raw(headers.socks5("127.0.0.1", self.world.target)[:5])

    def go_on(self):
        self.talk.raw(headers.socks5("127.0.0.1", self.world.target)[5:])


class SocksLogin(Socks):
    service = "socks-users"
    greeting, method = b"\5\1\2", b"\5\2"

    def begin(self):
        super().begin()
        self.talk.raw(headers.login(USER, PASSWORD))
        self.expect(b"\1\0")


class SocksName(SocksLogin):
    """Asks by name."""

    def go_on(self):
        self.talk.raw(headers.socks5(b"localhost", self.world.target))


class Reading(Kind):
    """Takes a large answer while the daemon stands still: it makes progress in time."""

    service = "big"
    is_read = False
    before = b"0123456789\n"

    def go_on(self):
        self.accepted = 0
        self.sock.settimeout(0.2)
        with suppress(TimeoutError):
            while piece := self.sock.recv(1 << 20):
                self.accepted += len(piece)
        self.sock.settimeout(ANSWER_S)

    def finish(self):
        while self.accepted < BIG + 1 and (piece := self.sock.recv(1 << 20)):
            self.accepted += len(piece)
        assert self.accepted == BIG + 1, f"{self.name}: {self.accepted} bytes"


KINDS = (
    Function, Fresh, Netstring, Protocol, Coroutine, Blocking, BuiltIn, Program, Relay, Http, Header, Header2, Tls,
    TlsCoroutine, Handshake, StartTls, Socks, SocksHalf, SocksLogin, SocksName, Reading,
)  # fmt: skip
