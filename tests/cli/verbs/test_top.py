# SPDX-License-Identifier: MIT
"""`sockctl top`: what it draws, seen as text; the screen itself is rich's."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import socket
import struct
import subprocess
import termios
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


def test_without_rich(tmp_path):
    """The message has a command for each way of installing: an environment of pip's, and the system's Python."""
    (tmp_path / "rich.py").write_text("raise ImportError")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([SOCKCTL, "top"], capture_output=True, text=True, timeout=30, env=environment)
    assert done.returncode == 64
    assert done.stderr == "sockctl: top requires the package rich: pip install rich, or apt-get install python3-rich\n"


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


class Screen:
    """`sockctl top` on a terminal of 80 columns and 24 lines."""

    def __init__(self, directory, interval="1h"):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [SOCKCTL, "top", "--control", Sockctl(directory).path, "--interval", interval]
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"}
        )
        os.close(theirs)
        self.seen = ""

    def press(self, keys):
        os.write(self.ours, keys.encode())

    def wait_for(self, text):
        self.seen = self.seen[-20_000:]
        while text not in self.seen:
            assert select.select([self.ours], [], [], 30)[0], self.seen[-2000:]
            self.seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(self.ours, 65536).decode())
        return self.seen

    def wait_for_new(self, text):
        self.seen = ""
        return self.wait_for(text)

    def end(self):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


def test_keys_and_a_terminal_of_80_times_24(serve, tmp_path):
    listen = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{}"\n'
    names = ["upper", "echo", *(f"copy{number}" for number in range(10))]
    services = "".join(f'[service.copy{number}]\nbuiltin = "echo"\n' for number in range(10))
    config = f'[daemon]\ncontrol = "{tmp_path}/control.sock"\n' + "".join(map(listen.format, names)) + services
    server = serve(config=config)
    peers = [server.connect() for _ in range(5)]
    for peer in peers:
        assert peer.ask(b"abc") == b"ABC"
    screen = Screen(tmp_path, "300ms")
    try:
        shown = screen.wait_for("q quit")
        lines = shown.replace("\r", "").split("\n")
        assert "s sort: traffic" in shown
        assert max(map(len, lines)) <= 80
        assert len(lines) <= 25
        assert "... " in shown
        screen.press("s")
        screen.wait_for_new("s sort: frames")
        screen.press("f")
        screen.press("copy7")
        screen.wait_for_new("filter: copy7_")
        screen.press("\r")
        shown = screen.wait_for_new("f filter: copy7")
        assert "copy3" not in shown.split("s sort")[-2][-2000:]
        screen.press("q")
        assert screen.process.wait(20) == 0
    finally:
        screen.end()
