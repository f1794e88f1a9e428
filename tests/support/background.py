# SPDX-License-Identifier: MIT
"""A daemon in the background, as `sockd` without --foreground makes it, and what /proc tells of it.

`background(toml=...)` runs the command to its end and returns a `Started`: its exit code and
words, and the daemon behind it, found by a variable of its environment.  Whatever it left
running is killed at the end of the test.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import uuid
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from watching import WITHIN_S, _until

MARK = "SOCKD_TEST_MARK"
START_S = 30
PYTESTS = ("pytest-", "popen-gw")
"""How the directories begin that pytest and pytest-xdist make above tmp_path, of mode 0700."""
KEEPERS = ("sockd-pidfile", "sockd-files")
"""Processes of a daemon that keep files for it."""
USER = 'user = "root"' if os.geteuid() == 0 else ""


def processes_marked(mark: str) -> list[psutil.Process]:
    """The living processes that were started with the mark in their environment."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if one.environ().get(MARK) == mark and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


def status_of(pid: int, thread: int | None = None) -> dict[str, list[str]]:
    """The fields of /proc/PID/status (proc(5)), or of one of its threads."""
    path = Path(f"/proc/{pid}/task/{thread}/status" if thread else f"/proc/{pid}/status")
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {key: value.split() for key, _, value in lines}


class Started:
    """What a run of `sockd` left: its exit code, its words, and the daemon if there is one.

    Attributes:
        code, output, words: exit code, standard output and standard error of the command.
        log: the file that the daemon writes.
    """

    def __init__(self, process: subprocess.Popen, log: Path, mark: str) -> None:
        self.process = process
        self.log = log
        self.mark = mark
        self.code: int | None = None
        self.output = self.words = ""

    def finish(self) -> Started:
        """Wait for the command that was started, not for the daemon."""
        self.output, self.words = self.process.communicate(timeout=START_S)
        self.code = self.process.returncode
        return self

    @property
    def pid(self) -> int:
        """The daemon; there must be exactly one process, besides KEEPERS, once these have their names."""
        found: list[psutil.Process] = []

        def is_one() -> bool:
            found[:] = [one for one in processes_marked(self.mark) if one.name() not in KEEPERS]
            return len(found) == 1

        _until(is_one)
        return found[0].pid

    @property
    def alive(self) -> bool:
        return bool(processes_marked(self.mark))

    @property
    def lines(self) -> list[dict]:
        """The log so far; a line that is being written does not exist yet."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def logged(self, message: str) -> list[dict]:
        return [line for line in self.lines if line["message"] == message]

    def wait_for(self, message: str, count: int = 1) -> dict:
        return _until(lambda: len(found := self.logged(message)) >= count and found[count - 1])

    @property
    def addresses(self) -> list[str]:
        return [line["address"] for line in self.logged("listening")]

    def connect(self, index: int = 0) -> socket.socket:
        address = self.addresses[index]
        if address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(WITHIN_S)
            sock.connect(address.removeprefix("unix:"))
            return sock
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        return socket.create_connection((host, int(port)), timeout=WITHIN_S)

    def ask(self, line: bytes, index: int = 0) -> bytes:
        with self.connect(index) as sock:
            sock.sendall(line + b"\n")
            sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def status(self, thread: int | None = None) -> dict[str, list[str]]:
        return status_of(self.pid, thread)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Signal the daemon and wait until it is gone."""
        self.send(number)
        _until(lambda: not self.alive, 30)


@pytest.fixture
def background(tmp_path, sockd_script):
    """Start daemons in the background: `background(daemon='user = "nobody"', listen=...)`.

    Args of the call:
        daemon: lines of [daemon] besides the log; `user = "root"` if root runs the tests and none is named.
        listen, service: of the one [[listen]].
        toml: the whole rest of the file in place of it.
        app: text of app.py.
        words: of the command line; prefix: words before the command.
        wait: False to return while the command still runs.
        environment, options: for the process.
    """
    directories = itertools.count()
    started: list[Started] = []
    shared = tmp_path / "shared"  # where a daemon that has dropped rights can still look
    shared.mkdir(mode=0o755)

    def start(
        *,
        daemon="",
        listen="tcp://127.0.0.1:0",
        service="upper",
        toml=None,
        app="",
        words=(),
        prefix=(),
        wait=True,
        environment=None,
        **options,
    ) -> Started:
        directory = shared / f"background{next(directories)}"
        directory.mkdir()
        log, mark = directory / "log", uuid.uuid4().hex
        if not re.search("^user =", daemon, re.M):
            daemon += "\n" + USER
        rest = toml or f'[[listen]]\naddress = "{listen}"\nservice = "{service}"\n'
        own = "" if re.search("^log =", daemon, re.M) else f'log = {{ to = "{log}", format = "json" }}'
        (directory / "sockd.toml").write_text(f"[daemon]\n{daemon}\n{own}\n{rest}")
        if app:
            (directory / "app.py").write_text(app)
        process = subprocess.Popen(
            [*prefix, sockd_script, "-c", "sockd.toml", *words],
            cwd=directory,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", MARK: mark, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        one = Started(process, log, mark)
        started.append(one)
        return one.finish() if wait else one

    yield start
    for one in started:
        for left in processes_marked(one.mark):
            with suppress(psutil.NoSuchProcess):
                left.kill()
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


@pytest.fixture
def as_root():
    """Skip where the tests do not run as root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def open_path(tmp_path):
    """Let another user walk down to tmp_path, whose upper directories pytest makes for us alone."""
    with ExitStack() as stack:
        for directory in (tmp_path, *tmp_path.parents):
            mode = directory.stat().st_mode & 0o7777
            if directory.name.startswith(PYTESTS):
                stack.enter_context(_opened_with_others(directory))
            elif not mode & 0o001 and directory.stat().st_uid == os.geteuid():
                directory.chmod(mode | 0o011)
                stack.callback(directory.chmod, mode)
        yield tmp_path


@contextmanager
def _opened_with_others(directory):
    """Have a directory of pytest's open, which tests that run side by side share: the last one closes it again."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        os.fchmod(fd, 0o711)
        yield
        with suppress(BlockingIOError):  # somebody needs it still
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(fd, 0o700)
    finally:
        os.close(fd)
