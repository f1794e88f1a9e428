# SPDX-License-Identifier: MIT
# Seen failing: the first and the last against a daemon with SIGPIPE at its default or with its mask as inherited; the
# program with reset_signals() left out of sockd/process/spawn.c.
"""FAQ II.19: SIGPIPE is ignored by the daemon, never raised by the C core, and given back to programs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

PIPE_BIT = 1 << (signal.SIGPIPE - 1)
APP = """
def large(line):
    return b"x" * 1_000_000
"""


def signals(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {
        key: int(value, 16)
        for key, _, value in (line.partition(":") for line in lines)
        if key.startswith("Sig") and key != "SigQ"
    }


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_daemon_ignores_it_whatever_it_inherited(daemon):
    one = daemon("tcp://127.0.0.1:0=upper", prefix=["/usr/bin/env", "--default-signal=PIPE", "--block-signal=PIPE"])
    assert signals(one.pid)["SigIgn"] & PIPE_BIT
    assert signals(one.pid)["SigBlk"] == 0


def test_a_peer_that_is_gone_in_mid_write_costs_its_own_connection_only(daemon, reset, name_of):
    one = daemon("tcp://127.0.0.1:0=app:large", app=APP)
    names = []
    for _ in range(20):
        peer = one.connect()
        peer.sendall(b"go\n")
        assert peer.recv(1) == b"x"
        names.append(name_of(peer))
        reset(peer)
    for name in names:
        one.closed("reset", peer=name)
    with one.connect() as peer:
        peer.sendall(b"go\n")
        peer.shutdown(socket.SHUT_WR)
        got = 0
        while piece := peer.recv(1 << 20):
            got += len(piece)
    assert got == 1_000_001


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_program_gets_the_default_and_an_empty_mask(daemon, read_to_end):
    user = 'user = "root"' if os.geteuid() == 0 else ""
    toml = f"""
[[listen]]
address = "tcp://127.0.0.1:0"
service = "program"
[service.program]
exec = ["/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]
{user}
"""
    ignoring = ["/bin/sh", "-c", 'trap "" PIPE HUP USR1; exec "$@"', "sh"]
    one = daemon(toml=toml, prefix=ignoring)
    said = read_to_end(one.connect()).decode().split()
    assert said == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_a_pipe_that_nobody_reads_ends_inetd_mode_in_order(sockd_script, tmp_path):
    """write(2) has no MSG_NOSIGNAL: a process that dies by SIGPIPE would have exit code -13."""
    source, to = os.pipe()
    back, sink = os.pipe()
    os.close(back)
    words = [sockd_script, "--inetd", "upper"]
    with subprocess.Popen(words, stdin=source, stdout=sink, stderr=subprocess.DEVNULL, cwd=tmp_path) as process:
        os.write(to, b"hello\n")
        assert process.wait(30) == 0
    for fd in (source, to, sink):
        os.close(fd)
