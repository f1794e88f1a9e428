# SPDX-License-Identifier: MIT
"""Programs of others that tests talk to: whether they are here, how they are started, what they say meanwhile."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from contextlib import ExitStack

import pytest
from watching import WITHIN_S, _until

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/lib/postfix/sbin"


def find_socket(program):
    """Where a program is, those of administrators too; None where it is not."""
    return shutil.which(program, path=PATH)


def needs(program, package):
    """Mark what is skipped without a program."""
    return pytest.mark.skipif(find_socket(program) is None, reason=f"package {package} is missing")


def port_of(address):
    """The port of an address as sockd prints it, as text."""
    return address.rpartition(":")[2]


def free_port():
    """A port that the kernel has just given and got back, for programs that cannot ask it themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_answered(port):
    """Whether somebody listens on 127.0.0.1 there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Talker:
    """A program that runs on: what it is told, and every line that it has said on either output."""

    def __init__(self, words, **options):
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
        )
        self.lines = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        with self.process.stdout as pipe:
            for line in pipe:
                self.lines.append(line.rstrip(b"\r\n"))

    def say(self, line):
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def wait_for(self, line):
        _until(lambda: line in self.lines or self.process.poll() is not None)
        assert line in self.lines, self.lines

    def finish(self):
        """Send it the end of its input, and wait for its own; returns its exit code."""
        self.process.stdin.close()
        code = self.process.wait(WITHIN_S)
        self._reader.join(WITHIN_S)
        return code

    def end(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(WITHIN_S)
        self.process.stdin.close()


@pytest.fixture
def talk():
    """Start a program that is talked to, or that runs beside the test; it is killed at the end."""
    with ExitStack() as stack:

        def start(*words, **options):
            talker = Talker([find_socket(words[0]) or words[0], *map(str, words[1:])], **options)
            stack.callback(talker.end)
            return talker

        yield start
