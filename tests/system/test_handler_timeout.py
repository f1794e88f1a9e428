# SPDX-License-Identifier: MIT
"""A handler that does not return: `handler_timeout` replaces its worker, and sockctl says who hangs, and where."""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path

import psutil
import pytest
import stuck
from controlling import Sockctl
from watching import _until

KINDS = ("python", "c_with_lock", "lock")
"""A loop in Python, one in C that holds the interpreter, and a lock."""
SLOW = """
def slow(line):
    entered()
    time.sleep(2)
    return line
"""
ANSWER_S = 1.0
BUSY_S = 0.3
"""For a busy machine."""
TIMEOUT_S = 1.0
SLACK_S = 2.5
"""For the questions to it, its stack in the log, and a busy machine."""


class House:
    """A daemon whose handler hangs, and sockctl."""

    def __init__(self, one, directory):
        self.one, self.sockctl = one, Sockctl(directory)
        self.entered = Path(one.directory) / "entered"

    def hang(self):
        """Have a handler hang; return its client, and the pid of its process."""
        client = self.one.connect()
        before = self.entered.read_text() if self.entered.exists() else ""
        client.sendall(b"x\n")
        _until(lambda: self.entered.exists() and len(self.entered.read_text()) > len(before))
        return client, int(self.entered.read_text().split()[-1])

    def seconds_to_answer(self):
        """How long a reply lasts, without the start of a program that asks."""
        began = time.monotonic()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(str(self.sockctl.path))
            sock.sendall(b'{"verb": "status"}\n')
            while sock.recv(1 << 16):
                pass
        return time.monotonic() - began


@pytest.fixture
def house(daemon, tmp_path):
    def start(kind, options, **more):
        toml = stuck.toml(kind, daemon=f'control = "{tmp_path}/control.sock"\n{options}\n')
        toml = toml.replace('stop_timeout = "60s"', 'stop_timeout = "200ms"')
        return House(daemon(toml=toml, app=stuck.APP + SLOW, **more), tmp_path)

    return start


def line_of(text):
    return int(re.search(r"app\.py:(\d+)", text)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_hangs_is_named_and_replaced_within_the_time(house, kind):
    one = house(kind, f'workers = 2\nhandler_timeout = "{TIMEOUT_S:g}s"')
    began = time.monotonic()
    client, pid = one.hang()
    assert one.seconds_to_answer() < ANSWER_S + BUSY_S
    done = one.sockctl.run("status", "--json")
    assert done.returncode == 0
    rows = {row["pid"]: row for row in json.loads(done.stdout)["workers"]}
    if pid in rows and not rows[pid]["answers"]:
        assert f"(pid {pid}) does not answer" in done.stderr
        if kind != "c_with_lock":
            assert line_of(done.stderr) in stuck.lines_of(kind)
            assert line_of(rows[pid]["stalled"]) in stuck.lines_of(kind)
    told = one.one.wait_for("worker does not return from a handler, replacing it", pid=pid)
    assert time.monotonic() - began < TIMEOUT_S + SLACK_S
    if kind != "c_with_lock":
        assert line_of(told["at"]) in stuck.lines_of(kind)
    name = "tcp://{}:{}".format(*client.getsockname())
    assert one.one.wait_for("connection lost with its worker", peer=name)
    _until(lambda: not psutil.pid_exists(pid))
    assert one.one.wait_for("ended by force")["signal"] == "QUIT"
    assert line_of(one.one.wait_for("ended by force")["at"]) in stuck.lines_of(kind)
    _until(lambda: sum(row["answers"] for row in one.sockctl.ask("status")["workers"]) == 2)
    assert time.monotonic() - began < TIMEOUT_S + 2 * SLACK_S
    assert client.recv(10) == b""


def test_a_worker_that_is_only_slow_is_kept(house):
    one = house("slow", 'workers = 2\nhandler_timeout = "5s"')
    client, _ = one.hang()
    assert client.recv(10)
    assert one.one.logged("worker does not return from a handler, replacing it") == []


def test_connections_say_which_worker_is_missing(house):
    one = house("python", "workers = 2", may_die=True)
    _, pid = one.hang()
    _until(lambda: "loop stalled" in one.sockctl.run("connections").stderr)
    done = one.sockctl.run("connections")
    assert f"(pid {pid}) does not answer: loop stalled at" in done.stderr
    assert "its connections are not listed" in done.stderr
    assert done.returncode == 0
    assert one.sockctl.run("stop", "--wait", "--timeout", "20s").stdout == "stopped\n"


@pytest.mark.parametrize("kind", ["python", "lock"])
def test_without_workers_the_loop_says_itself_where_it_hangs(house, kind):
    one = house(kind, "", may_die=True)
    _, pid = one.hang()
    assert one.seconds_to_answer() < ANSWER_S + BUSY_S
    done = one.sockctl.run("status")
    assert done.returncode == 75
    assert f"pid {pid} does not answer: loop stalled at" in done.stderr
    assert line_of(done.stderr) in stuck.lines_of(kind)
    done = one.sockctl.run("stop", "--wait", "--timeout", "20s")
    assert (done.returncode, done.stdout) == (0, "stopped\n")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_loop_in_c_is_named_by_sockctl_within_its_deadline(house):
    one = house("c_with_lock", "", may_die=True)
    _, pid = one.hang()
    began = time.monotonic()
    done = one.sockctl.run("status", "--timeout", "500ms")
    assert time.monotonic() - began < 0.5 + 3  # the start of a Python on a busy machine; without --timeout it is 10 s
    assert done.returncode == 75
    assert f"the daemon (pid {pid}, running) did not answer within 0.5 s" in done.stderr
    one.one.process.kill()


def test_stop_waits_for_the_end(house):
    one = house("python", "")
    with socket.socket(socket.AF_UNIX):
        done = one.sockctl.run("stop", "--wait")
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")
    assert one.one.process.wait(1) == 0


def test_without_workers_there_is_nobody_to_replace_one(launch, tmp_path):
    (tmp_path / "sockd.toml").write_text(
        '[daemon]\nhandler_timeout = "1s"\n[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'
    )
    one = launch("--check", "-c", "sockd.toml")
    assert one.wait() == 78
    assert "sockd.toml:2: daemon.handler_timeout: without workers" in one.said()
