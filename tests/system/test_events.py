# SPDX-License-Identifier: MIT
"""`sockctl events`: what the daemon does, also in its workers, over an upgrade, whatever the level of the log is."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from contextlib import closing

import pytest
from controlling import SOCKCTL, Sockctl
from watching import _until

from sockd.log.events import CATEGORIES

LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'


class Followed:
    """`sockctl events` while it runs."""

    def __init__(self, sockctl, *words):
        command = [SOCKCTL, "events", "--control", sockctl.path, *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()

    def events(self):
        return [json.loads(line) for line in self.lines]

    def wait_for(self, category, message, **fields):
        def found():
            fitting = (one for one in self.events() if (one.get("category"), one.get("message")) == (category, message))
            return [one for one in fitting if all(one.get(key) == value for key, value in fields.items())]

        _until(found)
        return found()[0]


@pytest.fixture(params=[1, 4], ids=["alone", "four workers"])
def house(request, serve, tmp_path):
    sockctl = Sockctl(tmp_path)
    server = serve(config=f'[daemon]\nworkers = {request.param}\ncontrol = "{sockctl.path}"\n{LISTEN}')
    server.sockctl, server.workers, server.followers = sockctl, request.param, []

    def follow(*words, is_logged=True):
        before = len(server.having("control", verb="events"))
        one = Followed(sockctl, *words)
        server.followers.append(one)
        if is_logged:
            _until(lambda: len(server.having("control", verb="events")) > before)
        return one

    server.follow = follow
    yield server
    for one in server.followers:
        one.end()
    sockctl.run("stop", "--wait")


def test_what_it_does(house):
    followed = house.follow("--json")
    sockctl = house.sockctl
    sockctl.ask("deny", "192.0.2.0/24", "--for", "1s")
    assert followed.wait_for("override", "override set")["subject"] == "192.0.2.0/24"
    followed.wait_for("override", "override ended", why="its time is over")
    sockctl.ask("deny", "127.0.0.1")
    with closing(socket.socket()) as client:
        host, _, port = house.addresses[0].removeprefix("tcp://").rpartition(":")
        client.connect((host, int(port)))
        refused = followed.wait_for("limit", "refused", reason="denied")
    assert ("worker" in refused) == (house.workers > 1)
    sockctl.ask("reload")
    followed.wait_for("reload", "reloaded", kept=1)
    if house.workers > 1:
        pid = sockctl.ask("status")["workers"][0]["pid"]
        os.kill(pid, signal.SIGKILL)
        assert followed.wait_for("worker", "worker ended", pid=pid)["level"] == "error"
    before = sockctl.ask("status")["pid"]
    sockctl.ask("upgrade")
    followed.wait_for("upgrade", "upgrading")
    followed.wait_for("upgrade", "taken over")  # by the new process, which is followed now
    assert sockctl.ask("status")["pid"] != before
    sockctl.ask("drain", house.addresses[0])
    followed.wait_for("drain", "no longer listening")


def test_whatever_the_level_of_the_log_is(house):
    house.sockctl.ask("log-level", "error")
    followed = house.follow("--json", "--last", "100", is_logged=False)
    house.sockctl.ask("deny", "192.0.2.0/24")
    followed.wait_for("override", "override set")
    assert not house.having("override set")
    house.sockctl.ask("reload")
    followed.wait_for("reload", "reloaded")


def test_as_text_with_the_last_ones_and_an_end(house):
    house.sockctl.ask("deny", "192.0.2.0/24")
    house.sockctl.ask("deny", "198.51.100.0/24")
    done = house.sockctl.run("events", "--last", "1", "--count", "1")
    assert done.returncode == 0
    time, level, kind, *words = done.stdout.split()
    assert time.endswith("Z")
    assert (level, kind, words[:2]) == ("warning", "override:", ["override", "set"])
    assert "subject=198.51.100.0/24" in words
    assert house.sockctl.run("events", "--last", "-1").returncode == 64
    followed = house.follow()
    house.sockctl.run("stop", "--wait")
    assert followed.process.wait(20) == 75


def test_a_reader_that_is_slow_learns_how_many_it_lost(house):
    if house.workers > 1:
        pytest.skip("the supervisor is the same, and each override is a message to four workers")
    with socket.socket(socket.AF_UNIX) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(str(house.sockctl.path))
        slow.sendall(b'{"verb": "events"}\n')
        answers = slow.makefile("rb")
        assert json.loads(answers.readline())["ok"]
        count = 0
        for number in range(1500):
            subject = f"2001:db8:{number:x}::/64"
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(house.sockctl.path))
                sock.sendall(json.dumps({"verb": "deny", "network": subject, "duration": "1h"}).encode() + b"\n")
                assert json.loads(sock.makefile("rb").readline())["ok"]
                count += 1
        house.sockctl.ask("status")
        slow.settimeout(20)
        seen = lost = 0
        last = threading.Timer(0.5, lambda: house.sockctl.ask("deny", "192.0.2.1"))
        last.start()
        while True:
            line = json.loads(answers.readline())
            lost += line.get("lost", 0)
            seen += line.get("message") == "override set"
            if line.get("subject") == "192.0.2.1/32":
                break
        last.join()
        assert seen + lost == count + 1


def test_followers_are_few(house):
    followers = [house.follow() for _ in range(8)]
    done = house.sockctl.run("events")
    assert (done.returncode, "8 clients follow" in done.stderr) == (75, True)
    followers[0].process.kill()
    house.sockctl.ask("deny", "192.0.2.0/24")
    _until(lambda: house.sockctl.run("events", "--last", "1", "--count", "1").returncode == 0)


def test_each_category_is_of_messages_that_there_are():
    from pathlib import Path

    texts = (Path(__file__).parents[2] / "docs" / "log-events.md").read_text(encoding="utf-8")
    assert [message for message in CATEGORIES if f"`{message}`" not in texts] == []
