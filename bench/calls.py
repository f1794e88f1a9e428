# SPDX-License-Identifier: MIT
"""What one call costs, no sockets: sockd.buffer beside the same by hand, and a protocol's reply in each framing.

    python bench/calls.py [--rounds 40]

Nanoseconds of processor time, the best of the rounds, which are interleaved: what is measured is a few hundred
instructions, and everything else that a machine does only adds to them.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

from report import aligned

from sockd.buffer import Delimiter, Line, Netstring, Prefix, ReceiveBuffer, SendBuffer, StrictLine, encode, encode_all
from sockd.net.connection.codec import make_codec
from sockd.net.connection.life import Life
from sockd.net.connection.write_transport import WriteTransport

LOOPS = 1000
LINE = b"abcdefghijklmnopqrstuvwxyz01234"
LIMIT = 8192
FRAMINGS = (Line(LIMIT), StrictLine(LIMIT), Delimiter(LIMIT, b"|"), Netstring(LIMIT), Prefix(LIMIT, 4))

Way = Callable[[], object]


def received(framing, count: int) -> Way:
    """What arrives, fed and iterated over."""
    data, buffer = encode_all(framing, [LINE] * count), ReceiveBuffer(framing)

    def run() -> None:
        buffer.feed(data)
        for _frame in buffer:
            pass

    return run


def split(count: int) -> Way:
    """The same of lines, as it is written by hand."""
    data, tail = (LINE + b"\n") * count, b""

    def run() -> None:
        nonlocal tail
        lines = (tail + data).split(b"\n")
        tail = lines.pop()
        for _line in lines:
            pass

    return run


def sent(framing, count: int) -> Way:
    """Payloads through a SendBuffer."""
    payloads, buffer = [LINE] * count, SendBuffer(framing)

    def run() -> None:
        buffer.extend(payloads)
        buffer.pop_all()

    return run


class Table:
    """Of connections: it is only told which one has output."""

    def will_write(self, connection: object) -> None:
        """Take note."""


def replied(framing) -> Way:
    """A reply of a protocol class: everything up to the turn's end."""
    table = Table()
    transport = WriteTransport(1, table, make_codec(framing, table, wire=True), 2**40)
    transport._life = Life.OPEN
    replies = 0

    def run() -> None:
        nonlocal replies
        transport.reply(LINE)
        replies += 1
        if replies % LOOPS == 0:
            transport.outbox.pieces.clear()

    return run


def ways() -> dict[str, Way]:
    """Name what is measured."""
    found: dict[str, Way] = {}
    for count in (1, 16, 128):
        found[f"split by hand, {count} lines"] = split(count)
        for framing in (FRAMINGS[0], FRAMINGS[3]):
            found[f"ReceiveBuffer, feed and iterate, {count} x {type(framing).__name__}"] = received(framing, count)
    found["bytes % by hand, 1 x Netstring"] = lambda: b"%d:%b," % (len(LINE), LINE)
    for framing in FRAMINGS:
        found[f"encode, 1 x {type(framing).__name__}"] = lambda framing=framing: encode(framing, LINE)
    lines = [LINE] * 16
    found["bytes.join by hand, 16 lines"] = lambda: b"\n".join([*lines, b""])
    for framing in (FRAMINGS[0], FRAMINGS[3]):
        name = type(framing).__name__
        found[f"encode_all, 16 x {name}"] = lambda framing=framing: encode_all(framing, lines)
        found[f"SendBuffer, extend and pop_all, 16 x {name}"] = sent(framing, 16)
    for framing in FRAMINGS:
        found[f"Connection.reply, 1 x {type(framing).__name__}"] = replied(framing)
    return found


def nanoseconds(way: Way) -> float:
    """Of one call."""
    began = time.process_time_ns()
    for _ in range(LOOPS):
        way()
    return (time.process_time_ns() - began) / LOOPS


def main() -> int:
    parser = argparse.ArgumentParser(description="What one call costs.")
    parser.add_argument("--rounds", type=int, default=40, help="each with every call in it (default: 40)")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    calls = ways()
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(arguments.rounds):
        for name, way in calls.items():
            best[name] = min(best[name], nanoseconds(way))
    empty = min(nanoseconds(lambda: None) for _ in range(arguments.rounds))
    print(aligned([["", "ns"], *([name, f"{figure - empty:,.0f}"] for name, figure in best.items())]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
