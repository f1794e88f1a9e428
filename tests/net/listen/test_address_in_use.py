# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest

from sockd.net.address.address import Address, resolve_endpoints
from sockd.net.listen import address_in_use
from sockd.net.listen.address_in_use import LocalSocket, describe_holder, describe_pids, describe_process, path_pids

HOLDER = """
import socket, sys
family, kind, host = (int(word) for word in sys.argv[1:3]), sys.argv[3], sys.argv[4]
sock = socket.socket(*family)
sock.bind(host if kind == "unix" else (host, 0))
if kind != "udp":
    sock.listen()
print(0 if kind == "unix" else sock.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Start a process that holds an address; gives it and its port."""
    started = []

    def start(kind, host):
        family = {"tcp4": (2, 1), "tcp6": (10, 1), "udp": (2, 2), "unix": (1, 1)}[kind]
        words = [sys.executable, "-c", HOLDER, *(str(int(n)) for n in family), kind, host, "the\nmarker"]
        child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(child)
        return child, int(child.stdout.readline())

    yield start
    for child in started:
        child.communicate()


def describe(text):
    (endpoint,) = resolve_endpoints(Address.parse(text), passive=True)
    return describe_holder(endpoint)


@pytest.mark.parametrize(
    ("kind", "held", "asked"),
    [
        ("tcp4", "127.0.0.1", "tcp://127.0.0.1:{}"),
        ("tcp4", "127.0.0.1", "tcp://:{}"),
        ("tcp4", "0.0.0.0", "tcp://127.0.0.1:{}"),
        ("tcp6", "::", "tcp://127.0.0.1:{}"),
        ("tcp6", "::1", "tcp://[::1]:{}"),
        ("tcp6", "::ffff:127.0.0.1", "tcp://127.0.0.1:{}"),
        ("udp", "127.0.0.1", "udp://127.0.0.1:{}"),
    ],
)
def test_the_holder_is_named_with_its_command_line(hold, kind, held, asked):
    child, port = hold(kind, held)
    said = describe(asked.format(port))
    assert said.startswith(
        f"held by pid {child.pid} ({psutil.Process(child.pid).name()}), command line: {sys.executable}"
    )
    assert "\n" not in said


def test_a_process_on_another_address_of_that_port_is_not_blamed(hold):
    _, port = hold("tcp4", "127.7.7.1")
    assert describe(f"tcp://127.7.7.2:{port}") == address_in_use.UNSEEN  # where no other test leaves TIME_WAIT


def test_the_holder_of_a_path_is_found(hold, tmp_path):
    child, _ = hold("unix", f"{tmp_path}/s")
    assert path_pids(f"{tmp_path}/s") == [child.pid]
    assert path_pids(f"{tmp_path}/t") == []
    assert f"pid {child.pid} (" in describe(f"unix:{tmp_path}/s")


def test_time_wait_is_told_from_a_living_holder():
    with socket.socket() as server:  # without SO_REUSEADDR, so that its TIME_WAIT blocks the port
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port)) as client:
                server.accept()[0].close()
                assert client.recv(1) == b""
    said = describe(f"tcp://127.0.0.1:{port}")
    assert said == "no process holds it: 2 connections in TIME_WAIT, free within a minute (tcp(7))"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], address_in_use.UNSEEN),
        ([("LISTEN", None)], address_in_use.UNSEEN),
        ([("TIME_WAIT", None)], "no process holds it: 1 connection in TIME_WAIT, free"),
        ([("TIME_WAIT", None), ("FIN_WAIT2", None)], "1 connection in TIME_WAIT, 1 closing"),
        ([("ESTABLISHED", 999_999_999), ("LISTEN", 888_888_888)], "held by pid 888888888"),
        ([("ESTABLISHED", 999_999_999), ("TIME_WAIT", None)], "held by pid 999999999"),
    ],
)
def test_states_are_told_apart(monkeypatch, rows, said):
    table = [LocalSocket("127.0.0.1", 7, status, pid) for status, pid in rows]
    monkeypatch.setattr(address_in_use, "_bound", lambda _: table)
    found = describe("tcp://127.0.0.1:7")
    assert said in found
    assert "999999999" not in found or "999999999" in said


def test_only_the_first_workers_are_named():
    said = describe_pids([999_999_994, 999_999_993, 999_999_992, 999_999_991, None, 999_999_991])
    assert said == "held by pid 999999991; pid 999999992; pid 999999993 and 1 more"


def test_this_very_process_is_pointed_out():
    assert "this process" in describe_process(os.getpid())


@pytest.mark.parametrize("error", [psutil.AccessDenied(), OSError(13, "denied")])
def test_what_may_not_be_seen_is_no_error(monkeypatch, error):
    def refuse(_):
        raise error

    monkeypatch.setattr(psutil, "net_connections", refuse)
    assert describe("tcp://127.0.0.1:7") == address_in_use.UNSEEN
    assert describe("unix:/tmp/nowhere") == address_in_use.UNSEEN


def test_a_long_command_line_is_cut(hold):
    said = address_in_use._one_line("a\x1b" + "b" * 200)
    assert len(said) == address_in_use.MAX_COMMAND_CHARS
    assert said.startswith("a b")
    assert said.endswith("...")
