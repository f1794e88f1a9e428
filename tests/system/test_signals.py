# SPDX-License-Identifier: MIT
"""Signals of the running daemon: HUP, USR1, CHLD, INT; the second TERM is in test_life.py.

Seen to fail: with reload() not reading a wrong configuration is not told; with INT taken
for TERM the unfinished line holds the stop.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

CONFIG = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:upper"\n'


@pytest.fixture
def edit(tmp_path):
    def replace(text):
        (tmp_path / "new").write_text(text)
        os.replace(tmp_path / "new", tmp_path / "sockd.toml")

    return replace


def test_hup_tells_whether_the_configuration_is_in_order(serve, edit, tmp_path):
    server = serve(config=CONFIG)
    server.signal(signal.SIGHUP)
    server.wait_for("reloaded", kept=1, added=0, removed=0)
    edit(CONFIG.replace("service", "servise").replace("tcp:", "tpc:"))
    server.signal(signal.SIGHUP)
    server.wait_for("invalid configuration, keeping the previous one", count=2)
    told = [e["error"] for e in server.having("invalid configuration, keeping the previous one")]
    assert any("sockd.toml:2: listen[0].address: not an address: " in line for line in told)
    assert any('did you mean "service"' in line for line in told)
    assert server.connect().ask(b"still") == b"STILL"
    (tmp_path / "sockd.toml").unlink()
    server.signal(signal.SIGHUP)
    server.wait_for("invalid configuration, keeping the previous one", count=3)
    assert server.connect().ask(b"still") == b"STILL"


def test_hup_without_a_file(serve):
    server = serve("tcp://127.0.0.1:0=upper")
    server.signal(signal.SIGHUP)
    server.wait_for("no configuration file to reload")
    assert server.connect().ask(b"a") == b"A"


def test_chld_does_nothing(serve):
    server = serve("tcp://127.0.0.1:0=upper")
    before = len(server.events)
    server.signal(signal.SIGCHLD)
    server.signal(signal.SIGUSR1)
    server.wait_for("log reopened")
    assert len(server.events) == before + 1


def test_int_stops_at_once(serve):
    server = serve(config='[daemon]\nstop_timeout = "60s"\n' + CONFIG)
    peer = server.connect()
    peer.send(b"first\nunfinished")
    assert peer.line() == b"FIRST\n"
    began = time.monotonic()
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert time.monotonic() - began < 5
