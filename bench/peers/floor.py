# SPDX-License-Identifier: MIT
"""What CPython itself takes: nanoseconds of processor time for a function, called by map() with each of many lines.

    python floor.py [SECONDS]

The lines are those of 64 connections with 16 each, as they arrive in a turn; they are made anew each time, which is not
measured.
"""

import sys
import time

LINES, LENGTH = 64 * 16, 31


def upper(line: bytes) -> bytes:
    return line.upper()


def nanoseconds(seconds: float) -> float:
    """Of one line; the median of many turns."""
    data, turns, end = (b"x" * LENGTH + b"\n") * LINES, [], time.monotonic() + seconds
    while time.monotonic() < end:
        lines = data.split(b"\n")
        began = time.process_time_ns()
        list(map(upper, lines))
        turns.append((time.process_time_ns() - began) / len(lines))
    return sorted(turns)[len(turns) // 2]


if __name__ == "__main__":
    print(f"{nanoseconds(float(sys.argv[1]) if sys.argv[1:] else 0.5):.1f}")
