# SPDX-License-Identifier: MIT
"""Three hosts behind a real HAProxy, by the files of packaging/haproxy: upgraded in turn, one killed, one cut off.

Each host is a network namespace, and so is that of the proxy and the clients.  A client asks line after line, and asks
a line again that had no answer.  What clients saw is printed: `pytest -s`; SOCKD_SOAK=1 for 10^6 requests.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import count

import pytest
from controlling import SOCKCTL
from networks import Network
from programs import needs
from serving import LIMIT_S
from watching import SOAK, WITHIN_S, _until

pytestmark = [
    needs("haproxy", "haproxy"),
    needs("ip", "iproute2"),
    needs("nft", "nftables"),
    pytest.mark.timeout(1800 if SOAK else 120),
]

PROXY = "192.0.2.10"
HOSTS = {"one": "192.0.2.11", "two": "192.0.2.12", "three": "192.0.2.13"}
THIRD = f"    server three {HOSTS['three']}:7000 tcp-ut 5s\n"
CLIENTS = 16 if SOAK else 6
REQUESTS = 1_000_000 // 3 if SOAK else 1_000
"""Of each of the three troubles, at least."""
PER_SESSION = 20
LATE_S = 1.0
PATIENCE_S = 20.0
"""Of a client; more than HAProxy needs to see that a host is gone."""
APP = """
import os

seen = open(os.environ["SEEN"], "ab", buffering=0)

def answer(line, connection):
    seen.write(line + b"\\n")
    return line
"""
DARK = "add table inet dark; add chain inet dark {} {{ type filter hook {} priority 0; policy drop; }}"


def run(*words):
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def networks():
    """A namespace of the proxy with a bridge, and one for each host at it: by name."""
    own = uuid.uuid4().hex[:6]
    names = {name: f"sockd-{own}-{name}" for name in ("proxy", *HOSTS)}
    with ExitStack() as stack:
        for name in names.values():
            if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
                pytest.skip("a network namespace cannot be made here")
            stack.callback(run, "ip", "netns", "delete", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        proxy = ("ip", "-n", names["proxy"])
        if subprocess.run([*proxy, "link", "add", "lan", "type", "bridge"], capture_output=True).returncode:
            pytest.skip("a bridge cannot be made here")
        run(*proxy, "address", "add", f"{PROXY}/24", "dev", "lan")
        run(*proxy, "link", "set", "lan", "up")
        for name, address in HOSTS.items():
            host = ("ip", "-n", names[name])
            run(*proxy, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", names[name])
            run(*proxy, "link", "set", name, "master", "lan", "up")
            run(*host, "address", "add", f"{address}/24", "dev", "eth0")
            run(*host, "link", "set", "eth0", "up")
        yield {name: Network(own) for name, own in names.items()}


class Host:
    """One of the three, and its daemon."""

    def __init__(self, name, network, directory, packaged, launch):
        self._name, self._network, self._launch = name, network, launch
        self._directory = directory / name
        self._directory.mkdir()
        (self._directory / "app.py").write_text(APP)
        shutil.copy(directory / "haproxy_agent.py", self._directory)
        text = packaged.replace('user = "nobody"\n', "").replace("app:greet", "app:answer")
        text = text.replace("/run/sockd/control.sock", str(self._directory / "control.sock"))
        (self._directory / "sockd.toml").write_text(text)
        self.start()

    def start(self):
        environment = {"SEEN": str(self._directory / "seen"), "HAPROXY_AGENT_STATE": str(self._directory / "state")}
        words = ("--foreground", "--log-format", "json", "-c", self._directory / "sockd.toml")
        own = self._network.enter
        self.server = self._launch(*words, environment=environment, preexec_fn=own).ready()
        self.pid = self.server.process.pid

    def upgrade(self):
        control = self._directory / "control.sock"
        done = subprocess.run([SOCKCTL, "upgrade", "--json", "--control", control], capture_output=True)
        assert done.returncode == 0, done.stderr
        self.pid = json.loads(done.stdout)["pid"]
        assert self.server.process.wait(LIMIT_S) == 0

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def cut_off(self):
        """Have each packet vanish, in both directions, without a word to anybody."""
        rules = ";".join(DARK.format(hook, hook) for hook in ("input", "output"))
        self._nft(rules)

    def connect_again(self):
        self._nft("delete table inet dark")

    def _nft(self, rules):
        run("ip", "netns", "exec", self._network.name, "nft", rules)

    def seen(self):
        return (self._directory / "seen").read_bytes().splitlines()


@dataclass
class Figures:
    """What clients saw: requests that were answered, lines that were asked again, connections that were not made, and
    how long each request took that was late, in seconds.
    """

    answered: int = 0
    again: int = 0
    refused: int = 0
    late: list[float] = field(default_factory=list)

    def __str__(self):
        longest = max(self.late, default=0.0)
        late = f"{len(self.late)} took more than {LATE_S:g} s, the longest {longest:.1f} s"
        return f"{self.answered} requests, {self.again} asked again, {self.refused} connections refused; {late}"


class Clients:
    """Ask, until they are told to stop; `figures` are of all of them since they were last taken."""

    def __init__(self, network, count_of_clients):
        self._network = network
        self._lock = threading.Lock()
        self._figures = Figures()
        self._is_over = threading.Event()
        self._errors = []
        self.answered = set()
        self._asked = dict.fromkeys(range(count_of_clients), 0.0)  # since when each waits
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count_of_clients)]
        for thread in self._threads:
            thread.start()

    def take(self):
        with self._lock:
            taken, self._figures = self._figures, Figures()
        return taken

    def wait_for(self, requests):
        """Wait until so many more were answered, by whoever."""
        last = self._figures.answered + requests
        _until(lambda: self._figures.answered >= last or self._errors, within=1200 if SOAK else WITHIN_S)

    def wait_for_each(self):
        """Wait until each client has had an answer that it asked for since this was called."""
        now = time.monotonic()
        _until(lambda: min(self._asked.values()) > now or self._errors, within=PATIENCE_S)

    def finish(self):
        self._is_over.set()
        for thread in self._threads:
            thread.join(60)
        if self._errors:
            raise self._errors[0]

    def _run(self, number):
        try:
            self._network.enter()
            lines = (b"%d.%d" % (number, serial) for serial in count())
            line = next(lines)
            began = time.monotonic()
            while not self._is_over.is_set():
                line, began = self._session(line, began, lines)
                self._asked[number] = began
        except Exception as error:  # told by finish()
            self._errors.append(error)

    def _session(self, line, began, lines):
        """Ask some lines over one connection; returns the next one to ask, and since when it is asked."""
        try:
            sock = socket.create_connection((PROXY, 7000), PATIENCE_S)
        except OSError:
            with self._lock:
                self._figures.refused += 1
            return line, began
        with sock, sock.makefile("rb") as answers:
            for _ in range(PER_SESSION):
                said = b""
                with suppress(OSError):
                    sock.sendall(line + b"\n")
                    said = answers.readline()
                if said != line + b"\n":
                    assert said == b"", said
                    with self._lock:
                        self._figures.again += 1
                    return line, began
                line, began = self._note(line, began, lines)
        return line, began

    def _note(self, line, began, lines):
        took = time.monotonic() - began
        with self._lock:
            self.answered.add(line)
            self._figures.answered += 1
            if took > LATE_S:
                self._figures.late.append(took)
        return next(lines), time.monotonic()


@pytest.fixture
def house(networks, launch, haproxy, examples, tmp_path):
    """Three hosts that HAProxy finds up, and its clients."""
    packaging = examples.parent / "packaging" / "haproxy"
    shutil.copy(examples / "haproxy_agent.py", tmp_path)
    packaged = (packaging / "sockd.toml").read_text()
    hosts = {name: Host(name, networks[name], tmp_path, packaged, launch) for name in HOSTS}
    text = (packaging / "haproxy.cfg").read_text().replace("/run/haproxy/admin.sock mode 660", f"{tmp_path}/stats")
    proxy = haproxy(text + THIRD, "sockd", preexec_fn=networks["proxy"].enter)
    for name in HOSTS:
        _until(lambda name=name: is_up(proxy, name))
    clients = Clients(networks["proxy"], CLIENTS)
    yield hosts, proxy, clients
    clients.finish()


def report(what, figures):
    sys.stdout.write(f"\ntest_hosts {what}: {figures}")


def is_up(proxy, name):
    return proxy.fields(name)["status"] == "UP" and proxy.fields(name)["check_status"] == "L7OK"


def test_what_clients_see(house):
    """Upgrades in turn are not seen at all, and of a host that dies or is cut off no more than what was asked of it."""
    hosts, proxy, clients = house
    clients.wait_for(REQUESTS // 10)
    clients.take()
    for host in hosts.values():
        host.upgrade()
        clients.wait_for(REQUESTS // 3)
    upgraded = clients.take()
    report("upgraded in turn", upgraded)
    assert (upgraded.again, upgraded.refused) == (0, 0)

    hosts["one"].kill()
    _until(lambda: proxy.status("one").startswith("DOWN"))
    clients.wait_for(REQUESTS)
    hosts["one"].start()
    _until(lambda: is_up(proxy, "one"))
    killed = clients.take()
    report("one killed", killed)
    assert killed.refused == 0
    assert killed.again <= CLIENTS

    hosts["two"].cut_off()
    _until(lambda: proxy.status("two").startswith("DOWN"))
    clients.wait_for_each()
    clients.wait_for(REQUESTS)
    hosts["two"].connect_again()
    _until(lambda: is_up(proxy, "two"))
    cut_off = clients.take()
    report("one cut off", cut_off)
    assert cut_off.refused == 0
    assert cut_off.again <= CLIENTS
    assert len(cut_off.late) <= 2 * CLIENTS  # those whose line was on its way to it, or whose connection, or both
    assert max(cut_off.late, default=0.0) < PATIENCE_S  # nobody waited until it gave up by itself

    clients.finish()
    handled = [line for host in hosts.values() for line in host.seen()]
    assert clients.answered <= set(handled)
    asked_again = upgraded.again + killed.again + cut_off.again
    assert len(handled) - len(set(handled)) <= asked_again
