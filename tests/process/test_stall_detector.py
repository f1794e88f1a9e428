# SPDX-License-Identifier: MIT
"""A handler that holds up the loop is named while it does.

Seen to fail: with the timer never armed; with `_next` not doubled, which floods the log.
"""

from __future__ import annotations

import time

import pytest

APP = """
import time
import zlib


def deep(seconds):
    time.sleep(seconds)


def nap(line):
    deep(float(line))
    return line


def spin(line):
    end = time.monotonic() + float(line)
    while time.monotonic() < end:
        pass
    return line


class Slow:
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        time.sleep(float(data))
        self.transport.write(data)
"""


@pytest.fixture
def slow(serve, tmp_path):
    def start(name, **options):
        (tmp_path / "slow.py").write_text(APP)
        return serve(f"tcp://127.0.0.1:0=slow:{name}", "tcp://127.0.0.1:0=upper", **options)

    return start


@pytest.mark.parametrize(("name", "handler"), [("nap", "nap"), ("spin", "spin"), ("Slow", "Slow.data_received")])
@pytest.mark.parametrize("multiplexer", ["auto", "select"])
def test_it_is_named_with_its_line_while_it_lasts(slow, tmp_path, name, handler, multiplexer):
    server = slow(name, options=["--multiplexer", multiplexer])
    peer = server.connect()
    began = time.monotonic()
    peer.send(b"0.6\n")
    stalled = server.wait_for("event loop stalled")
    assert time.monotonic() - began < 0.6 - 0.05  # it has not come back yet
    assert 0.1 <= stalled["seconds"] <= 0.2
    assert stalled["handler"] == f"slow:{handler}"
    lines = (tmp_path / "slow.py").read_text().splitlines()
    path, _, number = stalled["at"].rpartition(":")
    assert path.endswith("slow.py")
    assert any(word in lines[int(number) - 1] for word in ("deep(", "monotonic", "pass", "sleep("))
    assert ("deep" in stalled["stack"]) == (name == "nap")
    assert peer.line() == b"0.6\n"
    assert 0.5 < server.wait_for("event loop resumed")["seconds"] < 1
    assert len(server.having("event loop stalled")) <= 4  # each time after twice the time


def test_nothing_is_said_of_short_turns(slow):
    server = slow("nap")
    peer, other = server.connect(), server.connect(server.addresses[1])
    for _ in range(40):
        assert peer.ask(b"0.02") == b"0.02"
        assert other.ask(b"a") == b"A"
    assert server.having("event loop stalled") == []


def test_it_can_be_set_and_switched_off(serve, tmp_path):
    (tmp_path / "slow.py").write_text(APP)
    listen = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "slow:nap"\n'
    for value, count in (("0s", 0), ("1s", 0), ("20ms", 1)):
        server = serve(config=f'[daemon]\nstall_time = "{value}"\n{listen}')
        assert server.connect().ask(b"0.25") == b"0.25"
        assert bool(server.having("event loop stalled")) == bool(count)
        server.stop()


def test_an_idle_loop_has_no_timer(slow):
    server = slow("nap")
    assert server.connect().ask(b"0.01") == b"0.01"
    status = f"/proc/{server.process.pid}/status"

    def switches():
        with open(status) as lines:
            return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)

    time.sleep(0.5)  # the timer of the answer ends
    before = switches()
    time.sleep(1)  # what must not happen cannot be waited for
    assert switches() - before <= 8  # a timer of 50 ms makes 20; a busy machine takes the processor away at times
