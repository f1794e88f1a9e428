# SPDX-License-Identifier: MIT
"""Handlers that never return, each in another way, and how long a daemon takes to end in spite of them."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

APP = """
import ctypes
import os
import threading
import time

WITH_LOCK, WITHOUT_LOCK = ctypes.PyDLL(None), ctypes.CDLL(None)
held = threading.Lock()
held.acquire()


def entered():
    try:
        fd = os.open(os.path.join(os.path.dirname(__file__), "entered"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError:  # within a sandbox
        os.write(2, b"entered\\n")
        return
    os.write(fd, b"%d\\n" % os.getpid())
    os.close(fd)


def spin(library):
    # pthread_spin_lock(3) of a lock that is held: a loop in C
    lock = ctypes.create_string_buffer(64)
    library.pthread_spin_init(lock, 0)
    library.pthread_spin_lock(lock)
    entered()
    library.pthread_spin_lock(lock)


def python(line):
    entered()
    while True:
        pass


def sleep(line):
    entered()
    time.sleep(3600)


def c_with_lock(line):
    spin(WITH_LOCK)


def c_without_lock(line):
    spin(WITHOUT_LOCK)


def lock(line):
    entered()
    held.acquire()


def blocking(line):
    entered()
    while True:
        pass


async def coroutine(reader, writer):
    await reader.readline()
    entered()
    while True:
        pass
"""
KINDS = ("python", "sleep", "c_with_lock", "c_without_lock", "lock", "blocking", "coroutine")
SLACK_S = 0.3
AGAIN_S = 0.2
"""For a busy machine to tell us that a process has ended."""


def lines_of(kind: str) -> set[int]:
    """Lines of app.py at which a handler of that kind hangs, or calls what does."""
    lines = APP.splitlines()
    start = next(number for number, line in enumerate(lines, 1) if f"def {kind}(" in line)
    end = next((number for number, line in enumerate(lines, 1) if number > start and not line.strip()), len(lines) + 1)
    return set(range(start + 1, end))


def toml(kind: str, address: str = "tcp://127.0.0.1:0", daemon: str = "") -> str:
    more = "blocking = true\n" if kind == "blocking" else ""
    listen = f'[[listen]]\naddress = "{address}"\nservice = "stuck"\n'
    return f'[daemon]\nstop_timeout = "60s"\n{daemon}\n{listen}[service.stuck]\nhandler = "app:{kind}"\n{more}'


def is_pending(pid: int, number: int) -> bool:
    """Whether a signal waits for a process still: a second one of its kind would be lost."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return any(int(fields[name], 16) >> (number - 1) & 1 for name in ("ShdPnd", "SigPnd"))


def send(pid: int, number: int, until) -> None:
    os.kill(pid, number)
    until(lambda: not is_pending(pid, number))


class Ends:
    """Waits for the ends of processes, whosever children they are."""

    def __init__(self, *pids: int) -> None:
        self.fds = [os.pidfd_open(pid) for pid in pids]

    def wait(self, seconds: float, again=None) -> float:
        """Wait until all have ended, and return how long that took.

        Args:
            again: called now and then: two signals of one kind, close together, may be one (signal(7)).
        """
        began = time.monotonic()
        left = set(self.fds)
        while left:
            rest = began + seconds - time.monotonic()
            ready, _, _ = select.select(left, [], [], max(0, min(rest, AGAIN_S) if again else rest))
            if again and not ready and rest > 0:
                again()
                continue
            assert ready, f"{len(left)} of {len(self.fds)} processes have not ended within {seconds} s"
            left -= set(ready)
        for fd in self.fds:
            os.close(fd)
        return time.monotonic() - began


SECOND_TERM, INT, QUIT = (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT,), (signal.SIGQUIT,)
