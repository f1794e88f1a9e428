# SPDX-License-Identifier: MIT
"""State of a handler's module: `Service.snapshot` and `Service.restore`, over a reload, an upgrade, and in workers.

Fails where there are no such hooks: the new code begins with an empty table.
"""

from __future__ import annotations

import os
import signal

import pytest
from controlling import Sockctl

STORE = """
import sockd

service = sockd.Service()
table = {}

@service.snapshot
def table_now():
    return SNAPSHOT

@service.restore
def table_before(state):
    RESTORE

@service.frame
def answer(line):
    key, _, value = line.decode().partition("=")
    if value:
        table[key] = value
    return b"WORD " + table.get(key, "none").encode()
"""


class House(Sockctl):
    def module(self, word, *, snapshot="table", restore="table.update(state)"):
        text = STORE.replace("WORD", word).replace("SNAPSHOT", snapshot).replace("RESTORE", restore)
        (self.directory / "store.py").write_text(text)

    def configure(self, more=""):
        text = f'[daemon]\ncontrol = "{self.path}"\n{more}\n'
        for scheme in ("tcp", "udp"):
            text += f'[[listen]]\naddress = "{scheme}://127.0.0.1:0"\nservice = "store"\n'
        (self.directory / "sockd.toml").write_text(text + '[service.store]\nhandler = "store:service"\n')


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    house.module("old")
    house.configure()
    return house


def start(serve):
    return serve(options=["-c", "sockd.toml"])


def test_a_reload_keeps_it(house, serve):
    server = start(serve)
    before = server.connect()
    assert before.ask(b"a=1") == b"old 1"
    house.module("new")
    house.say("reload")
    after = server.connect()
    assert after.ask(b"a") == b"new 1"
    assert (before.ask(b"a=2"), after.ask(b"a")) == (b"old 2", b"new 1")  # the old code has a table of its own


def test_an_upgrade_keeps_it(house, serve):
    server = start(serve)
    assert server.connect().ask(b"a=1") == b"old 1"
    house.module("new")
    pid = house.ask("upgrade")["pid"]
    assert server.connect().ask(b"a") == b"new 1"
    os.kill(pid, signal.SIGTERM)


FAULTS = {
    "snapshot": ({"snapshot": "1 / 0"}, {}, "store: snapshot hook failed at {file}:9: ZeroDivisionError"),
    "value": ({"snapshot": "{1j}"}, {}, "store: snapshot hook: Encoding objects of type complex is unsupported"),
    "restore": ({}, {"restore": "raise KeyError(1)"}, "store: restore hook failed at {file}:13: KeyError: 1"),
}


@pytest.mark.parametrize("verb", ["reload", "upgrade"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_hook_that_fails_leaves_the_old_code(house, serve, name, verb):
    old, new, words = FAULTS[name]
    house.module("old", **old)
    server = start(serve)
    assert server.connect().ask(b"a=1") == b"old 1"
    house.module("new", **new)
    done = house.run(verb)
    assert done.returncode == 78
    assert words.format(file=house.directory / "store.py") in done.stderr
    assert server.connect().ask(b"a") == b"old 1"


def test_each_worker_begins_anew(house, serve):
    house.configure("workers = 2")
    server = start(serve)
    assert server.connect().ask(b"a=1") == b"old 1"
    house.module("new")
    house.say("reload")
    assert server.connect().ask(b"a") == b"new none"
