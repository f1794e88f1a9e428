# SPDX-License-Identifier: MIT
# Seen failing against a daemon that uses its own epoll whatever is named, one whose listening socket blocks (it hangs
# in accept() with the first client), and one whose accepted sockets block.
"""II.9, select(), non-blocking I/O and SIGIO: readiness with non-blocking sockets, by the multiplexer that is named."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

NAMES = ["auto", "epoll", "poll", "select"]
CALLS = {
    "auto": r"epoll_p?wait2?\(",
    "epoll": r"epoll_p?wait2?\(",
    "poll": r"p?poll(_time64)?\(",
    "select": r"_?(new)?p?select6?(_time64)?\(",
}
FAQ = Path(__file__).parents[2] / "docs" / "faq.md"
APP = """
def big(line):
    return b"x" * 20_000_000
"""


def links(one):
    directory = f"/proc/{one.pid}/fd"
    found = {}
    for fd in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found[int(fd)] = os.readlink(f"{directory}/{fd}")
    return found


def flags(one, fd):
    return int(re.search(r"flags:\s*([0-7]+)", Path(f"/proc/{one.pid}/fdinfo/{fd}").read_text())[1], 8)


@pytest.mark.parametrize("name", NAMES)
def test_the_named_multiplexer_waits(daemon, until, tmp_path, name):
    one = daemon("tcp://127.0.0.1:0=upper", multiplexer=name)
    assert ("anon_inode:[eventpoll]" in links(one).values()) == (name in ("auto", "epoll"))
    if shutil.which("strace") is None:
        pytest.skip("needs strace(1)")
    path = tmp_path / "trace"
    words = ["strace", "-f", "-p", str(one.pid), "-o", str(path)]
    tracer = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        assert "attached" in tracer.stderr.readline()
        sock = one.connect()
        sock.sendall(b"hello\n")
        assert sock.recv(100) == b"HELLO\n"
        sock.close()
        one.closed("eof")
        until(lambda: path.read_text().count("recvfrom(") >= 2)
    finally:
        tracer.terminate()
        tracer.wait(10)
        tracer.stderr.close()
    calls = re.findall(r"^\d+ +(\w+\()", path.read_text(), re.MULTILINE)
    waits = {call for call in calls if any(re.fullmatch(wait, call) for wait in CALLS.values())}
    assert waits
    assert all(re.fullmatch(CALLS[name], call) for call in waits), waits


@pytest.mark.parametrize("name", NAMES)
def test_every_socket_is_non_blocking(daemon, name):
    one = daemon("tcp://127.0.0.1:0=upper", "udp://127.0.0.1:0=upper", multiplexer=name)
    held = [one.connect() for _ in range(3)]
    for sock in held:
        sock.sendall(b"hello\n")
        assert sock.recv(100) == b"HELLO\n"
    sockets = [fd for fd, link in links(one).items() if link.startswith("socket:")]
    assert len(sockets) >= 5
    for fd in sockets:
        assert flags(one, fd) & os.O_NONBLOCK, links(one)[fd]


@pytest.mark.parametrize("name", NAMES)
def test_nobody_waits_for_a_slow_peer(daemon, name):
    one = daemon("tcp://127.0.0.1:0=upper", "tcp://127.0.0.1:0=app:big", app=APP, multiplexer=name)
    halfway, deaf = one.connect(), one.connect(1)
    halfway.sendall(b"half a li")
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.sendall(b"go\n")
    assert deaf.recv(1) == b"x"
    for _ in range(20):
        assert one.ask(b"hello\n") == b"HELLO\n"
    halfway.sendall(b"ne\n")
    assert halfway.recv(100) == b"HALF A LINE\n"


@pytest.mark.parametrize("name", NAMES)
def test_an_idle_daemon_takes_no_time(daemon, nothing_comes, name):
    one = daemon("tcp://127.0.0.1:0=upper", multiplexer=name)
    held = [one.connect() for _ in range(200)]
    held[-1].sendall(b"hello\n")
    assert held[-1].recv(100) == b"HELLO\n"
    before = one.cpu_seconds()
    nothing_comes(held[0], 0.5)
    assert one.cpu_seconds() - before <= 0.02


def test_an_unknown_name_is_refused_with_those_there_are(sockd_script, tmp_path):
    words = [sockd_script, "--check", "--multiplexer", "sigio", "--listen", "tcp://127.0.0.1:0=upper"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=30)
    assert done.returncode in (64, 78)
    assert "sigio" in done.stderr
    for name in NAMES:
        assert name in done.stderr


def test_the_answer_has_a_row_for_each():
    rows = re.findall(r"^\| `(\w+)` \|", FAQ.read_text(encoding="utf-8"), re.MULTILINE)
    assert [row for row in rows if row in NAMES] == NAMES
