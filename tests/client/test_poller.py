# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import selectors

import pytest

from sockd.client.poller import Poller

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


@pytest.fixture
def readiness():
    made = Poller()
    yield made
    made.close()


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_a_file_is_always_ready(readiness, tmp_path):
    (tmp_path / "f").write_bytes(b"")
    with open(tmp_path / "f", "r+b") as file:
        fd = file.fileno()
        readiness.want(fd, READ)
        assert readiness.is_file(fd)
        assert readiness.wait(None) == [(fd, READ)]
        readiness.want(fd, WRITE)
        assert readiness.wait(None) == [(fd, WRITE)]
        readiness.want(fd, 0)
        assert readiness.wait(0) == []


def test_a_file_does_not_hide_a_pipe(readiness, pipe, tmp_path):
    reader, writer = pipe
    (tmp_path / "f").write_bytes(b"")
    with open(tmp_path / "f", "rb") as file:
        readiness.want(file.fileno(), READ)
        readiness.want(reader, READ)
        assert readiness.wait(None) == [(file.fileno(), READ)]
        os.write(writer, b"x")
        assert readiness.wait(None) == [(file.fileno(), READ), (reader, READ)]


def test_a_pipe_is_ready_when_it_is(readiness, pipe):
    reader, writer = pipe
    readiness.want(reader, READ)
    assert not readiness.is_file(reader)
    assert readiness.wait(0) == []
    os.write(writer, b"x")
    assert readiness.wait(None) == [(reader, READ)]
    readiness.want(reader, READ)
    assert readiness.wait(None) == [(reader, READ)]
    readiness.want(reader, 0)
    assert readiness.wait(0) == []
    readiness.want(reader, 0)


def test_a_hang_up_wakes_nobody_who_wants_nothing(readiness):
    reader, writer = os.pipe()
    readiness.want(reader, READ)
    readiness.want(reader, 0)
    os.close(writer)
    assert readiness.wait(0) == []
    os.close(reader)
