# SPDX-License-Identifier: MIT
"""`sockctl` as a person or a program calls it, for tests of the control socket."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

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
