# SPDX-License-Identifier: MIT
"""The alert rules of packaging/prometheus under the real Prometheus, which scrapes daemons with a staged trouble each.

The rules are as they are but for their times, of which a minute here is 2 s.  Seen failing: with a metric renamed, and
with a rule whose trouble is not staged.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from controlling import Sockctl
from unpacked import program
from watching import _until

RULES = Path(__file__).parents[2] / "packaging" / "prometheus" / "sockd.rules.yml"
MINUTE_S = 2
SCRAPE = "2s"
"""More than the 0.8 s that a worker has to answer, after which the page does without it."""
WITHIN_S = 60
PAUSE_S = 0.2
APP = """
import time
def quick(line): return line.upper()
def fails(line): raise ValueError("planted")
def hangs(line): time.sleep(3600)
"""
PLANTED = """
from sockd.log.format import OwnHandler
reopen = OwnHandler.reopen
def planted(self):
    OwnHandler.reopen = reopen
    raise RuntimeError("planted")
OwnHandler.reopen = planted
def quick(line): return line
"""
LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{}"\n'


class Staged:
    """A daemon, and its trouble.

    Attributes:
        daemon, listener: keys of its configuration.
        service: of its second listener.
    """

    daemon = ""
    service = "alerts_app:quick"
    listener = ""

    def start(self, launch, directory):
        directory.mkdir()
        self.sockctl = Sockctl(directory)
        self.config = directory / "sockd.toml"
        daemon = f'[daemon]\ncontrol = "{self.sockctl.path}"\npath = "{directory.parent}"\nstop_timeout = "1s"\n'
        self.config.write_text(
            f"{daemon}{self.daemon}\n" + LISTEN.format("metrics") + LISTEN.format(self.service) + self.listener
        )
        self.server = launch("--foreground", "--log-format", "json", "-c", self.config)
        return self

    def connect(self, stack=None):
        host, _, port = self.server.addresses[1].removeprefix("tcp://").rpartition(":")
        sock = socket.create_connection((host, int(port)), timeout=5)
        return sock if stack is None else stack.enter_context(sock)

    def stage(self, stack):
        """Begin it."""

    def again(self, stack):
        """Whatever has to come again and again; called every PAUSE_S."""

    def visit(self):
        with suppress(OSError), closing(self.connect()) as sock:
            sock.sendall(b"hello\n")
            sock.recv(100)


class Calm(Staged):
    def again(self, stack):
        self.visit()


class SockdNotReady(Staged):
    daemon = 'pre_drain = "1h"'

    def stage(self, stack):
        self.sockctl.ask("stop")


class SockdReloadFailed(Staged):
    def stage(self, stack):
        self.config.write_text("nonsense")
        assert self.sockctl.run("reload").returncode == 78


class SockdHandlerErrors(Staged):
    service = "alerts_app:fails"

    def again(self, stack):
        self.visit()


class SockdClientsRefused(Staged):
    listener = 'max_connections = 1\nat_limit = "refuse"\n'

    def stage(self, stack):
        sock = self.connect(stack)
        sock.sendall(b"one that is silent would give way to the next\n")
        assert sock.recv(100)

    def again(self, stack):
        self.visit()


class SockdAcceptQueueOverflows(Staged):
    listener = "max_connections = 1\nbacklog = 1\n"

    def again(self, stack):
        sock = stack.enter_context(socket.socket())
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", int(self.server.addresses[1].rpartition(":")[2])))


class SockdWorkerHangs(Staged):
    daemon = "workers = 2"
    service = "alerts_app:hangs"

    def stage(self, stack):
        self.connect(stack).sendall(b"hello\n")


class SockdWorkersReplaced(Staged):
    daemon = "workers = 2"
    left = 4

    def again(self, stack):
        if self.left:
            workers = [row["pid"] for row in self.sockctl.ask("status")["workers"] if row["answers"]]
            for pid in workers[:1]:
                self.left -= 1
                os.kill(pid, signal.SIGKILL)


class SockdNearMaxConnections(Staged):
    daemon = "max_connections = 40"

    def stage(self, stack):
        for _ in range(38):
            self.connect(stack)


class SockdDefect(Staged):
    service = "alerts_planted:quick"

    def stage(self, stack):
        self.server.signal(signal.SIGUSR1)


def faster(rules):
    """Return rules with shorter times."""
    seconds = {"s": MINUTE_S / 60, "m": MINUTE_S}
    return re.sub(
        r"(for: |\[)(\d+)([ms])", lambda found: f"{found[1]}{round(int(found[2]) * seconds[found[3]] * 1000)}ms", rules
    )


class Prometheus:
    """The real one."""

    def __init__(self, directory, targets):
        (directory / "sockd.rules.yml").write_text(faster(RULES.read_text()))
        jobs = [{"targets": [address], "labels": {"instance": name}} for name, address in targets.items()]
        text = {
            "global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": "500ms"},
            "rule_files": ["sockd.rules.yml"],
            "scrape_configs": [{"job_name": "sockd", "static_configs": jobs}],
        }
        (directory / "prometheus.yml").write_text(json.dumps(text))  # which is YAML as well
        words = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]
        with open(directory / "prometheus.log", "wb") as log:
            self.process = subprocess.Popen(
                [program("prometheus", "prometheus"), *words], cwd=directory, stdout=log, stderr=log
            )
        try:
            self.address = _until(self._address, WITHIN_S)
        except BaseException:
            self.end()
            raise

    def _address(self):
        assert self.process.poll() is None
        own = psutil.Process(self.process.pid).net_connections("tcp")
        return next((f"http://127.0.0.1:{one.laddr.port}" for one in own if one.status == "LISTEN"), None)

    def firing(self):
        """The names of the alerts that fire, by instance."""
        found = {}
        with suppress(OSError), urlopen(f"{self.address}/api/v1/alerts", timeout=20) as answer:
            for one in json.load(answer)["data"]["alerts"]:
                if one["state"] == "firing":
                    assert one["annotations"]["remedy"]
                    found.setdefault(one["labels"]["instance"], set()).add(one["labels"]["alertname"])
        return found

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def house(launch, tmp_path):
    """A daemon for each trouble, one without, and Prometheus."""
    program("prometheus", "prometheus")
    (tmp_path / "alerts_app.py").write_text(APP)
    (tmp_path / "alerts_planted.py").write_text(PLANTED)
    kinds = enumerate(Staged.__subclasses__())  # numbers, for the path of a Unix socket has 107 bytes at the most
    staged = [kind().start(launch, tmp_path / str(number)) for number, kind in kinds]
    for one in staged:
        one.server.ready()
    targets = {type(one).__name__: one.server.addresses[0].removeprefix("tcp://") for one in staged}
    with ExitStack() as stack:
        prometheus = Prometheus(tmp_path, targets)
        stack.callback(prometheus.end)
        yield staged, prometheus, stack


def test_each_staged_trouble_fires_its_alert_in_the_real_prometheus(house):
    staged, prometheus, stack = house
    _until(lambda: len(scraped(prometheus)) == len(staged), WITHIN_S)
    for one in staged:
        one.stage(stack)
    over = threading.Event()

    def go_on():
        while not over.wait(PAUSE_S):
            for one in staged:
                one.again(stack)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    wanted = {type(one).__name__: {type(one).__name__} for one in staged if not isinstance(one, Calm)}
    assert set(wanted) == set(re.findall(r"alert: (\w+)", RULES.read_text()))
    seen = {}

    def all_fire():
        for name, alerts in prometheus.firing().items():
            seen.setdefault(name, set()).update(alerts)
        return seen.keys() >= wanted.keys()

    try:
        _until(all_fire, WITHIN_S)
    except AssertionError:
        pytest.fail(f"no alert of {sorted(wanted.keys() - seen.keys())}; seen: {seen}")
    finally:
        over.set()
        thread.join(30)
    assert seen == wanted


def scraped(prometheus):
    """The instances that it has scraped."""
    with suppress(OSError), urlopen(f"{prometheus.address}/api/v1/query?query=sockd_ready", timeout=20) as answer:
        return {one["metric"]["instance"] for one in json.load(answer)["data"]["result"]}
    return set()
