# SPDX-License-Identifier: MIT
"""asyncio.DatagramProtocol classes under asyncio and under sockd: the same answers, over UDP and Unix sockets."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from serving import LIMIT_S, sockaddr_of
from two_sides import both

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from datagrams import DATAGRAMS  # noqa: E402 - its place is known from here on

KINDS = ("udp", "unixgram")
FILES = [HERE / name for name in ("steps.py", "datagrams.py", "datagrams_by_asyncio.py")]


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    wanted = [(name, kind) for name in DATAGRAMS for kind in KINDS]
    with both(wanted, FILES, "datagrams_by_asyncio.py", lambda _: "datagrams", tmp_path_factory.mktemp) as made:
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
    own, others = (
        ask(sides[side].addresses[name, kind], sent, answers, tmp_path_factory.mktemp(side)) for side in sides
    )
    assert own == others
