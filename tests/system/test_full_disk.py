# SPDX-License-Identifier: MIT
"""A disk that is full, and has room again: the log goes on, each event on a line of its own (a small tmpfs(5)).

Seen to fail with a line that was written in part left as it is: the next one continues it.
"""

from __future__ import annotations

import json
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from watching import _until

TOML = """
[daemon]
log = {{ to = "{directory}/log", format = "json" }}
[[listen]]
address = "unix:{path}"
service = "upper"
"""


@pytest.fixture
def disk(tmp_path):
    """Words that run a program on a disk of 64 KiB, which nobody else sees, and the disk's directory."""
    (tmp_path / "disk").mkdir()
    script = f'mount -t tmpfs -o size=64k,mode=755 none {tmp_path}/disk && exec "$@"'
    command = ("unshare", "-m", "sh", "-c", script, "sh")
    try:
        done = subprocess.run([*command, "true"], capture_output=True, timeout=10)
    except FileNotFoundError:
        pytest.skip("needs unshare(1), of util-linux")
    if done.returncode:
        pytest.skip(f"a mount namespace cannot be made here: {done.stderr.decode().strip()}")
    return command, tmp_path / "disk"


def test_a_full_disk_joins_no_lines(daemon, disk, tmp_path):
    prefix, directory = disk
    one = daemon(toml=TOML.format(directory=directory, path=tmp_path / "u"), prefix=prefix, listeners=0)
    _until((tmp_path / "u").exists)
    inside = Path(f"/proc/{one.pid}/root{directory}")
    log, ballast = inside / "log", inside / "ballast"

    def events(count):
        for _ in range(count):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(str(tmp_path / "u"))
                client.sendall(b"x\n")
                assert client.recv(10) == b"X\n"

    def size():
        return log.stat().st_size

    events(20)
    for _ in range(3):
        with open(ballast, "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        before = size()
        events(60)  # more than the rest of the log's page has room for: the disk is full in the midst of a line
        assert before < size() < before + 4096
        ballast.unlink()
        events(20)
    lines = _until(lambda: log.read_bytes().endswith(b"\n") and log.read_bytes().splitlines())
    whole, cut = 0, []
    for line in lines:
        try:
            json.loads(line)
            whole += 1
        except ValueError:
            cut.append(line)
    assert whole >= 60
    assert len(cut) <= 3
    assert all(line.count(b'"time"') <= 1 for line in cut), cut
    assert sum(b"log records lost" in line for line in lines) == 3  # and said how many
