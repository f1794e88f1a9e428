# SPDX-License-Identifier: MIT
"""Upgrades and reloads under the real postmap: every key is answered, and not one line is on its standard error.

Seen to fail: with no connection that goes along.
"""

from __future__ import annotations

import os
import shutil
import threading
from itertools import pairwise

import pytest
from controlling import Sockctl
from watching import SOAK

POSTMAP = shutil.which("postmap", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
BATCH = 20_000 if SOAK else 4_000
KEYS, TIMES = (200_000, 100) if SOAK else (8_000, 3)
APART_S = 0.3

HANDLERS = """
import sockd

table = sockd.Service()

@table.frame
def answer_table(line):
    return b"200 is-" + line.removeprefix(b"get ")

socketmap = sockd.Service(framing=sockd.Netstring(100_000))

@socketmap.frame
def answer_socketmap(request):
    return b"OK is-" + request.partition(b" ")[2]
"""

pytestmark = [
    pytest.mark.skipif(POSTMAP is None, reason="package postfix is missing"),  # nothing else speaks for Postfix
    pytest.mark.timeout(600),
]


@pytest.fixture
def soaked(serve, run, tmp_path):
    """Have postmap ask for key after key while something is done to the daemon; return what came of that each time."""

    def start(kind, act, *, times, daemon=""):
        (tmp_path / "mine.py").write_text(HANDLERS)
        (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = mail.example.com\n")
        os.utime(tmp_path / "main.cf", (0, 0))  # Postfix waits two seconds for a younger file to settle
        control = Sockctl(tmp_path)
        listen = f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "mine:{kind}"\n'
        server = serve(config=f'[daemon]\ncontrol = "{control.path}"\n{daemon}\n{listen}')
        host_and_port = server.addresses[0].removeprefix("tcp://")
        source = f"tcp:{host_and_port}" if kind == "table" else f"socketmap:inet:{host_and_port}:name"
        over, results = threading.Event(), []

        def disturb():
            for _ in range(times):
                results.append(act(control))
                over.wait(APART_S)

        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        answered = 0
        try:
            while answered < KEYS or disturbing.is_alive():
                keys = [f"key{answered + number}@example.com" for number in range(BATCH)]
                asked = "".join(f"{key}\n" for key in keys).encode()
                done = run(POSTMAP, "-c", tmp_path, "-q", "-", source, input=asked)
                assert (done.returncode, done.stderr) == (0, b"")
                assert done.stdout.decode().splitlines() == [f"{key}\tis-{key}" for key in keys]
                answered += BATCH
        finally:
            over.set()
            disturbing.join()
            control.run("stop")
        assert len(results) == times
        assert server.wait() == 0
        return results

    return start


@pytest.mark.parametrize("kind", ["table", "socketmap"])
def test_every_key_is_answered_through_upgrades(soaked, kind):
    results = soaked(kind, lambda control: control.ask("upgrade"), times=TIMES)
    assert any(result["moved"] for result in results)  # else postmap never had a connection open meanwhile


@pytest.mark.parametrize("kind", ["table", "socketmap"])
def test_every_key_is_answered_through_reloads(soaked, kind):
    results = soaked(kind, lambda control: control.ask("reload"), times=TIMES)
    assert all(result["ok"] for result in results)


@pytest.mark.parametrize("kind", ["table", "socketmap"])
def test_every_key_is_answered_by_workers_through_reloads(soaked, kind):
    def reload(control):
        control.ask("reload")
        return {worker["pid"] for worker in control.ask("status")["workers"] if worker["accepts"]}

    generations = soaked(kind, reload, times=TIMES, daemon="workers = 4")
    assert [len(pids) for pids in generations] == [4] * TIMES
    assert not any(before & after for before, after in pairwise(generations))
