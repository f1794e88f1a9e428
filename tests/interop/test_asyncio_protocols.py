# SPDX-License-Identifier: MIT
"""The asyncio.Protocol classes of Python's own documentation, as they stand there, served by sockd.

Taken out of Debian's python3-doc when the tests run; nothing of it is kept here.

Seen to fail: with connection_lost not called, and with data_received given lines.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

PAGE = next(iter(sorted(Path("/usr/share/doc").glob("python3*/html/_sources/library/asyncio-protocol.rst.txt"))), None)
NEEDS_PAGE = pytest.mark.skipif(PAGE is None, reason="python3-doc is not installed")

SERVED = """
import concurrent.futures


class Client(EchoClientProtocol):
    def __init__(self):
        super().__init__("Hello World!", concurrent.futures.Future())

    def connection_lost(self, exc):
        super().connection_lost(exc)
        print("on_con_lost:", self.on_con_lost.result(0))


class Mine(MyProtocol):
    def __init__(self):
        super().__init__(concurrent.futures.Future())

    def connection_lost(self, exc):
        super().connection_lost(exc)
        print("on_con_lost:", self.on_con_lost.result(0))
"""


def published(names):
    """The text of classes as the page has them."""
    text = PAGE.read_text()
    for name in names:
        begin = re.search(rf"^( +)class {name}\(asyncio\.Protocol\):\n", text, re.M)
        body = re.match(rf"(?:{begin[1]} +.*\n|\n)+", text[begin.end() :])
        yield textwrap.dedent(begin[0] + body[0])


@pytest.fixture
def documented(serve, tmp_path):
    def start(*names):
        classes = published(["EchoServerProtocol", "EchoClientProtocol", "MyProtocol"])
        (tmp_path / "doc.py").write_text("import asyncio\n\n\n" + "\n\n".join(classes) + SERVED)
        listens = [f"tcp://127.0.0.1:0=doc:{name}" for name in names]
        return serve(*listens, environment={"PYTHONUNBUFFERED": "1"})

    return start


def said(server, line):
    server.wait_until(lambda: line in server.output, line)


@NEEDS_PAGE
def test_the_echo_server(documented):
    server = documented("EchoServerProtocol")
    peer = server.connect()
    peer.send(b"Hello World!")
    assert peer.to_end() == b"Hello World!"
    said(server, "Data received: 'Hello World!'")
    said(server, f"Connection from {peer.sock.getsockname()}")
    assert server.end_of(peer)["reason"] == "closed"


@NEEDS_PAGE
def test_the_echo_client(documented):
    server = documented("Client")
    peer = server.connect()
    assert peer.sock.recv(100) == b"Hello World!"
    peer.send(b"Hello World!")
    said(server, "Data received: 'Hello World!'")
    assert peer.finish() == b""
    said(server, "The server closed the connection")
    said(server, "on_con_lost: True")


@NEEDS_PAGE
def test_the_protocol_of_an_existing_socket(documented):
    server = documented("Mine")
    peer = server.connect()
    peer.send(b"abc")
    assert peer.to_end() == b""
    peer.close()
    said(server, "Received: abc")
    said(server, "on_con_lost: True")
