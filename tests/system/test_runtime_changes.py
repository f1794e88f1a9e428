# SPDX-License-Identifier: MIT
"""Every change without a reload, under load, with and without workers: it holds over an upgrade, until a reload.

CHANGES is the table: the command, and who is not served while it holds.  All others are, without one failure.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial

import pytest
from controlling import Sockctl
from watching import _until

BAD, DENIED, GOOD = "127.0.0.2", "127.0.0.4", "127.0.0.3"
CHANGES = {
    "deny": ("main", DENIED, ("deny", DENIED)),
    "rate": ("rated", BAD, ("rate", "rated", "1/h")),
    "total-rate": ("total", BAD, ("rate", "total", "1/h", "--per", "service")),
    "limit": ("limited", BAD, ("limit", "limited", "0")),
    "limit of a listener": ("door", BAD, ("limit", "{door}", "0")),
    "drain": ("tail", BAD, ("drain", "{tail}")),
}
WRONG = {
    ("rate", "main", "fast"): 'fast is no rate; write "100/s", "30/m", "5/10s" or "off"',
    ("rate", "main", "0/s"): "0/s is no rate",
    ("rate", "main", "5/0s"): "5/0s has an interval that is not 1ms to 1d",
    ("rate", "nobody", "5/s"): "no service nobody; known: door, limited, main, rated, tail, total",
    ("rate", "main", "5/s", "--per", "day"): "--per day: known: source, service",
    ("undrain", "tcp://127.0.0.1:1"): "no drained listener tcp://127.0.0.1:1; drained: none",
}
NAMES = ("main", "rated", "total", "limited", "door", "tail")
CONFIG = '[daemon]\nworkers = {workers}\ncontrol = "{control}"\n'
CONFIG += "".join(
    f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{name}"\n[service.{name}]\nbuiltin = "echo"\n'
    for name in NAMES
)


@dataclass
class House:
    """A daemon with a service for each change."""

    server: object
    sockctl: Sockctl
    workers: int

    def __post_init__(self):
        self.find()

    def find(self):
        """Know where each service is now."""
        self.address = {row["service"]: row["address"] for row in self.sockctl.ask("status")["listeners"]}

    def serves(self, service, source=BAD):
        host, _, port = self.address[service].removeprefix("tcp://").rpartition(":")
        with closing(socket.socket()) as sock, suppress(ConnectionError, TimeoutError):
            sock.settimeout(20 if source == GOOD else 0.2)
            sock.bind((source, 0))
            sock.connect((host, int(port)))
            sock.sendall(b"x\n")
            return sock.recv(10) == b"x\n"
        return False

    def has_others(self, pids):
        rows = self.sockctl.ask("status")["workers"]
        return len([row for row in rows if row["answers"] and row["pid"] not in pids]) == self.workers

    def served(self):
        """Which changes do not hold, whichever of the workers has a client."""
        with ThreadPoolExecutor(18) as pool:
            tries = {name: [pool.submit(self.serves, *row[:2]) for _ in range(3)] for name, row in CHANGES.items()}
            return {name for name, row in tries.items() if any(one.result() for one in row)}


@pytest.fixture(params=[1, 4], ids=["alone", "four workers"])
def house(request, serve, tmp_path):
    sockctl = Sockctl(tmp_path)
    server = serve(config=CONFIG.format(workers=request.param, control=sockctl.path))
    yield House(server, sockctl, request.param)
    sockctl.run("stop", "--wait")


def test_changes_hold_over_an_upgrade_and_until_a_reload(house):
    ask, stop, failures = house.sockctl.ask, threading.Event(), []

    def visit():
        while not stop.is_set():
            if not house.serves("main", GOOD):
                failures.append("not served")

    threads = [threading.Thread(target=visit) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        _until(lambda: house.served() == set(CHANGES))
        for _, _, words in CHANGES.values():
            ask(*(word.format(**house.address) for word in words))
        _until(lambda: house.served() == set())
        ask("upgrade")
        _until(lambda: house.served() == set())
        kinds = [row["kind"] for row in ask("overrides")]
        assert kinds == ["deny", "rate", "total-rate", "limit", "limit", "drain"]
        ask("reload")
        house.find()
        _until(lambda: house.served() == set(CHANGES))
        assert ask("overrides") == []
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_drained_listener_is_bound_again_where_it_was(house):
    ask, address = house.sockctl.ask, house.address["tail"]
    ask("drain", address)
    _until(lambda: not house.serves("tail"))
    assert [row["address"] for row in ask("status")["absent"]] == [address]
    assert f"{address}  tail: drained" in house.sockctl.say("status")
    done = house.sockctl.run("drain", address)
    assert (done.returncode, "is not bound, or drained already" in done.stderr) == (64, True), done.stderr
    assert ask("undrain", address) == {"listening": address}
    assert all(house.serves("tail", GOOD) for _ in range(8))
    assert (ask("overrides"), ask("status")["absent"]) == ([], [])
    done = house.sockctl.run("undrain", address)
    assert (done.returncode, done.stderr) == (64, f"sockctl: no drained listener {address}; drained: none\n")


def test_it_is_drained_for_a_time(house):
    ask, address = house.sockctl.ask, house.address["tail"]
    ask("drain", address, "--for", "1s")
    _until(lambda: not house.serves("tail"))
    _until(lambda: all(house.serves("tail") for _ in range(4)))
    assert house.server.wait_for("override ended")["why"] == "its time is over"


def test_a_reload_at_once_binds_what_was_drained(house, tmp_path):
    ask, config = house.sockctl.ask, tmp_path / "sockd.toml"
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        address = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
    text = config.read_text()
    config.write_text(text + f'[[listen]]\naddress = "{address}"\nservice = "tail"\n')
    ask("reload")
    ask("drain", address)
    assert ask("reload")["changes"]["added"] == [[address, "tail"]]
    house.address["tail"] = address
    assert all(house.serves("tail") for _ in range(8))


def test_after_an_upgrade_it_is_bound_again_where_it_was(house):
    ask, address = house.sockctl.ask, house.address["tail"]
    ask("drain", address)
    ask("upgrade")
    assert [row["address"] for row in ask("status")["absent"]] == [address]
    assert ask("undrain", address) == {"listening": address}
    assert all(house.serves("tail") for _ in range(8))


def test_every_other_service_keeps_its_port_over_an_upgrade(house):
    """All have port 0.  Seen failing: behind a drained listener each had the port of the next one."""
    ask, before = house.sockctl.ask, dict(house.address)
    ask("drain", before["main"])
    ask("upgrade")
    status = ask("status")
    assert [(row["address"], row["service"]) for row in status["absent"]] == [(before.pop("main"), "main")]
    assert {row["service"]: row["address"] for row in status["listeners"]} == before


def test_an_upgrade_to_other_listeners_leaves_the_rest_their_ports(house, tmp_path):
    """Seen failing: each had the port of the one that was in its place."""
    config, before = tmp_path / "sockd.toml", dict(house.address)
    head, *tables = config.read_text().split("[[listen]]\n")
    del before["main"]
    config.write_text("[[listen]]\n".join([head, *(one for one in tables[::-1] if '"main"' not in one)]))
    house.sockctl.ask("upgrade")
    house.find()
    assert house.address == before
    before["last"] = before.pop("tail")  # there is no other of the old name
    config.write_text(config.read_text().replace("tail", "last"))
    house.sockctl.ask("upgrade")
    house.find()
    assert house.address == before


@pytest.mark.parametrize("verb", ["upgrade", "reload"])
def test_listeners_with_one_service_keep_their_ports_behind_a_drained_one(serve, tmp_path, verb):
    """Seen failing: the second one had the port of the first, which was drained."""
    sockctl, config = Sockctl(tmp_path), f'[daemon]\ncontrol = "{tmp_path}/control.sock"\n'
    for limit in (11, 22, 33):
        config += f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "echo"\nmax_connections = {limit}\n'
    serve(config=config)

    def ports():
        return {row["max_connections"]: row["address"] for row in sockctl.ask("status")["listeners"]}

    before = ports()
    sockctl.ask("drain", before[11])
    sockctl.ask(verb)
    if verb == "upgrade":
        assert ports() == {limit: before[limit] for limit in (22, 33)}
        sockctl.ask("undrain", before[11])
    assert ports() == before
    sockctl.run("stop", "--wait")


def test_a_reload_binds_what_was_drained_where_it_was(house):
    """Seen failing: the kernel chose another port for it."""
    ask, address = house.sockctl.ask, house.address["main"]
    ask("drain", address)
    assert ask("reload")["changes"]["added"] == [[address, "main"]]
    assert all(house.serves("main") for _ in range(8))


def test_a_worker_that_starts_later_serves_all_but_what_is_drained(house):
    """Seen failing: it was given the closed socket as well, and served no listener behind that one."""
    if house.workers == 1:
        pytest.skip("there are no workers")
    ask = house.sockctl.ask
    for name in ("main", "rated"):
        ask("drain", house.address[name])
        old = {row["pid"] for row in ask("status")["workers"]}
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        _until(partial(house.has_others, old))
        assert all(house.serves("tail") for _ in range(8))
        assert not house.serves(name)
        _until(lambda: ask("status")["draining"] == [])
    assert not house.server.having("defect")
    ask("undrain", house.address["main"])
    assert all(house.serves("main") for _ in range(8))


def is_bound(sock, name):
    with suppress(OSError):
        sock.bind(name)
    return sock.getsockname() == name


def test_what_cannot_be_bound_again_stays_drained(house):
    ask, address = house.sockctl.ask, house.address["tail"]
    ask("drain", address)
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with closing(socket.socket()) as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _until(lambda: not house.serves("tail"))
        _until(lambda: address not in [row["address"] for row in ask("status")["listeners"]])
        _until(lambda: ask("status")["draining"] == [])
        _until(lambda: is_bound(thief, (host, int(port))))  # the last worker closes it a while after it has left
        thief.listen()
        done = house.sockctl.run("undrain", address)
        assert (done.returncode, "Address already in use" in done.stderr) == (71, True), done.stderr
        assert [row["kind"] for row in ask("overrides")] == ["drain"]
    ask("undrain", address)
    assert house.serves("tail", GOOD)


def test_a_rate_without_a_limit(house, tmp_path):
    config = tmp_path / "sockd.toml"
    text = config.read_text().replace(
        'service = "tail"\n', 'service = "tail"\nrate = { connections = 1, per = "1h", burst = 1 }\n', 1
    )
    config.write_text(text)
    ask = house.sockctl.ask
    ask("reload")
    _until(lambda: not house.serves("tail"))
    assert house.server.wait_for("refused")["reason"] == "rate"
    ask("rate", "tail", "off")
    assert all(house.serves("tail", GOOD) for _ in range(8))
    assert "rate  tail       off" in house.sockctl.say("overrides")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_target_that_is_down_loses_its_connections(serve, target, tmp_path, workers):
    first, second = target(), target()
    sockctl = Sockctl(tmp_path)
    text = f'[daemon]\nworkers = {workers}\ncontrol = "{sockctl.path}"\n'
    text += '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "back"\n'
    text += f'[service.back]\nrelay = {{ to = ["{first.address}", "{second.address}"] }}\n'
    server = serve(config=text)
    sockctl.ask("target", "back", second.address, "drained")
    with closing(server.connect()) as one:
        one.send(b"x")
        with closing(first.take()) as reached:
            assert reached.recv(10) == b"x"
            sockctl.ask("target", "back", second.address, "up")
            sockctl.ask("target", "back", first.address, "down")
            with suppress(ConnectionResetError):
                assert reached.recv(10) == b""
    for _ in range(4):
        with closing(server.connect()) as one, closing(second.take()) as reached:
            one.send(b"y")
            assert reached.recv(10) == b"y"


def test_what_is_wrong_is_named(serve, tmp_path):
    sockctl = Sockctl(tmp_path)
    serve(config=CONFIG.format(workers=1, control=sockctl.path))
    for words, error in WRONG.items():
        done = sockctl.run(*words)
        assert (done.returncode, error in done.stderr) == (64, True), done.stderr
