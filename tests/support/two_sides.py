# SPDX-License-Identifier: MIT
"""The same handlers under asyncio and under sockd, so that what each is told, and answers, can be compared."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress

from serving import LIMIT_S, Server


class Side:
    """One of the two.

    Attributes:
        addresses: of what is served, by (name, kind of socket).
        diaries: a directory; DIARY of the environment of handlers that write down there what they are told.
    """

    def __init__(self, addresses, diaries):
        self.addresses = addresses
        self.diaries = diaries

    def forget(self, name):
        with suppress(FileNotFoundError):
            (self.diaries / name).unlink()

    def diary(self, name):
        """Wait for the diary of a handler that has ended."""
        end = time.monotonic() + LIMIT_S
        while not (self.diaries / name).exists():
            assert time.monotonic() < end, f"{name} has not ended"
            time.sleep(0.002)  # asks again: a file is no event
        return json.loads((self.diaries / name).read_text())


def address_of(name, kind, directory):
    """Return where a handler is to be served, as sockd writes it."""
    if kind.startswith("unix"):
        return f"{kind}:{directory}/{name}"
    return f"{kind}://127.0.0.1:0"


def _by_asyncio(script, wanted, directory, environment, stack):
    """Start a script that serves each word NAME=ADDRESS and prints `NAME ADDRESS` for it."""
    words = [f"{name}={address_of(name, kind, directory)}" for name, kind in wanted]
    process = subprocess.Popen(
        [sys.executable, str(directory / script), *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it prints the exceptions that the handlers raise
        text=True,
    )
    stack.callback(process.stdout.close)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return {key: process.stdout.readline().split()[1] for key in wanted}


def _by_sockd(module_of, wanted, directory, environment, stack):
    words = ["--foreground", "--log-format", "json"]
    for name, kind in wanted:
        words += ["--listen", f"{address_of(name, kind, directory)}={module_of(name)}:{name}"]
    server = Server(words, directory, environment)
    stack.callback(server.end)
    server.ready()
    listening = [(one["service"].partition(":")[2], one["address"]) for one in server.having("listening")]
    return {(name, address.partition(":")[0]): address for name, address in listening}


@contextmanager
def both(wanted, files, script, module_of, make_directory):
    """Serve on both sides; yields a Side by "sockd" and "asyncio".

    Args:
        wanted: (name of a handler, kind of socket: tcp, unix, udp or unixgram).
        files: paths of modules that both import.
        script: name of the one of them that serves with asyncio.
        module_of: from the name of a handler to that of its module.
        make_directory: makes one of that name.
    """
    with ExitStack() as stack:
        made = {}
        for side, start, how in (("sockd", _by_sockd, module_of), ("asyncio", _by_asyncio, script)):
            directory = make_directory(side)
            for file in files:
                shutil.copy(file, directory)
            diaries = directory / "diaries"
            diaries.mkdir()
            environment = {"DIARY": str(diaries), "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
            made[side] = Side(start(how, wanted, directory, environment, stack), diaries)
        yield made
