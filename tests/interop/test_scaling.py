# SPDX-License-Identifier: MIT
"""Two sockd behind a real HAProxy, by the files of packaging/haproxy: one is restarted or upgraded under load.

Each line that is handled is noted by the handler; at the end each that was answered has been handled once, by either.
HAProxy must not even have had to try again: it knew of each stop before there was one.  Seen failing with pre_drain at
0s, and with `fall 1` at 1000.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections import Counter
from contextlib import suppress

import pytest
from controlling import SOCKCTL
from programs import free_port, is_answered, needs
from serving import LIMIT_S
from watching import SOAK

pytestmark = [needs("haproxy", "haproxy"), pytest.mark.timeout(600 if SOAK else 120)]

PACKAGING = "packaging/haproxy"
SERVERS = ("one", "two")
CLIENTS = 16 if SOAK else 4
EXPECTED = ("serving as root", "event loop ")
"""Words that the log may have: that of these tests' user, and that a busy machine held the loop up."""
ROUNDS = 10 if SOAK else 1
APP = """
import os

seen = open(os.environ["SEEN"], "ab", buffering=0)
name = os.environ["NAME"].encode()

def answer(line, connection):
    seen.write(line + b"\\n")
    return name + b" " + connection.peer.encode() + b" " + line
"""


def changed(text, changes):
    """A packaged file as the test needs it; what it changes has to be there."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the packaged file any more"
        text = text.replace(old, new)
    return text


class House:
    """Two daemons, with HAProxy before them."""

    def __init__(self, directory, packaging, launch):
        self._directory = directory
        self._launch = launch
        self._packaged = (packaging / "sockd.toml").read_text()
        self.ports = {name: [free_port() for _ in range(3)] for name in SERVERS}
        self.running = {}
        self.upgraded = {}
        (directory / "app.py").write_text(APP)
        for name in SERVERS:
            self.start(name)

    def _seen(self, name):
        return self._directory / f"{name}.seen"

    def _control(self, name):
        return self._directory / f"{name}.sock"

    def state(self, name):
        """The file of its agent."""
        return self._directory / f"{name}.state"

    def start(self, name):
        lines, metrics, agent = self.ports[name]
        own = {
            'user = "nobody"\n': "",
            "/run/sockd/control.sock": str(self._control(name)),
            'pre_drain = "5s"': 'pre_drain = "1s"',
            "tcp://:7000": f"tcp://127.0.0.1:{lines}",
            "tcp://:9700": f"tcp://127.0.0.1:{metrics}",
            "tcp://:9707": f"tcp://127.0.0.1:{agent}",
            "app:greet": "app:answer",
            "192.0.2.10": "127.0.0.1",
        }
        (self._directory / f"{name}.toml").write_text(changed(self._packaged, own))
        environment = {"NAME": name, "SEEN": str(self._seen(name)), "HAPROXY_AGENT_STATE": str(self.state(name))}
        words = ("--foreground", "--log-format", "json", "-c", f"{name}.toml")
        self.running[name] = self._launch(*words, environment=environment).ready()

    def upgrade(self, name):
        """To a new process; the old one must end by itself."""
        before = self.running[name]
        done = subprocess.run([SOCKCTL, "upgrade", "--json", "--control", self._control(name)], capture_output=True)
        assert done.returncode == 0, done.stderr
        self.upgraded[name] = json.loads(done.stdout)["pid"]
        assert before.process.wait(LIMIT_S) == 0, before.said()

    def stop(self, name):
        """By TERM; the daemon must end by itself."""
        server = self.running.pop(name)
        os.kill(self.upgraded.pop(name, server.process.pid), signal.SIGTERM)
        assert server.wait() == 0, server.said()  # the last one that has its standard error

    def more(self):
        """Return what tells whether much more has been handled since this was asked."""
        before = len(self.handled())
        return lambda: len(self.handled()) > before + 100

    def handled(self):
        return [line for name in SERVERS for line in self._seen(name).read_bytes().splitlines()]


class Client(threading.Thread):
    """Asks line after line through HAProxy, until it is told to stop.

    Args:
        per_session: lines of each connection; None for one connection as long as the server keeps it.

    Attributes:
        answered: (line, who) for each.
        ended: connections that the server ended, and whose last line had no answer; that one is asked again.
    """

    def __init__(self, number, port, *, per_session=None):
        super().__init__()
        self.answered = []
        self.ended = 0
        self.error = None
        self._prefix = b"%d." % number
        self._address = ("127.0.0.1", port)
        self._per_session = per_session
        self._is_over = threading.Event()

    def run(self):
        try:
            while not self._is_over.is_set():
                self._session()
        except Exception as error:  # told by finish()
            self.error = error

    def _session(self):
        with socket.create_connection(self._address, 20) as sock, sock.makefile("rb") as answers:
            mine = b"tcp://127.0.0.1:%d" % sock.getsockname()[1]
            asked = 0
            while asked != self._per_session and not self._is_over.is_set():
                line = self._prefix + b"%d" % len(self.answered)
                said = b""
                with suppress(ConnectionResetError, BrokenPipeError):
                    sock.sendall(line + b"\n")
                    said = answers.readline()
                if not said:
                    assert self._per_session is None, "a short session was not served to its end"
                    assert asked, "a new connection was not served"
                    self.ended += 1
                    return
                who, peer, of = said.split()
                assert (peer, of) == (mine, line)
                self.answered.append((line, who.decode()))
                asked += 1

    def finish(self):
        self._is_over.set()
        self.join(60)
        if self.error is not None:
            raise self.error


@pytest.fixture
def house(launch, tmp_path, examples):
    shutil.copy(examples / "haproxy_agent.py", tmp_path)
    return House(tmp_path, examples.parent / PACKAGING, launch)


@pytest.fixture
def front(house, haproxy, examples, tmp_path, until):
    """HAProxy, when both servers are up; `front.port` is its own."""
    port = free_port()
    changes = {
        "/run/haproxy/admin.sock mode 660": f"{tmp_path}/stats",
        "bind :7000": f"bind 127.0.0.1:{port}",
        "inter 1s": "inter 50",
        "retries 3": "retries 3\n    timeout check 5s",  # else it is those 50 ms, and one late answer a server's end
        "port 9700 ": "",
        "agent-port 9707 ": "",
    }
    for host, name in (("192.0.2.11", "one"), ("192.0.2.12", "two")):
        lines, metrics, agent = house.ports[name]
        changes[f"{host}:7000"] = f"127.0.0.1:{lines} port {metrics} agent-port {agent}"
    proxy = haproxy(changed((examples.parent / PACKAGING / "haproxy.cfg").read_text(), changes), "sockd")
    proxy.port = port
    until(lambda: all(is_up(proxy, name) for name in SERVERS) and is_answered(port))
    return proxy


@pytest.fixture
def load(front):
    """Start clients; `load.check()` ends them, and sees that everything was done, once."""
    running = []

    def start(**options):
        for _ in range(CLIENTS):
            running.append(Client(len(running), front.port, **options))
            running[-1].start()
        return running

    yield start
    for client in running:
        client.finish()


@pytest.fixture
def wait(front, until):
    """Wait until HAProxy says of a server that it is so."""

    def so(tell, name):
        until(lambda: tell(front, name))

    return so


def is_up(proxy, name):
    fields = proxy.fields(name)
    return fields["status"] == "UP" and fields["check_status"] == "L7OK" and fields["agent_status"] == "L7OK"


def is_drained(proxy, name):
    fields = proxy.fields(name)
    return fields["status"] == "DRAIN (agent)" and fields["scur"] == "0"


def has_sessions(proxy, name):
    return proxy.fields(name)["scur"] != "0"


def test_drained_by_its_agent_and_restarted(house, front, wait, load):
    """No session is cut short: it is stopped when the last one has ended."""
    clients = load(per_session=5)
    for name in SERVERS * ROUNDS:
        wait(has_sessions, name)
        house.state(name).write_text("drain\n")
        wait(is_drained, name)
        house.stop(name)
        house.start(name)
        house.state(name).unlink()
        wait(is_up, name)
    check(house, front, clients)


def test_stopped_under_load_and_started_again(house, front, wait, load):
    """Who is connected goes to another server; nobody is turned away, no line is lost or handled twice."""
    clients = load()
    for name in SERVERS * ROUNDS:
        wait(has_sessions, name)
        house.stop(name)
        house.start(name)
        wait(is_up, name)
    check(house, front, clients)
    assert sum(client.ended for client in clients) >= 2 * ROUNDS


def test_upgraded_under_load(house, front, wait, load, until):
    """Nobody but the daemon notices: no connection ends, and each client stays whom HAProxy says it is."""
    clients = load()
    for name in SERVERS * ROUNDS:
        wait(has_sessions, name)
        house.upgrade(name)
        until(house.more())
    check(house, front, clients)
    assert sum(client.ended for client in clients) == 0


def test_load_is_the_weight(house, front, until):
    house.state("one").write_text("40%\n")
    until(lambda: front.fields("one")["weight"] == "40")
    assert front.fields("two")["weight"] == "100"


def check(house, front, clients):
    for client in clients:
        client.finish()
    answered = Counter(line for client in clients for line, _ in client.answered)
    assert Counter(house.handled()) == answered
    assert set(answered.values()) == {1}
    assert {who for client in clients for _, who in client.answered} == set(SERVERS)
    assert {name: front.fields("BACKEND")[name] for name in ("econ", "wretr", "wredis")} == {
        "econ": "0",  # connections that failed
        "wretr": "0",  # that were tried again,
        "wredis": "0",  # elsewhere
    }
    for name, server in list(house.running.items()):
        house.stop(name)
        loud = [event for event in server.events if event["level"] in ("warning", "error")]
        assert [event for event in loud if not event["message"].startswith(EXPECTED)] == []
