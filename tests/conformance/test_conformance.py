# SPDX-License-Identifier: MIT
"""What is written for asyncio is told the same by sockd: every scenario under both, its transcript compared.

A transcript is what the client got, and what the handler noted. Each is played over TCP and Unix sockets, with what
the client sends in one piece and byte by byte. What differs on purpose is a table; docs/handlers.md has it, too.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from serving import LIMIT_S, Client, Server

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import protocols_told  # noqa: E402
import streams  # noqa: E402
from steps import EOF, RESET, SCENARIOS, Await  # noqa: E402

KINDS = ("tcp", "unix")
FILES = ("steps.py", "streams.py", "protocols_told.py", "by_asyncio.py")
CASES = [
    pytest.param(name, kind, size, id=f"{name}-{kind}-{size or 'whole'}")
    for name, (_, _, pieces) in SCENARIOS.items()
    for kind in KINDS
    for size in ((0, 1) if pieces else (0,))
]
DIFFERENT = {
    "RaisesInPause": [["made"], ["data", "x"], ["pause"], ["lost", "LookupError"]],
}
"""Scenarios of which sockd tells something else: an exception ends its connection whichever callback it comes from."""


class Side:
    """One of the two: where its scenarios are served, and its diaries."""

    def __init__(self, addresses, diaries):
        self.addresses = addresses
        self.diaries = diaries

    def play(self, name, kind, size):
        """Do what the client of a scenario does; return the transcript."""
        with suppress(FileNotFoundError):
            (self.diaries / name).unlink()
        client = Client(self.addresses[name, kind])
        said = b""
        try:
            for step in SCENARIOS[name][1]:
                said += self.step(client, step, size, len(said))
            with suppress(ConnectionResetError, ValueError):  # ValueError: it was closed by a reset of ours
                said += client.to_end()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it had not read all: asyncio's FIN is an RST then, while sockd waits for the peer's (FAQ II.5)
        finally:
            with suppress(OSError):
                client.close()
        return said.decode("latin-1"), self.diary(name)

    @staticmethod
    def step(client, step, size, before):
        if step == EOF:
            with suppress(OSError):  # the other end may have reset it by now
                client.half_close()
        elif step == RESET:
            client.reset()
        elif isinstance(step, Await):
            return client.file.read(step.count - before)
        else:
            for at in range(0, len(step), size or len(step)):
                client.send(step[at : at + (size or len(step))])
        return b""

    def diary(self, name):
        end = time.monotonic() + LIMIT_S
        while not (self.diaries / name).exists():
            assert time.monotonic() < end, f"{name} has not ended"
            time.sleep(0.002)  # asks again: a file is no event
        return json.loads((self.diaries / name).read_text())


def asyncio_side(directory, wanted, environment, stack):
    words = [f"{name}={'unix:' + str(directory / name) if kind == 'unix' else 'tcp:'}" for name, kind in wanted]
    process = subprocess.Popen(
        [sys.executable, str(directory / "by_asyncio.py"), *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it prints the exceptions that the scenarios raise
        text=True,
    )
    stack.callback(process.stdout.close)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return {key: process.stdout.readline().split()[1] for key in wanted}


def sockd_side(directory, wanted, environment, stack):
    listens = []
    for name, kind in wanted:
        module = "streams" if hasattr(streams, name) else "protocols_told"
        address = f"unix:{directory}/{name}" if kind == "unix" else "tcp://127.0.0.1:0"
        listens += ["--listen", f"{address}={module}:{name}"]
    server = Server(["--foreground", "--log-format", "json", *listens], directory, environment)
    stack.callback(server.end)
    server.ready()
    found = {}
    for event in server.having("listening"):
        kind = "unix" if event["address"].startswith("unix:") else "tcp"
        found[event["service"].partition(":")[2], kind] = event["address"]
    return found


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Both, each with every scenario on both kinds of sockets."""
    wanted = [(name, kind) for name in SCENARIOS for kind in KINDS]
    with ExitStack() as stack:
        made = {}
        for side, start in (("sockd", sockd_side), ("asyncio", asyncio_side)):
            directory = tmp_path_factory.mktemp(side)
            for file in FILES:
                shutil.copy(HERE / file, directory)
            diaries = directory / "diaries"
            diaries.mkdir()
            environment = {"DIARY": str(diaries), "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
            made[side] = Side(start(directory, wanted, environment, stack), diaries)
        yield made


@pytest.mark.parametrize(("name", "kind", "size"), CASES)
def test_a_handler_is_told_the_same(sides, name, kind, size):
    own = sides["sockd"].play(name, kind, size)
    others = sides["asyncio"].play(name, kind, size)
    if name in DIFFERENT:
        assert own[1] == DIFFERENT[name] != others[1]
    else:
        assert own == others


def test_there_are_enough():
    assert len(CASES) >= 200
    assert socket.AF_UNIX
    assert protocols_told
