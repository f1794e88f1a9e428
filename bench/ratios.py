# SPDX-License-Identifier: MIT
"""The ratios that sockd is held to, beside what was measured: one line each.

    python bench/ratios.py                             # 5 rounds of 1 s, some 8 minutes
    python bench/ratios.py --rounds 3 --seconds 0.5 --only tcp --only datagrams

Each ratio compares two peers of the same round; the line has the median and the range.  "reached" is the median's
business; a peer that is not installed in this Python is named.  Only ratios are printed: for figures, see run.py,
datagrams.py, tls.py, calls.py and startup.py, whose measurements these are.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import calls
import datagrams
import startup
import tls
from measure import build, measure, two_cores
from report import aligned, cost_us, rate, spread
from scenarios import PEERS, SCENARIOS
from servers import HERE, MissingPeerError, PeerError, Server, pinned

Rows = Mapping[str, Sequence[float]]
"""By peer, a value of each round; the larger, the better."""


@dataclass(frozen=True)
class Asked:
    """A ratio: of what to what, and how large it has to be; `least` False: how small."""

    one: str
    other: str
    value: float
    least: bool = True


@dataclass(frozen=True)
class Part:
    """What is measured together: one round of one peer, and the ratios of its values."""

    title: str
    measure: Callable[[str, float], float]
    asked: Sequence[Asked]

    @property
    def peers(self) -> list[str]:
        return list(dict.fromkeys(peer for row in self.asked for peer in (row.one, row.other)))


def by_scenario(name: str, value: Callable[[Mapping[str, float]], float]) -> Callable[[str, float], float]:
    def one(peer: str, seconds: float) -> float:
        scenario, (core, other) = SCENARIOS[name], two_cores()
        with Server(PEERS[peer], scenario.service, scenario.transport, core) as server:
            return value(measure(scenario, server, other, seconds))

    return one


def line_cost(peer: str, seconds: float) -> float:
    """Nanoseconds of processor time for a line of tcp-64x16; of plain C, and of CPython's floor on top of it."""
    ns = 1000 * by_scenario("tcp-64x16", cost_us)("c-epoll" if peer == "floor" else peer, seconds)
    if peer != "floor":
        return ns
    with pinned(two_cores()[0]):
        done = subprocess.run(
            [sys.executable, HERE / "peers" / "floor.py", str(seconds)], capture_output=True, check=True
        )
    return ns + float(done.stdout)


def answers(peer: str, seconds: float) -> float:
    return datagrams.measure_answers(peer, two_cores(), seconds)["per_second"]


def kept(peer: str, _seconds: float) -> float:
    """Datagrams of a burst that were not lost; the median of three behind a slow one."""
    with datagrams.running(peer, "hear", two_cores()[0]) as server:
        datagrams.flood(server, two_cores()[1], datagrams.FIRST_RATE / 2)
        bursts = [datagrams.flood(server, two_cores()[1], 0)["lost"] for _ in range(3)]
    return datagrams.BURST - median(bursts)


def over_tls(shape: str) -> Callable[[str, float], float]:
    def one(peer: str, seconds: float) -> float:
        with tempfile.TemporaryDirectory() as directory:
            room = Path(directory)
            tls.certify(room)
            context = tls.ssl.create_default_context(cafile=room / "certificate.pem")
            return tls.measure(peer, tls.SHAPES[shape], room, context, seconds)

    return one


def start(name: str, _seconds: float) -> float:
    with tempfile.TemporaryDirectory() as directory:
        room = Path(directory)
        (room / "line").write_bytes(b"hello\n")
        return float(startup.run(startup.build(room), room / "line", name)[1])


def call(name: str, _seconds: float) -> float:
    way = calls.ways()[name]
    return min(calls.nanoseconds(way) for _ in range(20))


def small(*rows: Asked) -> list[Asked]:
    """The same of costs: the smaller, the better."""
    return [Asked(row.one, row.other, row.value, least=False) for row in rows]


TLS_PEERS = ("uvloop Protocol", "uvloop streams")
PARTS = {
    "tcp-64x1": Part(
        "a function, 64 connections, 1 line in flight: rate",
        by_scenario("tcp-64x1", rate),
        [
            Asked("sockd", "c-epoll", 1.0),
            Asked("sockd", "uvloop-protocol", 1.3),
            Asked("sockd", "blazio-protocol", 1.15),
            Asked("sockd", "rloop-protocol", 1.0),
            Asked("sockd-session", "uvloop-streams", 1.2),
            Asked("asyncio-buffer", "asyncio-protocol", 0.95),
        ],
    ),
    "tcp-64x16": Part(
        "a function, 64 connections, 16 lines in flight: rate",
        by_scenario("tcp-64x16", rate),
        [
            Asked("sockd", "c-epoll", 0.76),
            Asked("sockd", "uvloop-protocol", 1.5),
            Asked("sockd", "blazio-protocol", 1.15),
            Asked("sockd", "rloop-protocol", 1.0),
            Asked("asyncio-buffer", "asyncio-protocol", 0.95),
        ],
    ),
    "floor": Part(
        "CPU of a line, 64x16, above plain C and map(f, lines)", line_cost, small(Asked("sockd", "floor", 1.2))
    ),
    "upload": Part("upload: rate", by_scenario("upload", rate), [Asked("sockd", "uvloop-protocol", 2.0)]),
    "redis-1": Part(
        "redis-benchmark -P 1: CPU of a request", by_scenario("redis-1", cost_us), small(Asked("sockd", "redis", 1.0))
    ),
    "datagrams": Part(
        "UDP, 16 sockets: rate of answers", answers, [Asked("sockd", "c", 0.85), Asked("sockd", "uvloop", 1.3)]
    ),
    "burst": Part("UDP, a burst of 100,000: what was not lost", kept, [Asked("sockd", "c", 1.0)]),
    "tls-64x1": Part(
        "TLS, 64 connections, 1 line: CPU of a line",
        over_tls("64x1x32"),
        small(*(Asked(tls.SOCKD[0], peer, 1 / 1.2) for peer in TLS_PEERS)),
    ),
    "tls-64x16": Part(
        "TLS, 64 connections, 16 lines: CPU of a line",
        over_tls("64x16x32"),
        small(*(Asked(tls.SOCKD[0], peer, 1.0) for peer in TLS_PEERS)),
    ),
    "tls-16k": Part(
        "TLS, 8 connections, lines of 16 KiB: CPU of a line",
        over_tls("8x1x16384"),
        small(*(Asked(tls.SOCKD[0], peer, 1.0) for peer in TLS_PEERS)),
    ),
    "programs": Part(
        "a program for each connection: rate",
        by_scenario("programs", rate),
        [Asked("sockd-programs", "xinetd", 1.1), Asked("sockd-programs", "tcpserver", 0.8)],
    ),
    "startup": Part(
        "a start: CPU",
        start,
        small(
            Asked("sockd --inetd upper", startup.BASE, 5.0),
            Asked("sockd --inetd upper", "python -c 'import asyncio'", 1.0),
            Asked("sockd --version", startup.BASE, 6.0),
            Asked("sockd --help", startup.BASE, 6.0),
            Asked("sockctl status", startup.BASE, 6.0),
        ),
    ),
    "calls": Part(
        "feed and iterate 16 lines: time of a call",
        call,
        small(Asked("ReceiveBuffer, feed and iterate, 16 x Line", "split by hand, 16 lines", 1.4)),
    ),
}


def measured(part: Part, rounds: int, seconds: float) -> tuple[Rows, dict[str, str]]:
    """Every peer in each round, which begins with another one; and who is missing, with the reason."""
    rows: dict[str, list[float]] = {peer: [] for peer in part.peers}
    missing: dict[str, str] = {}
    for number in range(rounds):
        turn = number % len(part.peers)
        for peer in part.peers[turn:] + part.peers[:turn]:
            if peer in missing:
                continue
            try:
                rows[peer].append(part.measure(peer, seconds))
            except (MissingPeerError, PeerError, OSError, subprocess.CalledProcessError, SystemExit) as reason:
                missing[peer] = str(reason).partition("\n")[0]
    return rows, missing


def lines(part: Part, rows: Rows, missing: Mapping[str, str]) -> list[list[str]]:
    """A line for each ratio that was asked for."""
    found = []
    for row in part.asked:
        names = [PEERS[peer].label if peer in PEERS else peer for peer in (row.one, row.other)]
        asked = f"{'at least' if row.least else 'at most'} {row.value:.3g}"
        why = missing.get(row.one) or missing.get(row.other)
        if why:
            found.append([" / ".join(names), "-", asked, why])
            continue
        values = [one / other for one, other in zip(rows[row.one], rows[row.other], strict=True)]
        is_reached = median(values) >= row.value if row.least else median(values) <= row.value
        found.append([" / ".join(names), spread(values), asked, "reached" if is_reached else "MISSED"])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="The ratios that sockd is held to.")
    parser.add_argument("--rounds", type=int, default=5, help="each with every peer in it (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement (default: 1)")
    parser.add_argument("--only", action="append", metavar="PART", help=f"a prefix of {', '.join(PARTS)}")
    arguments = parser.parse_args()
    build()
    datagrams.build()
    for name, part in PARTS.items():
        if arguments.only and not name.startswith(tuple(arguments.only)):
            continue
        rows, missing = measured(part, arguments.rounds, arguments.seconds)
        print(f"\n{name}: {part.title}\n{aligned(lines(part, rows, missing))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
