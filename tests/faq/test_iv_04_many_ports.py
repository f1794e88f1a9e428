# SPDX-License-Identifier: MIT
# Seen failing against a daemon that listens on the first address of each table only, and one whose listener at its
# limit overlooks a connection that ended in the same turn: it waits for another end, for ever.
"""FAQ IV.4: any number of listeners in one process, one loop."""

from __future__ import annotations

import os
import subprocess

import pytest
from serving import STAY_ROOT

LISTENERS = 1000


def test_a_thousand_listeners(daemon, multiplexer):
    """On addresses of the kernel's choice, TCP and UDP, and every one of them answers."""
    if multiplexer == "select":
        pytest.skip("select() cannot wait for as many (FAQ II.14)")
    tables = [
        f'[[listen]]\naddresses = {["tcp://127.0.0.1:0"] * (LISTENERS - 100)}\nservice = "upper"\n',
        f'[[listen]]\naddresses = {["udp://127.0.0.1:0"] * 100}\nservice = "echo"\n',
    ]
    one = daemon(toml="".join(tables), listeners=LISTENERS)
    assert len(set(one.addresses)) == LISTENERS
    for index in range(LISTENERS):
        with one.connect(index) as client:
            client.sendall(b"hello\n")
            assert client.recv(100) == (b"HELLO\n" if index < LISTENERS - 100 else b"hello\n")
    assert LISTENERS <= one.descriptors() < LISTENERS + 100
    assert os.listdir(f"/proc/{one.pid}/task") == [str(one.pid)]  # one thread


def test_select_cannot_wait_for_as_many_and_says_so(sockd_script, tmp_path):
    """FAQ II.14: no daemon that listens and never accepts."""
    listen = f'[[listen]]\naddresses = {["tcp://127.0.0.1:0"] * LISTENERS}\nservice = "upper"\n'
    (tmp_path / "sockd.toml").write_text('[daemon]\nmultiplexer = "select"\n' + listen)
    done = subprocess.run(
        [sockd_script, *STAY_ROOT, "--foreground", "-c", "sockd.toml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 78
    assert f"{LISTENERS} listeners leave none for a connection; use auto, epoll or poll" in done.stderr


def test_a_connection_that_ends_makes_room_for_the_next_one_on_every_listener(daemon):
    """The limit of the daemon is common to its listeners; whoever waits in the backlog comes in at once."""
    listeners = f'[[listen]]\naddresses = {["tcp://127.0.0.1:0"] * 5}\nservice = "upper"\n'
    one = daemon(toml="[daemon]\nmax_connections = 1\n" + listeners)
    for number in range(200):
        with one.connect(number % 5, timeout=5) as client:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"HELLO\n"


def test_several_services_in_one_loop(daemon, tmp_path):
    one = daemon(
        "tcp://127.0.0.1:0=upper",
        "tcp://127.0.0.1:0=echo",
        f"unix:{tmp_path}/s=app:length",
        "udp://127.0.0.1:0=app:length",
        app="def length(line):\n    return str(len(line)).encode()\n",
    )
    assert [one.ask(b"hello\n", index) for index in range(4)] == [b"HELLO\n", b"hello\n", b"5\n", b"5\n"]
