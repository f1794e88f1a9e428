# SPDX-License-Identifier: MIT
"""An upgrade of a daemon with workers: a new supervisor with workers of its own, while clients come without pause."""

from __future__ import annotations

import os
import threading

import pytest
from controlling import Sockctl
from serving import Client
from watching import SOAK, _until

APP = """
import os

def pid(line):
    return b"%d %s" % (os.getpid(), line)
"""
UPGRADES = 100 if SOAK else 4
VISITORS = 4


@pytest.fixture
def house(serve, tmp_path):
    """A daemon with three workers and a control socket, which serves on `address`."""
    one = Sockctl(tmp_path)
    one.address = f"unix:{tmp_path}/pid.sock"
    (tmp_path / "mine.py").write_text(APP)
    config = f'[daemon]\nworkers = 3\ncontrol = "{one.path}"\n[[listen]]\naddresses = ["{one.address}", '
    one.server = serve(config=config + '"tcp://127.0.0.1:0"]\nservice = "mine:pid"\n')
    one.tcp = one.server.address("mine:pid", "tcp4")
    yield one
    one.server._clients.close()
    one.run("stop")
    assert one.server.wait() == 0, one.server.said()
    assert not one.server.words, one.server.words


def _pid(client):
    return int(client.ask(b"x").split()[0])


def test_nobody_is_refused_or_reset_while_it_is_upgraded(house):
    stop, failures, asked = threading.Event(), [], []

    def visit(address):
        while not stop.is_set():
            try:
                client = Client(address)
                try:
                    asked.append(_pid(client))
                finally:
                    client.close()
            except (OSError, IndexError) as error:
                failures.append(repr(error))

    places = (house.address, house.tcp)
    threads = [threading.Thread(target=visit, args=(places[number % 2],)) for number in range(VISITORS)]
    for thread in threads:
        thread.start()
    try:
        pids = {house.ask("upgrade")["pid"] for _ in range(UPGRADES)}
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(pids) == UPGRADES
    assert len(set(asked)) > UPGRADES  # workers of many generations have answered
    _until(lambda: house.ask("status")["previous_processes"] == 0)


def test_old_workers_end_with_their_last_connection_and_are_not_replaced(house):
    clients = [house.server.connect(house.address) for _ in range(9)]
    pids = [_pid(client) for client in clients]
    assert len(set(pids)) > 1
    house.ask("upgrade")
    gone = pids[0]
    for client, pid in zip(clients, pids, strict=True):
        if pid == gone:
            client.close()
    ended = house.server.wait_for("worker ended", pid=gone)
    assert (ended["exit_code"], ended["level"]) == (0, "info")
    for client, pid in zip(clients, pids, strict=True):
        if pid != gone:
            assert _pid(client) == pid
            client.close()
    assert house.server.process.wait(30) == 0
    assert house.server.having("worker did not start") == []


def test_a_program_that_fails_leaves_supervisor_and_workers(house):
    before = house.ask("status")
    client = house.server.connect(house.tcp)
    pid = _pid(client)
    (house.directory / "mine.py").write_text("1 / 0")
    done = house.run("upgrade")
    assert (done.returncode, "division by zero" in done.stderr) == (78, True)
    status = house.ask("status")
    assert (status["pid"], status["upgrade"]["ok"]) == (before["pid"], False)
    assert [worker["pid"] for worker in status["workers"]] == [worker["pid"] for worker in before["workers"]]
    assert _pid(client) == pid
    (house.directory / "mine.py").write_text(APP)
    house.server.words.clear()  # what the new process said on standard error
    assert house.ask("upgrade")["pid"] != before["pid"]
    assert os.path.exists(house.path)
    assert _pid(client) == pid
