# SPDX-License-Identifier: MIT
"""`max_worker_memory`: a worker that grows without end is replaced, and no client notices.

Seen to fail: with the old one ended before a successor serves, four of these; with the worker asked in place of the
kernel, the one in a call without end; with a look each second, the idle ones.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from controlling import Sockctl
from watching import _until

APP = """
import os
import sockd

KEPT = []
LARGE = 0
KEPT.append(bytearray(b"x" * (LARGE << 20)))

def leak(line):
    if line.startswith(b"leak"):
        KEPT.append(bytearray(b"x" * (int(line[4:]) << 20)))
    while line == b"forever":
        KEPT.append(bytearray(b"x" * (8 << 20)))
        __import__("time").sleep(0.2)
    return b"%d" % os.getpid()

service = sockd.Service()
service.frame(leak)

@service.startup
def up():
    if os.path.exists("broken"):
        raise OSError("no database")
"""
LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{}"\n'
LIMIT = 96
"""MiB: a worker takes 40 at its start."""
GROWN = "worker exceeds max_worker_memory, replacing it"


@pytest.fixture
def house(daemon, tmp_path):
    def start(*, limit=LIMIT, workers=2, options="", large=0):
        limit = f'max_worker_memory = "{limit} MiB"' if limit else ""
        top = f'[daemon]\nworkers = {workers}\nmax_memory = "16 MiB"\ncontrol = "{tmp_path}/control.sock"\n'
        text = f"{top}{limit}\n{options}\n" + LISTEN.format("app:service") + LISTEN.format("metrics")
        one = daemon(toml=text, app=APP.replace("LARGE = 0", f"LARGE = {large}"))
        one.sockctl = Sockctl(tmp_path)
        one.workers = lambda: one.sockctl.ask("status")["workers"]
        return one

    return start


def replaced(one):
    page = one.ask(b"GET /metrics HTTP/1.0\r\n\r\n", 1).decode()
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("sockd_workers_replaced"))
    return {name: int(lines[f'sockd_workers_replaced_total{{reason="{name}"}}']) for name in ("ended", "memory")}


def say(peer, line):
    peer.sendall(line + b"\n")
    return int(peer.recv(100))


def test_a_worker_that_grows_is_replaced_and_no_client_waits(house):
    one = house()
    before = {worker["pid"] for worker in one.workers()}
    peer = one.connect()
    victim = say(peer, b"x")
    one.wait_for("listening", count=2)
    for _ in range(3):
        with suppress(ConnectionError, ValueError):
            assert say(peer, b"leak30") == victim
    line = one.wait_for(GROWN, pid=victim)
    assert line["memory"] > line["max_worker_memory"] == LIMIT << 20
    longest = 0.0
    while psutil.pid_exists(victim):
        began = time.monotonic()
        assert one.ask(b"x\n")
        longest = max(longest, time.monotonic() - began)
    assert longest < 1
    assert peer.recv(10) == b""  # closed in order
    ended = one.wait_for("worker ended", pid=victim)
    assert ended["exit_code"] == 0
    assert ended["level"] == "info"
    now = {worker["pid"] for worker in one.workers()}
    assert len(now) == 2
    assert len(now & before) == 1
    assert replaced(one) == {"ended": 0, "memory": 1}


def test_the_successor_serves_before_the_old_one_stops_and_a_frame_under_way_is_answered(house):
    one = house(workers=2)
    peer = one.connect()
    victim = say(peer, b"x")
    peer.sendall(b"leak90\nhalf")
    assert int(peer.recv(100)) == victim
    one.wait_for(GROWN, pid=victim)
    _until(lambda: any(worker["pid"] == victim and not worker["accepts"] for worker in one.workers()))
    assert sum(worker["accepts"] for worker in one.workers()) == 2
    peer.sendall(b" a line\n")
    assert int(peer.recv(100)) == victim
    assert peer.recv(100) == b""


def test_one_that_leaks_in_a_call_without_end_is_replaced_too(house):
    one = house(options='stop_timeout = "1s"')
    peer = one.connect()
    victim = say(peer, b"x")
    peer.sendall(b"forever\n")
    one.wait_for(GROWN, pid=victim, within=30)
    one.wait_for("worker ended", pid=victim, within=20)
    _until(lambda: all(worker["answers"] for worker in one.workers()))
    assert len(one.workers()) == 2


def test_again_and_again(house):
    one = house()
    for count in range(1, 4):
        with one.connect() as peer, suppress(ConnectionError, ValueError):
            say(peer, b"leak90")
        one.wait_for(GROWN, count=count, within=20)
        one.wait_for("worker ended", count=count, exit_code=0, within=20)
    assert replaced(one) == {"ended": 0, "memory": 3}
    assert len(one.workers()) == 2


def test_a_successor_that_cannot_serve_costs_nobody_anything(house):
    one = house()
    (one.directory / "broken").touch()
    peer = one.connect()
    victim = say(peer, b"leak90")
    one.wait_for("worker did not start", within=20)
    one.wait_for(GROWN, pid=victim, count=2, within=20)
    assert say(peer, b"x") == victim
    assert victim in {worker["pid"] for worker in one.workers() if worker["accepts"]}
    (one.directory / "broken").unlink()
    one.wait_for("worker ended", pid=victim, exit_code=0, within=30)
    assert len(_until(lambda: [one for one in one.workers() if one["accepts"]])) == 2


def test_one_that_is_too_large_from_the_start_is_left(house):
    one = house(large=128)
    one.wait_for("a worker exceeds max_worker_memory from its start")
    with one.connect() as peer:
        say(peer, b"leak30")
        assert say(peer, b"x")
    assert not one.logged(GROWN)
    assert len(one.logged("a worker exceeds max_worker_memory from its start")) == 1


def test_the_limit_comes_and_goes_with_a_reload_and_holds_for_workers_of_before(house):
    one = house(limit=None)
    peer = one.connect()
    victim = say(peer, b"leak90")
    file = one.directory / "sockd.toml"
    text = file.read_text()
    file.write_text(text.replace("workers = 2\n", f'workers = 2\nmax_worker_memory = "{LIMIT} MiB"\n'))
    assert "memory" not in one.sockctl.say("reload")
    one.wait_for("worker ended", pid=victim, exit_code=0)  # it had a connection still
    assert peer.recv(10) == b""
    assert not one.logged(GROWN)


def test_one_in_a_chroot_tells_it_by_itself(house, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    one = house(options=f'user = "nobody"\nchroot = "{empty}"')
    peer = one.connect()
    victim = say(peer, b"leak90")
    one.wait_for(GROWN, pid=victim)
    one.wait_for("worker ended", pid=victim, exit_code=0)


def test_idle_workers_are_looked_at_ever_less_often(house):
    """fails with a look each second"""
    one = house()
    time.sleep(4)  # the pause grows while nothing happens, which is what is measured
    began, switches = time.monotonic(), psutil.Process(one.pid).num_ctx_switches().voluntary
    time.sleep(6)
    woken = psutil.Process(one.pid).num_ctx_switches().voluntary - switches
    assert woken < 6 * (time.monotonic() - began) / 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers = 1", "without workers the process cannot be replaced"),
        ('workers = 2\nmax_memory = "200 MiB"', "no more than a worker's share of max_memory, 100 MiB"),
        ('workers = 2\nmax_memory = "16 MiB"', ""),
    ],
)
def test_check(tmp_path, text, words):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "sockd.toml").write_text(f'[daemon]\n{text}\nmax_worker_memory = "96 MiB"\n{LISTEN.format("upper")}')
    command = [Path(sys.executable).with_name("sockd"), "--check", "-c", tmp_path / "sockd.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (done.returncode == 0) == (not words), done.stderr
    assert words in done.stderr
    assert not words or "daemon.max_worker_memory" in done.stderr
