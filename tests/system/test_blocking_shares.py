# SPDX-License-Identifier: MIT
"""`blocking = true`: slow calls of one source keep no other's from being served.

Seen to fail with one queue for all: the honest client waits for as long as the slow calls take.
"""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import pytest
from networks import OTHERS, OTHERS6, SERVER, SERVER6

APP = """
import time

def slow(line):
    if line.startswith(b"sleep"):
        time.sleep(float(line[5:]))
    return line.upper()
"""
CONFIG = '[daemon]\nthreads = 8\n[[listen]]\naddress = "{}://{}:0"\nservice = "slow"\n'
CONFIG += '[service.slow]\nhandler = "app:slow"\nblocking = true\n'
BAD, GOOD = OTHERS[:2]
WITHIN_S = 2.0
"""A call is served at once; a busy machine has the rest.  Slow calls take 5 s."""


@pytest.fixture
def house(serve, elsewhere, tmp_path):
    (tmp_path / "app.py").write_text(APP)

    def start(kind="tcp", host=SERVER):
        return serve(config=CONFIG.format(kind, host), preexec_fn=elsewhere.enter)

    return start


@pytest.fixture
def come(elsewhere):
    with ExitStack() as stack:

        def come(source, server, port, kind=socket.SOCK_STREAM):
            sock = stack.enter_context(elsewhere.socket(source, kind))
            sock.connect((server, port))
            return sock

        yield come


def timed(sock, line=b"hello\n"):
    began = time.monotonic()
    sock.sendall(line)
    assert sock.recv(100) == line.upper()
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("host", "server", "bad", "good"),
    [(SERVER, SERVER, [BAD], GOOD), (f"[{SERVER6}]", SERVER6, OTHERS6[:2], OTHERS6[2])],
    ids=["IPv4", "a /64 of IPv6"],
)
def test_slow_calls_of_one_source(house, come, host, server, bad, good):
    port = int(house(host=host).addresses[0].rpartition(":")[2])
    slow = [come(bad[number % len(bad)], server, port) for number in range(40)]
    honest = come(good, server, port)
    timed(honest)
    for sock in slow:
        sock.sendall(b"sleep5\n")
    time.sleep(0.3)  # they have come by then; if not, the test shows less
    assert max(timed(honest) for _ in range(20)) < WITHIN_S
    assert timed(come(good, server, port)) < WITHIN_S


def test_slow_datagrams(house, serve, come, tmp_path, elsewhere):
    """They are one source: clients of a stream are served beside them."""
    config = CONFIG.format("tcp", SERVER).replace(
        "[service", '[[listen]]\naddress = "udp://192.0.2.1:0"\nservice = "slow"\n[service'
    )
    (tmp_path / "app.py").write_text(APP)
    server = serve(config=config, preexec_fn=elsewhere.enter)
    ports = {address.partition(":")[0]: int(address.rpartition(":")[2]) for address in server.addresses}
    flood = come(BAD, SERVER, ports["udp"], socket.SOCK_DGRAM)
    honest = come(BAD, SERVER, ports["tcp"])
    timed(honest)
    for _ in range(40):
        flood.send(b"sleep5")
    time.sleep(0.3)  # as above
    assert max(timed(honest) for _ in range(20)) < WITHIN_S


def test_this_host_has_all_threads(serve, tmp_path):
    (tmp_path / "app.py").write_text(APP)
    server = serve(config=CONFIG.format("tcp", "127.0.0.1"))
    clients = [server.connect() for _ in range(8)]
    for client in clients:
        client.send(b"sleep1\n")
    began = time.monotonic()
    assert [client.line() for client in clients] == [b"SLEEP1\n"] * 8
    assert time.monotonic() - began < 1.9  # two rounds take 2 s
