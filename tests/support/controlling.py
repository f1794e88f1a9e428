# SPDX-License-Identifier: MIT
"""`sockctl` as a person or a program calls it, for tests of the control socket."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from watching import _until

SOCKCTL = Path(sys.executable).with_name("sockctl")


class Sockctl:
    """Calls sockctl in a directory, with the control socket that lies there."""

    def __init__(self, directory):
        self.directory = directory
        self.path = directory / "control.sock"

    def run(self, verb, *words):
        command = [SOCKCTL, verb, "--control", self.path, *map(str, words)]
        return subprocess.run(command, cwd=self.directory, capture_output=True, text=True, timeout=30)

    def talk(self, verb, *words, said):
        """Call it with something on its standard input, and without the control socket."""
        command = [SOCKCTL, verb, *map(str, words)]
        return subprocess.run(command, cwd=self.directory, input=said, capture_output=True, text=True, timeout=30)

    def say(self, verb, *words):
        """Its standard output, for people; it must succeed."""
        done = self.run(verb, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, verb, *words):
        """Its answer, for programs."""
        return json.loads(self.say(verb, *words, "--json"))

    def ask_directly(self, verb):
        """Its result, without a program in between, which takes a moment to start."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(str(self.path))
            sock.sendall(json.dumps({"verb": verb}).encode() + b"\n")
            with sock.makefile("rb") as answers:
                return json.loads(answers.readline())["result"]


class Trace:
    """`sockctl trace` while it runs."""

    def __init__(self, sockctl, *words):
        command = [SOCKCTL, "trace", "--control", sockctl.path, "--json", *map(str, words)]
        self.process = subprocess.Popen(
            command, cwd=sockctl.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def __enter__(self):
        assert self.process.stderr.readline().startswith("sockctl: tracing")  # it is on
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.reader.join(10)
        self.process.__exit__(None, None, None)  # closes its pipes

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def frames(self):
        return [(one["direction"], one["data"]) for one in self.lines if "data" in one]

    def wait_for(self, count):
        _until(lambda: len(self.frames()) >= count)
        return self.frames()

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)
