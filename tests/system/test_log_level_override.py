# SPDX-License-Identifier: MIT
"""`sockctl log-level LEVEL --service NAME`: one service's lines, in all workers, over an upgrade, for a time."""

from __future__ import annotations

import pytest
from controlling import Sockctl
from watching import _until

LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{}"\n'


@pytest.fixture(params=[1, 4], ids=["alone", "four workers"])
def house(request, serve, tmp_path):
    sockctl = Sockctl(tmp_path)
    text = f'[daemon]\nworkers = {request.param}\ncontrol = "{sockctl.path}"\n'
    server = serve(config=text + LISTEN.format("upper") + LISTEN.format("echo"))
    server.sockctl = sockctl
    yield server
    sockctl.run("stop", "--wait")


def logged(server, marker):
    """Of which services a visit is in the log; the marker is a visit that is always there."""
    before = len(server.having("closed"))
    clients = [server.connect(address) for address in server.addresses[:2]]
    for client in clients:
        assert client.ask(b"x").lower() == b"x"
        client.close()
    names = lambda: {one["service"] for one in server.having("closed")[before:]}  # noqa: E731 - one question, asked more than once
    _until(lambda: marker in names())
    return names()


def test_the_level_of_one_service(house):
    ask = house.sockctl.ask
    assert logged(house, "upper") <= {"upper", "echo"}
    row = ask("log-level", "warning", "--service", "upper")
    assert (row["kind"], row["subject"], row["value"]) == ("log-level", "upper", 30)
    assert "log-level  upper    warning  next reload" in house.sockctl.say("overrides")
    assert [logged(house, "echo") for _ in range(4)] == [{"echo"}] * 4
    ask("upgrade")
    assert [logged(house, "echo") for _ in range(4)] == [{"echo"}] * 4
    ask("reload")
    _until(lambda: "upper" in logged(house, "upper"))
    assert ask("overrides") == []


def test_more_of_one_service_for_a_time(house):
    ask = house.sockctl.ask
    ask("log-level", "error")
    ask("log-level", "info", "--service", "echo", "--for", "2s")
    assert logged(house, "echo") == {"echo"}
    _until(lambda: ask("overrides") == [])
    before = len(house.having("closed"))
    for _ in range(4):
        client = house.connect(house.addresses[1])
        assert client.ask(b"x") == b"x"
        client.close()
    assert len(house.having("closed")) == before


def test_what_is_wrong(house):
    for words, text in [
        (["info", "--service", "nosuch"], "no service nosuch; known: echo, upper"),
        (["info", "--for", "1h"], "--for needs --service"),
    ]:
        done = house.sockctl.run("log-level", *words)
        assert (done.returncode, text in done.stderr) == (64, True), done.stderr
