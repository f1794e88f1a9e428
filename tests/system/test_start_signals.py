# SPDX-License-Identifier: MIT
"""A signal that comes at any moment of a start is noted, and acted on in order once it serves.

A start is held at three places by a FIFO: while its module is imported, in a startup hook (when the pid stands in its
file), in that of a worker.  Seen to fail with handlers installed where the loop is made: the default action ends it;
with those of a worker installed by itself: USR1, which a supervisor passes on, ends one; with the reader of signals
added before it serves: TERM in a coroutine's startup ends the start by a defect.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
import stuck
from watching import _until

IMPORT = """
import os
os.mkfifo("{fifo}") if not os.path.exists("{fifo}") else None
if not os.path.exists("{fifo}.passed"):
    open("{fifo}").read()
    open("{fifo}.passed", "w").close()

def answer(line):
    return line.upper()
"""
HOOK = """
import contextlib
import os
import sockd

answer = sockd.Service()
answer.frame(bytes.upper)

@answer.startup
def up():
    if not os.path.exists("{fifo}.passed"):
        with contextlib.suppress(FileExistsError):  # of another worker
            os.mkfifo("{fifo}")
        open("{fifo}").read()
        open("{fifo}.passed", "w").close()
"""
COROUTINE = """
import asyncio
import os
import sockd

answer = sockd.Service()

@answer.session
async def session(reader, writer):
    async for line in reader:
        writer.write(line.upper())

@answer.startup
async def up():
    if not os.path.exists("{fifo}.passed"):
        os.mkfifo("{fifo}")
        while not os.path.exists("{fifo}.passed"):
            await asyncio.sleep(0.01)
"""
PLACES = {"import": IMPORT, "hook": HOOK, "coroutine's hook": COROUTINE}


@pytest.fixture
def held(daemon, tmp_path):
    """Start a daemon that is held; `go_on()` lets it."""

    def start(place, top=""):
        fifo = tmp_path / "fifo"
        own = f'[daemon]\npidfile = "{tmp_path}/pid"\ncontrol = "{tmp_path}/control"\n{top}'
        toml = own + '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:answer"\n'
        one = daemon(toml=toml, app=PLACES[place].format(fifo=fifo), listeners=0, may_die=True)
        _until(fifo.exists, 20)
        if place == "hook":
            assert (tmp_path / "pid").read_text().strip() == str(one.pid)

        def go_on():
            if place == "coroutine's hook":
                (tmp_path / "fifo.passed").touch()
            else:
                with open(fifo, "w"):  # which waits for the one that reads
                    pass

        one.go_on = go_on
        return one

    return start


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("top", ["", "workers = 2\n"])
def test_all_that_came_is_done_once_it_serves(held, place, top):
    if top and place != "import":
        pytest.skip("a hook is a worker's, see below")
    one = held(place, top)
    numbers = [signal.SIGUSR1, signal.SIGCHLD, signal.SIGHUP]
    for number in numbers[: 2 if place == "coroutine's hook" else 3]:
        stuck.send(one.pid, number, _until)
    assert one.process.poll() is None
    one.go_on()
    one.wait_for("listening", within=20)
    one.wait_for("log reopened", within=20)
    if place != "coroutine's hook":
        one.wait_for("reloaded", within=20)
    assert one.ask(b"a\n") == b"A\n"
    one.let_clients_go()
    assert one.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_what_comes_while_sockd_itself_is_imported_waits(daemon, workers):
    """fails without sockd.cli.start: HUP ends it"""
    toml = f'[daemon]\nworkers = {workers}\n[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'
    one = daemon(toml=toml, listeners=0, may_die=True)
    _until(lambda: "_sockbuf" in Path(f"/proc/{one.pid}/maps").read_text(), 20)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        os.kill(one.pid, number)
    one.wait_for("reloaded", within=20)
    assert one.ask(b"a\n") == b"A\n"
    one.let_clients_go()
    assert one.stop() == 0


@pytest.mark.parametrize("place", PLACES)
def test_term_stops_it_in_order(held, place):
    one = held(place)
    stuck.send(one.pid, signal.SIGTERM, _until)
    one.go_on()
    assert one.process.wait(20) == 0
    one.kill()
    assert [line["message"] for line in one.lines][-2:] == ["stopping", "stopped"]


def test_usr2_upgrades_it(held, tmp_path):
    one = held("hook")
    stuck.send(one.pid, signal.SIGUSR2, _until)
    one.go_on()
    upgraded = one.wait_for("upgraded", within=20)
    os.kill(upgraded["pid"], signal.SIGTERM)
    _until(lambda: not os.path.exists(f"/proc/{upgraded['pid']}"))


@pytest.mark.parametrize("place", ["import", "hook"])
def test_one_int_ends_it_within_a_second(held, place):
    one = held(place)
    ends = stuck.Ends(one.pid)
    os.kill(one.pid, signal.SIGINT)
    assert ends.wait(10) < 1.0 + stuck.SLACK_S
    one.kill()
    (line,) = one.logged("ended by force")
    assert line["at"].endswith("app.py:5" if place == "import" else "app.py:14")


def test_workers_that_wait_for_something_hold_up_no_stop(held):
    """fails with a supervisor that waits: TERM is acted on when the hook is over"""
    one = held("hook", "workers = 2\n")
    ends = stuck.Ends(one.pid)
    os.kill(one.pid, signal.SIGTERM)
    assert ends.wait(10) < 5
    one.kill()
    assert one.process.returncode == 75
    assert [line["error"] for line in one.logged("not serving")] == ["the daemon is stopping"]


def test_what_a_supervisor_passes_on_ends_no_worker_that_begins(held, tmp_path):
    one = held("hook", "workers = 2\n")
    for pid in (child.pid for child in psutil.Process(one.pid).children()):
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2):
            stuck.send(pid, number, _until)
    one.go_on()
    one.wait_for("listening", within=20)
    assert one.ask(b"a\n") == b"A\n"
    assert not one.logged("worker ended")
    one.let_clients_go()
    assert one.stop() == 0


def test_what_a_starter_leaves_us_with_is_put_right(daemon):
    """SIGCHLD ignored, signals blocked: fails without reset_signals(): programs' ends are nobody's, TERM never comes"""
    shell = ["env", "--ignore-signal=CHLD", "--block-signal=TERM,HUP,USR1"]
    toml = '[daemon]\n[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "p"\n[service.p]\n'
    one = daemon(toml=toml + 'exec = ["/bin/sh", "-c", "exit 3"]\nuser = "root"\n', prefix=shell)
    with one.connect() as peer:
        peer.shutdown(1)
        assert peer.recv(10) == b""
    assert one.wait_for("program ended")["exit_code"] == 3
    one.let_clients_go()
    assert one.stop() == 0


def test_a_background_start_with_ended_children_ignored(background):
    one = background(prefix=["env", "--ignore-signal=CHLD", "--block-signal=TERM"])
    assert one.code == 0, one.words
    assert one.ask(b"a\n")[:1] == b"A"
    one.stop()
