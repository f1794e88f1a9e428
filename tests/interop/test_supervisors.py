# SPDX-License-Identifier: MIT
"""Under the real s6 and runit, by the files that docs/operations.md prints.

Readiness is seen when sockd serves and not before, which the import of a handler holds up; then a reload, a kill, a
stop, and a configuration with which nobody starts it again.  Seen failing without the newline to --notify-fd.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from controlling import SOCKCTL, Sockctl
from unpacked import program
from watching import START_S, _until

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
WAIT_S = 30
APP = """
import os
if os.path.exists("{gate}"):
    with open("{gate}") as gate:
        gate.read()

def reply(line):
    return b"one"
"""
CONFIGURATION = """
[daemon]
{user}control = "{directory}/control.sock"
[[listen]]
address = "unix:{directory}/front.sock"
service = "app:reply"
"""


def printed(supervisor, directory):
    """The files of the page for a supervisor, by name, with a directory of the test's."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    named = [(re.search(r"^# (\w+): (\w+)", block, re.MULTILINE), block) for block in blocks]
    return {
        found[2]: re.sub(r"/etc/sockd|/run/sockd", str(directory), block).replace("/usr/bin", str(SOCKCTL.parent))
        for found, block in named
        if found and found[1] == supervisor
    }


class Supervisor:
    """A supervisor, and sockd as its one service."""

    def __init__(self, directory):
        self.service = directory / "services" / "sockd"
        self.service.parent.mkdir()
        self._files = printed(self.name, directory)
        self._place()
        own = [str(SOCKCTL.parent), *{os.path.dirname(program(one, self.package)) for one in self.programs}]
        self._environment = {**os.environ, "PATH": os.pathsep.join([*own, os.environ["PATH"]])}
        self._process = self.command(*self.started_by())
        _until(self.is_up)

    def _place(self):
        self.service.mkdir()
        for name, text in self._files.items():
            (self.service / name).write_text(text)
            (self.service / name).chmod(0o755)

    def command(self, *words):
        return subprocess.Popen(list(map(str, words)), env=self._environment)

    def run(self, *words):
        """Its code and standard output."""
        done = subprocess.run(
            list(map(str, words)), env=self._environment, stdout=subprocess.PIPE, text=True, timeout=2 * WAIT_S
        )
        return done.returncode, done.stdout.strip()

    def end(self):
        self.run(*self.ended_by())
        self._process.terminate()
        self._process.wait(WAIT_S)


class S6(Supervisor):
    name = package = "s6"
    programs = ("s6-svscan",)

    def _place(self):
        super()._place()
        (self.service / "notification-fd").write_text("3\n")

    def started_by(self):
        return "s6-svscan", self.service.parent

    def ended_by(self):
        return "s6-svscanctl", "-t", self.service.parent

    def is_up(self):
        return self.run("s6-svok", self.service)[0] == 0

    def _says(self, fields):
        return self.run("s6-svstat", "-o", fields, self.service)[1]

    def pid(self):
        return int(self._says("pid"))

    def is_unready(self):
        return self._says("up,ready") == "true false"

    def has_given_up(self):
        return self._says("up,wantedup,exitcode") == "false false 78"

    def start(self):
        return "s6-svc", "-u", self.service

    def wait(self):
        return "s6-svwait", "-U", "-t", WAIT_S * 1000, self.service

    def reload(self):
        return "s6-svc", "-h", self.service

    def stop(self):
        return "s6-svc", "-wD", "-T", WAIT_S * 1000, "-d", self.service


class Runit(Supervisor):
    name = package = "runit"
    programs = ("runsvdir", "runsv", "sv")

    def started_by(self):
        return "runsvdir", self.service.parent

    def ended_by(self):
        return "sv", "-w", WAIT_S, "force-shutdown", self.service

    def is_up(self):
        return (self.service / "supervise" / "ok").exists()

    def pid(self):
        return int((self.service / "supervise" / "pid").read_text() or 0)

    def is_unready(self):
        return self.pid() > 0 and self.run(self.service / "check")[0] != 0

    def has_given_up(self):
        return self.run("sv", "status", self.service)[1].startswith("down") and not self.pid()

    def start(self):
        return "sv", "up", self.service

    def wait(self):
        return "sv", "-w", WAIT_S, "start", self.service

    def reload(self):
        return "sv", "hup", self.service

    def stop(self):
        return "sv", "-w", WAIT_S, "stop", self.service


@pytest.fixture(params=[S6, Runit], ids=lambda one: one.name)
def supervisor(request, tmp_path):
    """One of them, which starts sockd, or is about to."""
    for name in request.param.programs:
        program(name, request.param.package)
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "app.py").write_text(APP.format(gate=tmp_path / "gate"))
    user = 'user = "root"\n' if os.geteuid() == 0 else ""
    (tmp_path / "sockd.toml").write_text(CONFIGURATION.format(directory=tmp_path, user=user))
    started = request.param(tmp_path)
    yield started
    started.end()


def ask(directory):
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(str(directory / "front.sock"))
        sock.sendall(b"x\n")
        return sock.recv(100)


def opened(gate):
    """The writing end of a FIFO, once somebody reads it."""
    found = []

    def is_read():
        try:
            found.append(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    _until(is_read, within=START_S)
    return found[0]


def test_its_life(supervisor, tmp_path):
    with supervisor.command(*supervisor.wait()) as waiter:
        gate = opened(tmp_path / "gate")
        _until(supervisor.is_unready)
        assert waiter.poll() is None
        (tmp_path / "gate").unlink()
        os.close(gate)
        assert waiter.wait(WAIT_S) == 0
    assert ask(tmp_path) == b"one\n"  # at the first try
    first = supervisor.pid()
    assert Sockctl(tmp_path).ask("status")["pid"] == first

    (tmp_path / "app.py").write_text("def reply(line):\n    return b'another'\n")
    assert supervisor.run(*supervisor.reload())[0] == 0
    _until(lambda: ask(tmp_path) == b"another\n")
    assert supervisor.pid() == first

    os.kill(first, signal.SIGKILL)
    _until(lambda: supervisor.pid() not in (first, -1, 0))
    assert supervisor.run(*supervisor.wait())[0] == 0
    assert ask(tmp_path) == b"another\n"

    assert supervisor.run(*supervisor.stop())[0] == 0  # after the drain, with 0
    assert not (tmp_path / "front.sock").exists()

    (tmp_path / "sockd.toml").write_text("nonsense = 1\n")
    supervisor.run(*supervisor.start())
    _until(supervisor.has_given_up)
