"""examples/haproxy_agent.py drains a server of a real HAProxy and brings it back, as its stats socket tells."""

from __future__ import annotations

import csv
import socket
import subprocess

import pytest
from programs import needs, path_of, port_of

pytestmark = needs("haproxy", "haproxy")

APP = """
def one(line): return b"one"
def two(line): return b"two"
"""
CONFIG = """
global
    stats socket {folder}/stats level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend front
    bind {folder}/front
    default_backend back
backend back
    balance roundrobin
    server one {one} check inter 50 agent-check agent-port {agent_port} agent-inter 20
    server two {two}
"""


class HAProxy:
    """What is asked of it, by its two Unix sockets."""

    def __init__(self, folder):
        self._folder = folder

    def _ask(self, name, words):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self._folder / name))
            sock.sendall(words + b"\n")
            sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(65536), b"")).decode()

    def fields(self, server="one"):
        rows = csv.DictReader(self._ask("stats", b"show stat").removeprefix("# ").splitlines())
        (row,) = [row for row in rows if row["pxname"] == "back" and row["svname"] == server]
        return row

    def status(self, server="one"):
        return self.fields(server)["status"]

    def who_answers(self):
        return {self._ask("front", b"who").strip() for _ in range(8)}


@pytest.fixture
def state(tmp_path):
    """The file that an operator writes."""
    return tmp_path / "haproxy_agent.state"


@pytest.fixture
def haproxy(serve_example, tmp_path, until):
    (tmp_path / "two_servers.py").write_text(APP)
    server = serve_example("haproxy_agent:Agent", "two_servers:one", "two_servers:two")
    agent, one, two = (address.removeprefix("tcp://") for address in server.addresses)
    text = CONFIG.format(folder=tmp_path, one=one, two=two, agent_port=port_of(agent))
    (tmp_path / "haproxy.cfg").write_text(text)
    with subprocess.Popen(
        [path_of("haproxy"), "-db", "-f", tmp_path / "haproxy.cfg"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until((tmp_path / "stats").exists)
        proxy = HAProxy(tmp_path)
        until(lambda: proxy.status() == "UP" and "L7OK" in proxy.fields()["agent_status"])
        yield proxy
        process.kill()
    assert [event for event in server.events if event["level"] == "error"] == []


def test_drained_and_brought_back(haproxy, state, until):
    assert haproxy.who_answers() == {"one", "two"}
    state.write_text("drain\n")
    until(lambda: haproxy.status().startswith("DRAIN"))
    assert haproxy.who_answers() == {"two"}
    assert haproxy.status("two") == "no check"
    state.unlink()
    until(lambda: haproxy.status() == "UP")
    assert haproxy.who_answers() == {"one", "two"}


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [("maint\n", "status", "MAINT"), ("down # full\n", "status", "DOWN (agent)"), ("0%\n", "weight", "0")],
)
def test_other_words(haproxy, state, until, words, field, value):
    state.write_text(words)
    until(lambda: haproxy.fields()[field] == value)
    assert haproxy.who_answers() == {"two"}
    state.write_text("")  # as good as none
    until(lambda: haproxy.status() == "UP" and haproxy.fields()["weight"] == "1")
    assert haproxy.who_answers() == {"one", "two"}
