# SPDX-License-Identifier: MIT
"""Lines out of a stream, no sockets: sockd.buffer, its C core, and what Python programs use, side by side.

    python bench/framing.py [--rounds 5] [--mib 16]

The stream comes in pieces of 64 KiB, so that nearly every piece ends within a line. Each way hands every line to a loop
that does nothing with it, and the number of lines is checked. Rounds are interleaved: every round has every way in it,
beginning with the next one; the table has medians, and ratios of the same round.
"""

import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from report import aligned

HERE = Path(__file__).resolve().parent
CHUNK_BYTES = 64 * 1024
LINE_BYTES = (32, 100, 1000)
MAX_BYTES = 8192
REFERENCE = "bytes.split"

Way = Callable[[list[bytes]], int]


def split(chunks: list[bytes]) -> int:
    lines, tail = 0, b""
    for chunk in chunks:
        found = (tail + chunk).split(b"\n")
        tail = found.pop()
        lines += len(found)
        for _line in found:
            pass
    return lines


def bytesio(chunks: list[bytes]) -> int:
    """Its lines keep their newline: a reader that wants them without has more to do."""
    taken, tail = 0, b""
    for chunk in chunks:
        data = tail + chunk
        for line in io.BytesIO(data):  # noqa: B007 - the last one is
            pass
        tail = b"" if line.endswith(b"\n") else line
        taken += len(data) - len(tail)
    return taken


def stream_reader(chunks: list[bytes]) -> int:
    async def read() -> int:
        reader = asyncio.StreamReader(limit=2 * CHUNK_BYTES)
        lines, held = 0, 0
        for chunk in chunks:
            reader.feed_data(chunk)
            held += chunk.count(b"\n")
            for _ in range(held):
                await reader.readline()
            lines, held = lines + held, 0
        return lines

    return asyncio.run(read())


def twisted(name: str) -> Way:
    from twisted.internet.testing import StringTransport
    from twisted.protocols import basic

    def run(chunks: list[bytes]) -> int:
        lines = 0

        class Receiver(getattr(basic, name)):
            delimiter = b"\n"
            MAX_LENGTH = MAX_BYTES

            def lineReceived(self, line: bytes) -> None:  # noqa: N802 - Twisted's name
                nonlocal lines
                lines += 1

        receiver = Receiver()
        receiver.makeConnection(StringTransport())
        for chunk in chunks:
            receiver.dataReceived(chunk)
        return lines

    return run


def h11_buffer(chunks: list[bytes]) -> int:
    from h11._receivebuffer import ReceiveBuffer

    buffer, lines = ReceiveBuffer(), 0
    for chunk in chunks:
        buffer += chunk
        while buffer.maybe_extract_next_line() is not None:
            lines += 1
    return lines


def sockd_frames(chunks: list[bytes]) -> int:
    from sockd.buffer import Line, ReceiveBuffer

    buffer = ReceiveBuffer(Line(MAX_BYTES))
    for chunk in chunks:
        buffer.feed(chunk)
        for _line in buffer:
            pass
    return buffer.offset


def sockd_views(chunks: list[bytes]) -> int:
    from sockd.buffer import Line, ReceiveBuffer

    buffer = ReceiveBuffer(Line(MAX_BYTES))
    for chunk in chunks:
        buffer.feed(chunk)
        for _line in buffer.views():
            pass
    return buffer.offset


# name: (what ends a line for it, whether it says bytes in place of lines, how to make it)
WAYS: dict[str, tuple[bytes, bool, Callable[[], Way]]] = {
    REFERENCE: (b"\n", False, lambda: split),
    "io.BytesIO iteration": (b"\n", True, lambda: bytesio),
    "sockd.buffer, for frame in buffer": (b"\n", True, lambda: sockd_frames),
    "sockd.buffer, CR LF": (b"\r\n", True, lambda: sockd_frames),
    "sockd.buffer, views": (b"\n", True, lambda: sockd_views),
    "asyncio.StreamReader.readline": (b"\n", False, lambda: stream_reader),
    "Twisted LineOnlyReceiver": (b"\n", False, lambda: twisted("LineOnlyReceiver")),
    "Twisted LineReceiver": (b"\n", False, lambda: twisted("LineReceiver")),
    "h11's receive buffer": (b"\r\n", False, lambda: h11_buffer),
}
IN_C = ("C: memcpy", "C: memchr loop", "C: sb_frames_find")


def chunks_of(line_bytes: int, ending: bytes, size: int) -> tuple[list[bytes], int]:
    """Cut a stream of equal lines into pieces; also how many lines it has."""
    line = b"x" * (line_bytes - len(ending)) + ending
    lines = size // line_bytes
    stream = line * lines
    return [stream[at : at + CHUNK_BYTES] for at in range(0, len(stream), CHUNK_BYTES)], lines


def lines_a_second(way: Way, chunks: list[bytes], lines: int, says_bytes: bool) -> float:
    start = time.process_time()
    found = way(chunks)
    took = time.process_time() - start
    expected = sum(map(len, chunks)) if says_bytes else lines
    if found != expected:
        raise SystemExit(f"{way.__name__}: {found} instead of {expected}")
    return lines / took


def in_c(program: Path, line_bytes: int) -> dict[str, float]:
    run = subprocess.run([program, str(line_bytes)], check=True, capture_output=True, text=True)
    return {name: float(figure) / line_bytes for name, figure in zip(IN_C, run.stdout.split(), strict=True)}


def build() -> Path:
    program = HERE / "build" / "framing"
    program.parent.mkdir(exist_ok=True)
    csrc = HERE.parent / "csrc"
    sources = [str(path) for path in sorted(csrc.glob("*.c"))]
    options = ["-std=c11", "-D_GNU_SOURCE", "-O2", f"-I{csrc}", "-pthread"]
    subprocess.run(["cc", *options, str(HERE / "framing.c"), *sources, "-o", str(program)], check=True)
    return program


def measure(line_bytes: int, rounds: int, mib: int, program: Path) -> dict[str, list[float]]:
    ready = {}
    for name, (ending, says_bytes, make) in WAYS.items():
        try:
            ready[name] = (make(), *chunks_of(line_bytes, ending, mib << 20), says_bytes)
        except ImportError as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
    figures: dict[str, list[float]] = {name: [] for name in (*ready, *IN_C)}
    names = list(ready)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            figures[name].append(lines_a_second(*ready[name]))
        for name, figure in in_c(program, line_bytes).items():
            figures[name].append(figure)
    return figures


def table(line_bytes: int, figures: dict[str, list[float]]) -> str:
    rows = [["", "million lines/s", "GB/s", f"x {REFERENCE}", "x asyncio.StreamReader", "x memcpy"]]
    for name, values in figures.items():
        middle = median(values)
        row = [name, f"{middle / 1e6:,.1f}", f"{middle * line_bytes / 1e9:,.2f}"]
        for other in (REFERENCE, "asyncio.StreamReader.readline", IN_C[0]):
            ratio = median(mine / theirs for mine, theirs in zip(values, figures[other], strict=True))
            row.append(f"{ratio:.2f}" if ratio >= 0.01 else f"{ratio:.4f}")
        rows.append(row)
    return aligned(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Lines out of a stream, side by side.")
    parser.add_argument("--rounds", type=int, default=5, help="each with every way in it (default: 5)")
    parser.add_argument("--mib", type=int, default=16, help="size of the stream for Python (default: 16)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures there as well")
    arguments = parser.parse_args()
    program = build()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    everything = {}
    for line_bytes in LINE_BYTES:
        figures = measure(line_bytes, arguments.rounds, arguments.mib, program)
        everything[line_bytes] = figures
        print(f"\n{line_bytes}-byte lines, newline included; pieces of 64 KiB; {arguments.rounds} rounds\n")
        print(table(line_bytes, figures), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
