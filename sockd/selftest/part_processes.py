# SPDX-License-Identifier: MIT
"""II.18 and II.19: standard input that is no socket, and SIGPIPE, in the daemon and in programs."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from sockd.selftest.daemon_process import run_sockd
from sockd.selftest.fixture import listen, table
from sockd.selftest.peer import ask, expect, read_all, reset

if TYPE_CHECKING:
    from sockd.selftest.fixture import Fixture

TWICE = b"read() and recv()\n"


def read_and_recv(house: Fixture) -> str:
    """II.18: a service runs on a pipe and on a file as standard input."""
    done = run_sockd("--inetd", "upper", directory=house.directory, input=TWICE)
    expect(
        done.returncode == 0 and done.stdout == TWICE.upper(), f"a pipe: {done.stdout!r}, exit code {done.returncode}"
    )
    with tempfile.TemporaryFile(dir=house.directory) as file:
        file.write(TWICE * 1000)
        file.seek(0)
        done = run_sockd("--inetd", "upper", directory=house.directory, stdin=file)
    expect(done.stdout == TWICE.upper() * 1000, f"a file: {len(done.stdout)} bytes, exit code {done.returncode}")
    return f"a pipe and a file of {len(done.stdout):,} bytes served"


def sigpipe(house: Fixture) -> str:
    """II.19: the daemon survives a peer that is gone in mid-write, a program gets SIGPIPE back."""
    user = ["user = 'root'"] if os.geteuid() == 0 else []
    script = "exec = ['/bin/sh', '-c', 'kill -PIPE $$; echo ignored']"
    child = house.start(listen("upper") + listen("program") + table("program", script, *user))
    for _ in range(10):
        sock = house.dial("upper", child=child)
        sock.sendall(b"x" * 60_000 + b"\n")
        reset(sock)
    expect(ask(house.dial("upper", child=child)) == b"HELLO\n", "the daemon no longer answers")
    said = read_all(house.dial("program", child=child))
    expect(said == b"", f"a program reports for SIGPIPE: {said!r}")
    ended = child.record("program ended")
    expect(ended.get("signal") == "PIPE", f"a program that got SIGPIPE ended in another way: {ended}")
    return "10 peers disconnected during a write, all survived; SIGPIPE ended a program"
