"""Upgrades under the real postmap: every key is answered, and not one line is on its standard error.

Seen to fail: with no connection that goes along.
"""

from __future__ import annotations

import os
import shutil
import threading

import pytest
from controlling import Sockctl
from watching import SOAK

POSTMAP = shutil.which("postmap", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
BATCH = 20_000 if SOAK else 4_000
KEYS, UPGRADES = (200_000, 100) if SOAK else (8_000, 3)
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


@pytest.mark.parametrize("kind", ["table", "socketmap"])
def test_every_key_is_answered_through_upgrades(serve, run, tmp_path, kind):
    (tmp_path / "mine.py").write_text(HANDLERS)
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = mail.example.com\n")
    os.utime(tmp_path / "main.cf", (0, 0))  # Postfix waits two seconds for a younger file to settle
    control = Sockctl(tmp_path)
    listen = f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "mine:{kind}"\n'
    server = serve(config=f'[daemon]\ncontrol = "{control.path}"\n{listen}')
    host_and_port = server.addresses[0].removeprefix("tcp://")
    source = f"tcp:{host_and_port}" if kind == "table" else f"socketmap:inet:{host_and_port}:name"
    over, results = threading.Event(), []

    def upgrade():
        for _ in range(UPGRADES):
            results.append(control.ask("upgrade"))
            over.wait(APART_S)

    upgrades = threading.Thread(target=upgrade)
    upgrades.start()
    answered = 0
    try:
        while answered < KEYS or upgrades.is_alive():
            keys = [f"key{answered + number}@example.com" for number in range(BATCH)]
            done = run(POSTMAP, "-c", tmp_path, "-q", "-", source, input="".join(f"{key}\n" for key in keys).encode())
            assert (done.returncode, done.stderr) == (0, b"")
            assert done.stdout.decode().splitlines() == [f"{key}\tis-{key}" for key in keys]
            answered += BATCH
        upgrades.join()
    finally:
        over.set()
        upgrades.join()
        control.run("stop")
    assert len(results) == UPGRADES
    assert any(result["moved"] for result in results)  # else postmap never had a connection open meanwhile
    assert server.wait() == 0
