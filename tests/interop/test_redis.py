# SPDX-License-Identifier: MIT
"""examples/redis_ping.py under redis-benchmark and redis-cli.

Seen failing with `PING` answered `+PING`, and with the array's words counted one too few.
"""

from __future__ import annotations

import pytest
from programs import needs, port_of

pytestmark = needs("redis-benchmark", "redis-tools")

REQUESTS = 20_000
CLIENTS = 50
WRONG = [
    b"*\r\n",
    b"*17\r\n",
    b"*-1\r\n",
    b"*1\r\nPING\r\n",
    b"*1\r\n$5\r\nPING\r\n",
    b"*2\r\n$4\r\nECHO\r\n$3\r\na\nb\r\n",
]


@pytest.fixture
def daemon(serve_example):
    return serve_example("redis_ping:service")


@pytest.mark.parametrize("pipeline", [1, 16])
def test_benchmark(daemon, run, pipeline):
    """It compares nothing, but waits for each reply; it opens a connection more, to ask for the configuration."""
    load = ("-t", "ping_inline,ping_mbulk", "-c", CLIENTS, "-P", pipeline, "-n", REQUESTS, "--csv")
    done = run("redis-benchmark", "-p", port_of(daemon.addresses[0]), *map(str, load))
    assert done.returncode == 0
    assert [line.split(b",")[0] for line in done.stdout.splitlines()] == [b'"test"', b'"PING_INLINE"', b'"PING_MBULK"']
    assert b"WARNING: Could not fetch server CONFIG" in done.stderr
    daemon.stop()
    assert len(daemon.having("closed")) >= 2 * CLIENTS + 1
    assert [event for event in daemon.events if event["level"] == "error"] == []


def test_cli(daemon, run):
    def cli(*words):
        return run("redis-cli", "-p", port_of(daemon.addresses[0]), *words).stdout

    assert cli("PING") == b"PONG\n"
    assert cli("ping", "hello world") == b"hello world\n"
    assert cli("ECHO", "") == b"\n"
    assert cli("GET", "key") == b"ERR unknown command 'GET'\n\n"


def test_inline(daemon, run, sockctl):
    done = run(sockctl, "connect", daemon.addresses[0], input=b"PING\r\nping  hi\n \n\nECHO\n")
    assert done.stdout == b"+PONG\r\n$2\r\nhi\r\n-ERR unknown command 'ECHO'\r\n"


def test_protocol_error_ends_the_connection(daemon):
    for wrong in WRONG:
        client = daemon.connect()
        client.send(b"PING\r\n" + wrong + b"PING\r\n")
        pong, error, *more = client.to_end().splitlines()
        assert pong == b"+PONG"
        assert error.startswith(b"-ERR Protocol error: "), wrong
        assert more == []
        assert daemon.end_of(client)["reason"] == "closed"
