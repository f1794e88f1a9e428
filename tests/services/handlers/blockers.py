# SPDX-License-Identifier: MIT
"""Blocking handlers of the tests."""

import threading
import time

import sockd

slow = sockd.Service(blocking=True)
batch = sockd.Service(blocking=True)
barrier = threading.Barrier(3)
calls = {"now": 0, "most": 0}
lock = threading.Lock()


@slow.frame
def answer(line):
    verb, _, rest = line.partition(b" ")
    match verb:
        case b"boom":
            raise RuntimeError("told to")
        case b"exit":
            raise SystemExit
        case b"bye":
            raise sockd.Close(b"last words")
        case b"none":
            return None
        case b"sleep":
            time.sleep(float(rest))
    return line


@batch.frames
def answers(lines):
    return [line.upper() for line in lines]


def meet(line):
    """Return only when three calls are in progress at once."""
    barrier.wait(20)
    return line


def counted(line):
    """Tell how many calls there were at once, at most."""
    with lock:
        calls["now"] += 1
        calls["most"] = max(calls.values())
    time.sleep(0.002)
    with lock:
        calls["now"] -= 1
    return b"%s %d" % (line, calls["most"])


def burn(line):
    """Compute for so many seconds."""
    end = time.monotonic() + float(line)
    number = 0
    while time.monotonic() < end:
        number = (number * 31 + 7) % 1_000_003
    return b"%d" % number


def stuck(line):
    if line != b"hello":
        threading.Event().wait()
    return line


def callback(line):
    return line.upper()


def with_connection(line, connection):
    return line
