# SPDX-License-Identifier: MIT
"""Lines to a descriptor of somebody else's, who may not read them: never waited for, never joined to one that was cut.

Seen to fail: with a log that waits for the reader of standard error the daemon stands still, and TERM is not acted on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress

import pytest
from serving import STAY_ROOT
from watching import _until

from sockd.log.outlet import LineWriter, Outlet

FILL = b"x" * 4096


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


def filled(fd):
    os.set_blocking(fd, False)
    with suppress(BlockingIOError):
        while True:
            os.write(fd, FILL)
    os.set_blocking(fd, True)


def write_much(outlet):
    for _ in range(1000):  # a terminal takes some more
        outlet.write(FILL)


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket", "a pipe without /proc"])
def test_what_nobody_reads_is_refused_at_once(stack, kind, monkeypatch):
    if kind == "terminal":
        reader, writer = pty.openpty()
    elif kind == "socket":
        reader, writer = (one.detach() for one in socket.socketpair())
    else:
        reader, writer = os.pipe()
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    if kind == "a pipe without /proc":
        monkeypatch.setattr("sockd.log.outlet._opened_anew", lambda fd: -1)
    outlet = Outlet(writer)
    stack.callback(outlet.close)
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    outlet.write(b"first\n")
    assert os.read(reader, 100).rstrip() == b"first"
    filled(writer)
    began = time.monotonic()
    with pytest.raises(BlockingIOError):
        write_much(outlet)
    assert time.monotonic() - began < 5
    assert fcntl.fcntl(writer, fcntl.F_GETFL) == flags  # which others share


def test_a_file_is_appended_to_where_others_do(stack, tmp_path):
    """`2> log` without O_APPEND: the offset is shared, so it is not opened anew"""
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    stack.callback(os.close, fd)
    outlet = Outlet(fd)
    os.write(fd, b"other\n")
    outlet.write(b"ours\n")
    os.write(fd, b"other\n")
    assert (tmp_path / "log").read_bytes() == b"other\nours\nother\n"


def test_a_line_that_was_cut_is_ended_before_the_next_one():
    """fails without LineWriter: after ENOSPC two lines are one"""
    written, room = bytearray(), [100]

    def write(data):
        size = min(room[0], len(data))
        if not size:
            raise OSError(errno.ENOSPC, "full")
        room[0] -= size
        written.extend(data[:size])
        return size

    lines = LineWriter(write)
    lines.line(b"a" * 89 + b"\n")
    with pytest.raises(OSError, match="full"):
        lines.line(b"b" * 20 + b"\n")
    with pytest.raises(OSError, match="full"):
        lines.line(b"c\n")
    room[0] = 3
    with pytest.raises(OSError, match="full"):
        lines.line(b"dddd\n")
    room[0] = 100
    lines.line(b"e\n")
    lines.line(b"f\n")
    assert written.split(b"\n") == [b"a" * 89, b"b" * 10, b"dd", b"e", b"f", b""]


def test_a_long_line_is_not_copied_for_each_piece_that_is_written():
    """fails with slices of bytes: a line of 10 MB took 4 s"""
    line, offered = b"x" * 99_999 + b"\n", []

    def write(data):
        offered.append(data)
        return min(len(data), 10)

    LineWriter(write).line(line)
    assert len(offered) == len(line) // 10
    assert all(memoryview(one).obj is line for one in offered)


def test_a_line_goes_to_a_file_in_one_piece(stack, tmp_path):
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stack.callback(os.close, fd)
    assert Outlet(fd).write(b"x" * 100_000) == 100_000


@pytest.mark.parametrize("workers", [1, 2])
def test_a_daemon_whose_log_nobody_reads_goes_on_and_stops(tmp_path, sockd_script, workers):
    toml = f'[daemon]\nworkers = {workers}\n[[listen]]\naddress = "unix:{tmp_path}/s"\nservice = "upper"\n'
    (tmp_path / "sockd.toml").write_text(toml)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    command = [sockd_script, *STAY_ROOT, "-f", "-c", "sockd.toml"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    try:
        _until(lambda: ask(tmp_path / "s") == b"X\n", 20)
        for _ in range(500):
            assert ask(tmp_path / "s") == b"X\n"
        os.set_blocking(reader, False)
        said = os.read(reader, 1 << 20)
        assert ask(tmp_path / "s") == b"X\n"
        _until(lambda: b" log records lost count=" in read_on(reader))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - began < 5
        assert said.count(b"\n") > 5
    finally:
        process.kill()
        process.wait()
        os.close(reader)


def read_on(reader):
    with suppress(BlockingIOError):
        return os.read(reader, 1 << 20)
    return b""


def ask(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        if sock.connect_ex(str(path)):
            return b""
        sock.sendall(b"x\n")
        return sock.recv(10)
