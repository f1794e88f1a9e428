# SPDX-License-Identifier: MIT
"""A real HAProxy, and what it tells of its servers."""

from __future__ import annotations

import csv
import socket
import subprocess
from contextlib import ExitStack

import pytest
from programs import find_socket
from watching import _until


class HAProxy:
    """A running one, asked by its Unix sockets: `stats`, and `front` where its configuration has that.

    Args:
        directory: that the two are in.
        backend: whose servers are asked about.
    """

    def __init__(self, directory, backend):
        self._directory = directory
        self._backend = backend

    def _ask(self, name, words):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self._directory / name))
            sock.sendall(words + b"\n")
            sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(65536), b"")).decode()

    def fields(self, server):
        """Its row of `show stat`."""
        rows = csv.DictReader(self._ask("stats", b"show stat").removeprefix("# ").splitlines())
        (row,) = [row for row in rows if row["pxname"] == self._backend and row["svname"] == server]
        return row

    def status(self, server):
        return self.fields(server)["status"]

    def front(self, line):
        """What is answered to a line and an end of file."""
        return self._ask("front", line)


@pytest.fixture
def haproxy(tmp_path):
    """Start one: `haproxy(text, backend)` with its `stats socket` at stats in tmp_path; it is killed at the end.

    Options are those of Popen.
    """
    with ExitStack() as stack:

        def start(text, backend, **options):
            (tmp_path / "haproxy.cfg").write_text(text)
            process = stack.enter_context(
                subprocess.Popen(
                    [find_socket("haproxy"), "-db", "-f", tmp_path / "haproxy.cfg"],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    **options,
                )
            )
            stack.callback(process.kill)
            _until((tmp_path / "stats").exists)
            return HAProxy(tmp_path, backend)

        yield start
