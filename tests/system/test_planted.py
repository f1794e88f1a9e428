# SPDX-License-Identifier: MIT
"""A failure of sockd's own, planted by a handler's module, costs what it was about, and what comes behind it is done.

Seen to fail, each: with actions on signals called one after the other, TERM behind a USR1 whose action fails is acted
on a second later; with timers set anew behind the work, a look that failed once is the last; with answers of workers
told one after the other, those behind one that fails are lost.
"""

from __future__ import annotations

import os
import signal
import urllib.request

import pytest
import stuck
from controlling import Sockctl
from watching import _until

ONCE = """
import os

def once(function, free=0):
    # let the first calls through, fail once, and be as before
    def planted(*args, **kwargs):
        planted.calls += 1
        if planted.calls == free + 1:
            raise RuntimeError("planted")
        return function(*args, **kwargs)

    planted.calls = 0
    return planted

def pid(line):
    return b"%d" % os.getpid()
"""
LISTEN = '[[listen]]\naddress = "{}"\nservice = "{}"\n'
PID = LISTEN.format("tcp://127.0.0.1:0", "app:pid")
METRICS = LISTEN.format("tcp://127.0.0.1:0", "metrics")


def planted(one, count=1):
    assert len(one.logged("defect")) == count
    assert all("RuntimeError: planted" in line["traceback"] for line in one.logged("defect"))


def page(one, path):
    with urllib.request.urlopen(f"http://{one.addresses[1].removeprefix('tcp://')}{path}", timeout=20) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_action_on_a_signal_that_fails_keeps_no_other_from_being_taken(daemon, workers):
    app = ONCE + "from sockd.log.format import OwnHandler\nOwnHandler.reopen = once(OwnHandler.reopen)\n"
    one = daemon(toml=f"[daemon]\nworkers = {workers}\n" + PID, app=app)
    one.process.send_signal(signal.SIGSTOP)
    for number in (signal.SIGUSR1, signal.SIGTERM):
        os.kill(one.pid, number)
    ends = stuck.Ends(one.pid)
    one.process.send_signal(signal.SIGCONT)
    ends.wait(10)
    one.kill()
    assert one.logged("stopped")
    planted(one)


def test_a_drain_whose_step_fails_is_over(daemon):
    app = ONCE + "from sockd.daemon.listeners import ListenerRegistry as kind\nkind.goodbye = once(kind.goodbye)\n"
    one = daemon(toml='[daemon]\nstop_timeout = "30s"\n' + PID, app=app)
    peer = one.connect()
    peer.sendall(b"x\n")
    assert peer.recv(100)
    assert one.stop(within=10) == 0
    planted(one)


def test_a_worker_that_cannot_be_forked_is_forked_later(daemon, tmp_path):
    app = ONCE + "import sockd.daemon.workers.pool as pool\npool.fork = once(pool.fork, free=2)\n"
    one = daemon(toml=f'[daemon]\nworkers = 2\ncontrol = "{tmp_path}/control.sock"\n' + PID, app=app)
    os.kill(Sockctl(tmp_path).ask("status")["workers"][0]["pid"], signal.SIGKILL)
    _until(lambda: one.logged("defect"))
    _until(lambda: len(Sockctl(tmp_path).ask("status")["workers"]) == 2)
    planted(one)


def test_a_worker_whose_numbers_cannot_be_taken_is_asked_again(daemon, tmp_path):
    """fails with the question left open: that worker counts as silent, and its numbers as they were, for ever"""
    app = ONCE + "from sockd.daemon.workers.listeners import ProcessStats\nreal = ProcessStats.from_table\n"
    app += "ProcessStats.from_table = staticmethod(once(real))\n"
    top = f'[daemon]\nworkers = 2\ncontrol = "{tmp_path}/control.sock"\n'
    one = daemon(toml=top + PID + METRICS, app=app)
    assert one.ask(b"x\n")
    assert "sockd_build_info" in page(one, "/metrics")
    planted(one)
    assert 'sockd_connections_total{service="app:pid"' in page(one, "/metrics")
    assert [worker["answers"] for worker in Sockctl(tmp_path).ask("status")["workers"]] == [True, True]


def test_a_retired_worker_whose_look_fails_ends(daemon, tmp_path):
    app = (
        ONCE
        + "from sockd.net.listen.stream_listener import StreamListener as One\n"
        + "One.is_idle = property(once(One.is_idle.fget))\n"
    )
    one = daemon(toml=f'[daemon]\nworkers = 2\ncontrol = "{tmp_path}/control.sock"\n' + PID, app=app)
    assert Sockctl(tmp_path).run("reload").returncode == 0
    one.wait_for("worker ended", count=2, exit_code=0)
    planted(one, count=2)  # in each


def test_a_check_of_a_target_that_fails_to_begin_is_not_the_last(daemon, target):
    app = ONCE + "import sockd.services.relay.server as server\nserver.TargetConnect = once(server.TargetConnect)\n"
    there = target()
    toml = PID + LISTEN.format("tcp://127.0.0.1:0", "there")
    check = 'connect_timeout = "1s", check = { interval = "100ms" }'
    toml += f'[service.there]\nrelay = {{ to = ["{there.address}"], {check} }}\n'
    one = daemon(toml=toml, app=app)
    there.take()
    there.take()
    planted(one)
