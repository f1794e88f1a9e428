# SPDX-License-Identifier: MIT
"""examples/sqlite_lines.py and aiosqlite_lines.py: many clients at once, and what sqlite3(1) then finds in the file."""

from __future__ import annotations

import pytest
from programs import needs
from watching import SOAK

CLIENTS = 40
LINES = 1000 if SOAK else 25  # of each

pytestmark = needs("sqlite3", "sqlite3")


@pytest.fixture(params=["sqlite_lines:service", "aiosqlite_lines:service"])
def start(request, serve_example, tmp_path):
    """Start one of the two on the same file; `query(SQL)` asks sqlite3(1)."""
    if request.param.startswith("aio"):
        pytest.importorskip("aiosqlite", reason="aiosqlite is not installed")
    return lambda: serve_example(request.param, environment={"SQLITE_LINES_FILE": str(tmp_path / "said.db")})


@pytest.fixture
def query(run, tmp_path):
    def ask(sql):
        done = run("sqlite3", tmp_path / "said.db", sql)
        assert done.stderr == b""
        return done.stdout.decode().splitlines()

    return ask


def test_sockctl(start, run, sockctl, query):
    daemon = start()
    done = run(sockctl, "connect", daemon.addresses[0], input="milk\nBrötchen\r\nmilk\n'; DROP TABLE said\n".encode())
    assert done.stdout.split() == [b"1", b"1", b"2", b"1"]
    assert query("SELECT * FROM said") == ["'; DROP TABLE said|1", "Brötchen|1", "milk|2"]  # while it serves


def test_none_is_lost_and_none_is_counted_twice(start, query):
    daemon = start()
    clients = [daemon.connect() for _ in range(CLIENTS)]
    for client in clients:
        client.send(b"all\nhalf\n" * LINES)
    told = [[int(number) for number in client.finish().split()] for client in clients]
    for at in (0, 1):  # answers keep the order of their lines
        assert all(numbers[at::2] == sorted(numbers[at::2]) for numbers in told)
        assert sorted(number for numbers in told for number in numbers[at::2]) == list(range(1, CLIENTS * LINES + 1))
    assert query("SELECT times FROM said") == [str(CLIENTS * LINES)] * 2


def test_it_is_there_after_a_stop(start, tmp_path):
    first = start()
    assert first.connect().ask(b"milk") == b"1"
    first.stop()
    assert [path.name for path in tmp_path.glob("said.db*")] == ["said.db"]
    assert start().connect().ask(b"milk") == b"2"


def test_what_was_answered_outlives_a_kill(start):
    first = start()
    assert first.connect().ask(b"milk") == b"1"
    first.process.kill()
    first.wait()
    assert start().connect().ask(b"milk") == b"2"


def test_what_is_no_text_ends_its_connection_alone(start, query):
    daemon = start()
    wrong, right = daemon.connect(), daemon.connect()
    wrong.send(b"\xff\n")
    assert wrong.to_end() == b""
    assert right.ask(b"milk") == b"1"
    assert daemon.end_of(wrong)["reason"] == "handler-error"
    assert query("SELECT line FROM said") == ["milk"]


def test_a_file_that_cannot_be_had_stops_the_start(start, tmp_path):
    (tmp_path / "said.db").mkdir()
    with pytest.raises(pytest.fail.Exception, match="unable to open database file"):
        start()
