"""`sockctl top`: what it draws, seen as text; the screen itself is rich's."""

from __future__ import annotations

import os
import subprocess

import pytest
from controlling import SOCKCTL, Sockctl

pytest.importorskip("rich", reason="the extra sockd[top] is not installed")


def test_one_look(serve, tmp_path):
    listen = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'
    server = serve(config=f'[daemon]\ncontrol = "{tmp_path}/control.sock"\n{listen}')
    peer = server.connect()
    assert peer.ask(b"abc") == b"ABC"
    command = [SOCKCTL, "top", "--control", Sockctl(tmp_path).path, "--interval", "100ms", "--times", "2"]
    environment = {**os.environ, "COLUMNS": "140", "LINES": "40"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"pid {server.process.pid}  serving" in done.stdout
    assert server.addresses[0] in done.stdout
    assert peer.name in done.stdout
    assert "FRAMES/S" in done.stdout


@pytest.mark.parametrize("interval", ["0", "2h", "soon"])
def test_intervals_that_are_none(interval):
    done = subprocess.run([SOCKCTL, "top", "--interval", interval], capture_output=True, text=True, timeout=30)
    assert done.returncode == 64


def test_without_a_daemon(tmp_path):
    done = Sockctl(tmp_path).run("top")
    assert done.returncode == 71
    assert "is it running" in done.stderr
