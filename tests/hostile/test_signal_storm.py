# SPDX-License-Identifier: MIT
"""Signals in the middle of work: no answer is lost, no descriptor either ("Shows" 8).

SOCKD_SOAK=1 sends ten thousand.  Seen to fail: with reopen() not closing the old file the descriptors grow.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from contextlib import suppress

from watching import SOAK, _until

STORM = 10_000 if SOAK else 300
PAUSE_S = 0.002


def descriptors(pid):
    """Kind and number of the daemon's descriptors, connections apart."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed in the meantime, as a log that is opened anew
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return sorted(found)


def test_a_storm_of_signals_loses_no_answer(background, figure):
    """HUP, USR1 and CHLD in random order, 2 ms apart, while four clients ask; then TERM ("Shows" 8)."""
    one = background(app="def upper(line):\n    return line.upper()\n", service="app:upper")
    pid = one.pid
    before = descriptors(pid)
    over = threading.Event()
    asked, wrong = [0] * 4, []
    threads = [threading.Thread(target=ask_on, args=(one, number, over, asked, wrong)) for number in range(4)]
    for thread in threads:
        thread.start()
    dice = random.Random(8)
    for _ in range(STORM):
        os.kill(pid, dice.choice([signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD]))
        over.wait(PAUSE_S)
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(asked) > 100
    _until(lambda: descriptors(pid) == before)
    one.stop()
    assert one.lines[-1]["message"] == "stopped"
    assert len(one.logged("log reopened")) > STORM / 20
    figure("seen", f"{STORM} signals, {sum(asked)} answers, all right; {len(before)} descriptors as before")


def ask_on(one, number, over, asked, wrong):
    """Ask, on one connection after another, and compare every answer."""
    host, _, port = one.addresses[0].removeprefix("tcp://").rpartition(":")
    while not over.is_set():
        with socket.create_connection((host, int(port)), timeout=20) as sock, sock.makefile("rb") as answers:
            for _ in range(20):
                line = b"line %d of %d" % (asked[number], number)
                sock.sendall(line + b"\n")
                if (answer := answers.readline()) != line.upper() + b"\n":
                    wrong.append((line, answer))
                asked[number] += 1
