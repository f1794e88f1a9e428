# SPDX-License-Identifier: MIT
"""SIGSTOP while every deadline is a second: whoever sent what was due meanwhile is answered behind SIGCONT.

Silent ones go in time all the same.  The daemon is stopped for STOPPED_S (SOCKD_SOAK=1: 90 s); a container that is
frozen, a machine that sleeps and a handler that takes long are the same to it.
Seen to fail: with deadlines looked at before what waits in the kernel is read, nearly all of them are ended.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack, suppress

import psutil
import pytest
from late import KINDS, Function, Program, Reading
from storm.peers import World
from storm.rude import Target
from storm.services import USER_OF_PROGRAMS, users_text
from watching import SOAK, _until

STOPPED_S = 90 if SOAK else 4
EACH = 10 if SOAK else 5
"""Clients of each kind."""
LOAD = 200 if SOAK else 100
"""Clients of the plainest kind besides."""
SILENT_S = 12
"""Deadlines of one second, of three for a PROXY header, in ticks of a quarter of a second, for hundreds at once."""
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


def toml_of(directory, certificates, target, workers):
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
        "socks-users": f'socks = {{ {socks}, users = "{directory}/users" }}',
    }
    text = [f'[daemon]\nworkers = {workers}\ncontrol = "{directory}/control.sock"\nstall_time = 0\n']
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
