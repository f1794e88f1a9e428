# SPDX-License-Identifier: MIT
"""asyncio.DatagramProtocol classes under asyncio and under sockd: the same answers, over UDP and Unix sockets."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from serving import LIMIT_S, Server, sockaddr_of

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from datagrams import DATAGRAMS  # noqa: E402

KINDS = ("udp", "unixgram")


def asyncio_side(directory, wanted, environment, stack):
    words = [f"{name}={'udp' if kind == 'udp' else f'unixgram:{directory}/{name}'}" for name, kind in wanted]
    process = subprocess.Popen(
        [sys.executable, str(directory / "datagrams_by_asyncio.py"), *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it prints the exceptions that the classes raise
        text=True,
    )
    stack.callback(process.stdout.close)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return {key: process.stdout.readline().split()[1] for key in wanted}


def sockd_side(directory, wanted, environment, stack):
    listens = []
    for name, kind in wanted:
        listens += [
            "--listen",
            f"{'udp://127.0.0.1:0' if kind == 'udp' else f'unixgram:{directory}/{name}'}=datagrams:{name}",
        ]
    server = Server(["--foreground", "--log-format", "json", *listens], directory, environment)
    stack.callback(server.end)
    server.ready()
    return {
        (one["service"].partition(":")[2], one["address"].partition(":")[0]): one["address"]
        for one in server.having("listening")
    }


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    wanted = [(name, kind) for name in DATAGRAMS for kind in KINDS]
    with ExitStack() as stack:
        made = {}
        for side, start in (("sockd", sockd_side), ("asyncio", asyncio_side)):
            directory = tmp_path_factory.mktemp(side)
            for file in ("steps.py", "datagrams.py", "datagrams_by_asyncio.py"):
                shutil.copy(HERE / file, directory)
            environment = {"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
            made[side] = start(directory, wanted, environment, stack)
        yield made


def ask(address, sent, answers, directory):
    """Send datagrams one by one; return what comes."""
    family, kind, sockaddr = sockaddr_of(address)
    with socket.socket(family, kind) as sock:
        sock.settimeout(LIMIT_S)
        if family == socket.AF_UNIX:
            sock.bind(str(directory / "client"))
        else:
            sock.bind(("127.0.0.1", 0))
        for datagram in sent:
            sock.sendto(datagram, sockaddr)
        return [sock.recv(65_536) for _ in range(answers)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DATAGRAMS)
def test_a_protocol_answers_the_same(sides, name, kind, tmp_path_factory):
    _, sent, answers = DATAGRAMS[name]
    own, others = (ask(sides[side][name, kind], sent, answers, tmp_path_factory.mktemp(side)) for side in sides)
    assert own == others
