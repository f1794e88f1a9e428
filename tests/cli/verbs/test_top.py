# SPDX-License-Identifier: MIT
"""`sockctl top`: what it draws, seen as text; the screen itself is rich's."""

from __future__ import annotations

import os
import socket
import subprocess
import threading

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


@pytest.mark.parametrize("verb", ["top", "connections", "status"])
def test_names_that_peers_choose_are_shown_and_not_obeyed(serve, tmp_path, verb):
    """Neither the terminal's sequences nor rich's markup: `[/x]` closes nothing, `[abc::1]` is no style."""
    listen = f'[[listen]]\naddress = "unix:{tmp_path}/[red]s"\nservice = "upper"\n'
    serve(config=f'[daemon]\ncontrol = "{tmp_path}/control.sock"\n{listen}')
    with socket.socket(socket.AF_UNIX) as peer:
        peer.bind(b"\0[/x]\x1b[31m%d" % os.getpid())
        peer.connect(f"{tmp_path}/[red]s")
        peer.sendall(b"abc\n")
        assert peer.recv(10) == b"ABC\n"
        command = [SOCKCTL, verb, "--control", Sockctl(tmp_path).path]
        command += ["--interval", "100ms", "--times", "1"] if verb == "top" else []
        environment = {**os.environ, "COLUMNS": "300", "LINES": "40"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    assert done.returncode == 0, done.stderr
    assert "/[red]s" in done.stdout
    assert verb == "status" or f"unix:@[/x]\\x1b[31m{os.getpid()}" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("verb", ["status", "top", "stop", "reload"])
def test_an_answer_of_somebody_else_is_printed_and_not_obeyed(tmp_path, verb):
    with socket.socket(socket.AF_UNIX) as impostor:
        impostor.bind(str(tmp_path / "control.sock"))
        impostor.listen()

        def answer():
            sock, _ = impostor.accept()
            with sock:
                sock.recv(1000)
                sock.sendall(b'{"ok": false, "error": "\\u001b]0;title\\u0007\\nsecond", "exit": 71}\n')

        thread = threading.Thread(target=answer)
        thread.start()
        done = Sockctl(tmp_path).run(verb)
        thread.join()
    assert done.returncode == 71
    assert done.stderr == "sockctl: \\x1b]0;title\\x07\nsockctl: second\n"
