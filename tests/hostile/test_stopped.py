"""SIGSTOP while every deadline is a second: whoever sent what was due while the daemon stood still is answered behind SIGCONT.

Silent ones go in time all the same.  The daemon is stopped for STOPPED_S (SOCKD_SOAK=1: 90 s); a container that is
frozen, a machine that sleeps and a handler that takes long are the same to it.
Seen to fail: with deadlines looked at before what waits in the kernel is read, nearly all of them are ended.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, suppress

import psutil
import pytest
from storm import headers
from storm.peers import Talk, World
from storm.rude import Target
from storm.services import PASSWORD, USER, USER_OF_PROGRAMS, users_text
from watching import SOAK, _until

STOPPED_S = 90 if SOAK else 4
EACH = 10 if SOAK else 5
"""Clients of each kind."""
LOAD = 200 if SOAK else 100
"""Clients of the plainest kind besides."""
ANSWER_S = 20
SILENT_S = 12
"""Deadlines of one second, of three for a PROXY header, in ticks of a quarter of a second, for hundreds at once."""
BIG = 4_000_000
BEGUN_WITHIN_S = 0.6
"""All of them, so that no deadline of a second is over before the daemon is stopped."""
TRIES = 5
APP = """
import sockd

def upper(line):
    return line.upper()

def big(line):
    return line * 400_000

class Lines(sockd.LineProtocol):
    def line_received(self, line):
        self.send_line(line.upper())

def way(line, connection):
    if line == b"STARTTLS":
        connection.start_tls()
    return line

blocking = sockd.Service(blocking=True)
blocking.frame(upper)

async def session(reader, writer):
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
"""
TIMES = "".join(f'{name}_timeout = "1s"\n' for name in ("idle", "frame", "write", "linger"))


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
        came = b""
        while len(came) < len(answer) and (piece := self.talk.receive()):
            came += piece
        assert came == answer, f"{self.name}: {came[:100]!r} ({len(came)})"


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
        self.talk.secure(self.world.context())
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
        self.talk.secure(self.world.context())
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
        self.expect(b"\5\0\0\1" + socket.inet_aton("127.0.0.1") + self.talk.sock.recv(10)[8:])


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
        self.came = 0
        self.sock.settimeout(0.2)
        with suppress(TimeoutError):
            while piece := self.sock.recv(1 << 20):
                self.came += len(piece)
        self.sock.settimeout(ANSWER_S)

    def finish(self):
        while self.came < BIG + 1 and (piece := self.sock.recv(1 << 20)):
            self.came += len(piece)
        assert self.came == BIG + 1, f"{self.name}: {self.came} bytes"


KINDS = (
    Function, Fresh, Netstring, Protocol, Coroutine, Blocking, BuiltIn, Program, Relay, Http, Header, Header2, Tls,
    TlsCoroutine, Handshake, StartTls, Socks, SocksHalf, SocksLogin, SocksName, Reading,
)  # fmt: skip


def toml_of(folder, certificates, target, workers):
    tls = f'certificate = "{certificates.server.path}", key = "{certificates.server.key}", handshake_timeout = "1s"'
    ways = {
        "proxy": 'proxy_protocol = { from = ["127.0.0.0/8"], timeout = "3s" }\n',
        "tls": f"tls = {{ {tls} }}\n",
        "starttls": f"tls = {{ {tls}, starttls = true }}\n",
    }
    socks = (
        'negotiation_timeout = "1s", connect_timeout = "1s", idle_timeout = "1s", half_close_timeout = "1s", '
        'allow = ["loopback"]'
    )
    relay = f'to = ["tcp://127.0.0.1:{target}"], connect_timeout = "1s", half_close_timeout = "1s"'
    tables = {
        "function": f'handler = "app:upper"\n{TIMES}',
        "netstring": f'handler = "app:upper"\nframing = "netstring"\n{TIMES}',
        "protocol": f'handler = "app:Lines"\n{TIMES}',
        "session": f'handler = "app:session"\n{TIMES}',
        "blocking": f'handler = "app:blocking"\n{TIMES}',
        "way": f'handler = "app:way"\n{TIMES}',
        "big": f'handler = "app:big"\n{TIMES}',
        "upper": f'builtin = "upper"\n{TIMES}',
        "metrics": f"metrics = true\n{TIMES}",
        "exec": f'exec = ["/bin/cat"]\nmax_instances = 200\n{USER_OF_PROGRAMS}',
        "relay": f'idle_timeout = "1s"\nrelay = {{ {relay} }}',
        "socks": f"socks = {{ {socks} }}",
        "socks-users": f'socks = {{ {socks}, users = "{folder}/users" }}',
    }
    text = [f'[daemon]\nworkers = {workers}\ncontrol = "{folder}/control.sock"\nstall_time = 0\n']
    services = list(dict.fromkeys(kind.service for kind in KINDS))
    for service in services:
        name, _, way = service.partition("+")
        text.append(f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{name}"\n{ways.get(way, "")}')
    text += [f"[service.{name}]\n{table}\n" for name, table in tables.items()]
    return services, "\n".join(text)


def unread(ports) -> int:
    """Bytes that the daemon's side of connections to these ports has not read (proc(5), net/tcp)."""
    total = 0
    with open("/proc/net/tcp") as table:
        next(table)
        for line in table:
            words = line.split()
            if int(words[1].rpartition(":")[2], 16) in ports and words[3] == "01":
                total += int(words[4].partition(":")[2], 16)
    return total


class Stopped:
    """The daemon and its workers, stopped by SIGSTOP within the block."""

    def __init__(self, one):
        self._pids = [one.pid, *(child.pid for child in psutil.Process(one.pid).children() if "sockd" in child.name())]

    def __enter__(self):
        for pid in self._pids:
            os.kill(pid, signal.SIGSTOP)
        _until(lambda: all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in self._pids))

    def __exit__(self, *_):
        for pid in self._pids:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def target(tmp_path):
    one = Target(str(tmp_path / "target"), "stopped")
    yield one
    one.close()


@pytest.fixture
def house(daemon, certificates, target, tmp_path):
    """Start the daemon: `house(workers)`; `connect(kind)` is a client of that kind, closed at the end."""
    with ExitStack() as stack:

        def start(workers=1):
            (tmp_path / "users").write_text(users_text())
            services, toml = toml_of(tmp_path, certificates, target.port, workers)
            one = daemon(toml=toml, app=APP, listeners=len(services))
            names = dict(zip(services, [one.sockaddr(at)[2] for at in range(len(services))], strict=True))
            world = World([], str(tmp_path), {}, str(certificates.ca), target.port, "")

            def connect(kind):
                client = kind(f"{kind.__name__} from {len(one.lines)}", names[kind.service], world)
                stack.callback(client.sock.close)
                return client

            one.visit = connect
            one.names = names
            return one

        yield start


def begun(one, kinds):
    """Return clients of these kinds whose first bytes the daemon has read, all within BEGUN_WITHIN_S."""
    read = {one.names[kind.service][1] for kind in kinds if kind.is_read}
    for _ in range(TRIES):
        began = time.monotonic()
        clients = [one.visit(kind) for kind in kinds]
        for client in clients:
            client.begin()
        _until(lambda: not unread(read))
        if time.monotonic() - began < BEGUN_WITHIN_S:
            return clients
        for client in clients:
            client.sock.close()
    pytest.fail(f"{len(kinds)} clients cannot begin within {BEGUN_WITHIN_S} s here")


@pytest.mark.parametrize("workers", [1, 2])
def test_who_was_in_time_is_answered(house, figure, workers):
    one = house(workers)
    clients = begun(one, [kind for kind in KINDS for _ in range(EACH)] + [Function] * LOAD)
    with Stopped(one):
        for client in clients:
            client.go_on()
        threading.Event().wait(STOPPED_S)  # that is what is tried
    began, wrong = time.monotonic(), []
    for client in clients:
        try:
            client.finish()
        except (AssertionError, OSError) as error:
            wrong.append(f"{client.name}: {error!r}")
    kinds = sorted({text.partition(" ")[0] for text in wrong})
    took = time.monotonic() - began
    figure(f"stopped for {STOPPED_S} s", f"{len(clients)} clients, {len(wrong)} ended: {kinds}, {took:.1f} s")
    assert not wrong, (len(wrong), kinds, wrong[:20])


def test_silent_ones_go_in_time_all_the_same(house):
    one = house()
    silent = begun(one, [kind for kind in KINDS if kind not in (Program, Reading) for _ in range(EACH)])
    with Stopped(one):
        threading.Event().wait(STOPPED_S)  # that is what is tried
    end = time.monotonic() + SILENT_S
    for client in silent:
        client.sock.settimeout(max(0.01, end - time.monotonic()))
        with suppress(ConnectionResetError):
            try:
                while client.sock.recv(65_536):
                    pass
            except TimeoutError:
                pytest.fail(f"{client.name} is there {SILENT_S} s behind the stop")
