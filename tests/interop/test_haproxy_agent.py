# SPDX-License-Identifier: MIT
"""examples/haproxy_agent.py drains a server of a real HAProxy and brings it back, as its stats socket tells."""

from __future__ import annotations

import pytest
from programs import needs, port_of

pytestmark = needs("haproxy", "haproxy")

APP = """
def one(line): return b"one"
def two(line): return b"two"
"""
LOADED = """
import os
os.getloadavg = lambda: (float(os.environ["LOAD"]), 0.0, 0.0)
from haproxy_agent import Agent
"""
CONFIG = """
global
    stats socket {directory}/stats level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout check 30s  # else it is agent-inter, and a busy machine has no answer in time
frontend front
    bind {directory}/front
    default_backend back
backend back
    balance roundrobin
    server one {one} check inter 50 agent-check agent-port {agent_port} agent-inter 20
    server two {two}
"""


@pytest.fixture
def state(tmp_path):
    """The file that an operator writes."""
    return tmp_path / "haproxy_agent.state"


@pytest.fixture
def proxy(serve_example, haproxy, tmp_path, until):
    (tmp_path / "two_servers.py").write_text(APP)
    server = serve_example("haproxy_agent:Agent", "two_servers:one", "two_servers:two")
    agent, one, two = (address.removeprefix("tcp://") for address in server.addresses)
    started = haproxy(CONFIG.format(directory=tmp_path, one=one, two=two, agent_port=port_of(agent)), "back")
    until(lambda: started.status("one") == "UP" and "L7OK" in started.fields("one")["agent_status"])
    yield started
    assert [event for event in server.events if event["level"] == "error"] == []


def who_answers(proxy):
    return {proxy.front(b"who").strip() for _ in range(8)}


def test_drained_and_brought_back(proxy, state, until):
    assert who_answers(proxy) == {"one", "two"}
    state.write_text("drain\n")
    until(lambda: proxy.status("one").startswith("DRAIN"))
    assert who_answers(proxy) == {"two"}
    assert proxy.status("two") == "no check"
    state.unlink()
    until(lambda: proxy.status("one") == "UP")
    assert who_answers(proxy) == {"one", "two"}


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [("maint\n", "status", "MAINT"), ("down # full\n", "status", "DOWN (agent)"), ("0%\n", "weight", "0")],
)
def test_other_words(proxy, state, until, words, field, value):
    state.write_text(words)
    until(lambda: proxy.fields("one")[field] == value)
    assert who_answers(proxy) == {"two"}
    state.write_text("")  # as good as none
    until(lambda: proxy.status("one") == "UP" and proxy.fields("one")["weight"] == "1")
    assert who_answers(proxy) == {"one", "two"}


def test_its_share_is_what_its_load_leaves(serve_example, tmp_path):
    (tmp_path / "loaded.py").write_text(LOADED)
    for load, words in {"0": b"100%", "1": b"75%", "3.9": b"5%", "20": b"5%"}.items():
        server = serve_example("loaded:Agent", environment={"LOAD": load, "HAPROXY_AGENT_FULL_LOAD": "4"})
        assert server.connect().to_end() == b"ready up " + words + b"\n"
        server.stop()
