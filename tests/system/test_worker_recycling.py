# SPDX-License-Identifier: MIT
"""`max_worker_requests` and `max_worker_age`: workers are replaced one by one, and no client is refused."""

from __future__ import annotations

import subprocess

import pytest
from controlling import Sockctl
from watching import _until

LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'


@pytest.mark.parametrize("limit", ["max_worker_requests = 20", 'max_worker_age = "1s"'])
def test_workers_are_replaced(serve, tmp_path, limit):
    sockctl = Sockctl(tmp_path)
    server = serve(config=f'[daemon]\nworkers = 2\ncontrol = "{sockctl.path}"\n{limit}\n{LISTEN}')
    before = {row["pid"] for row in sockctl.ask("status")["workers"]}

    def are_new():
        for _ in range(20):
            client = server.connect()
            assert client.ask(b"x") == b"X"
            client.close()
        return not {row["pid"] for row in sockctl.ask_directly("status")["workers"]} & before

    _until(are_new, 20)
    assert server.having("worker has served for long enough, replacing it")
    assert {one["level"] for one in server.having("worker ended")} <= {"info"}
    sockctl.run("stop", "--wait")


def test_one_with_a_long_connection_does_not_hold_up_the_others(serve, tmp_path):
    sockctl = Sockctl(tmp_path)
    server = serve(config=f'[daemon]\nworkers = 3\ncontrol = "{sockctl.path}"\nmax_worker_age = "1s"\n{LISTEN}')
    clients = []

    def have_all_one():
        clients.append(server.connect())
        assert clients[-1].ask(b"x") == b"X"
        return all(row["connections"] for row in sockctl.ask("status")["workers"])

    _until(have_all_one)
    _until(lambda: sum(not row["accepts"] for row in sockctl.ask("status")["workers"]) == 2, 20)
    assert [client.ask(b"y") for client in clients] == [b"Y"] * len(clients)


def test_without_workers_it_is_an_error(tmp_path, sockd_script):
    (tmp_path / "sockd.toml").write_text(f"[daemon]\nmax_worker_requests = 5\n{LISTEN}")
    command = [sockd_script, "--check", "-c", "sockd.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78
    assert "sockd.toml:2: daemon.max_worker_requests: without workers the process cannot be replaced" in done.stderr
