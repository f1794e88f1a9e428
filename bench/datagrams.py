# SPDX-License-Identifier: MIT
"""Datagrams: answers a second, and the rate at which the first one is lost, of sockd and its peers.

    python bench/datagrams.py                          # 5 rounds of 2 s
    python bench/datagrams.py --rounds 2 --seconds 1 --peer sockd --peer c

Three tables: 16 sockets that ask and wait for the answer; a burst of 100,000 datagrams, as fast as they leave, to a
service that only listens; and the highest rate of 100,000 datagrams of which the kernel had to drop none, in steps of
a tenth. Receive buffers have the system's default size. Peers run one after the other, in each round from another one.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from measure import CFLAGS, PeerError, generate, result_of, two_cores
from report import Round, aligned, spread
from servers import BUILD, HERE, find_sockd, pinned

SOCKETS = 16
BURST = 100_000
FIRST_RATE, STEP = 40_000, 1.1
PYTHON = (sys.executable, "asyncio_datagrams.py", "{port}", "{service}")
SOCKD = ("{sockd}", "--foreground", "--log-level", "warning", "--listen", "udp://127.0.0.1:{port}={service}")
PEERS = {
    "c": (str(BUILD / "c_datagrams"), "{port}", "{service}"),
    "sockd": (*SOCKD[:-1], "udp://127.0.0.1:{port}=sockd_app:{service}"),
    "sockd-protocol": (*SOCKD[:-1], "udp://127.0.0.1:{port}=sockd_app:Datagrams{service}"),
    "uvloop": (*PYTHON, "uvloop"),
    "asyncio": (*PYTHON, "asyncio"),
}


def build() -> None:
    BUILD.mkdir(exist_ok=True)
    for name in ("c_datagrams", "datagrams"):
        command = [os.environ.get("CC", "cc"), *CFLAGS, "-o", BUILD / name, HERE / f"{name}.c"]
        subprocess.run(command, check=True)


class Peer:
    """A running server of datagrams, as the generators want to know it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.pid, self.port = process.pid, port

    def last_words(self) -> str:
        """Nothing: its standard error goes nowhere."""
        return ""

    def drops(self) -> int:
        """Datagrams that found its receive buffer full: the last column of /proc/net/udp."""
        rows = (line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:])
        return sum(int(row[-1]) for row in rows if int(row[1].rpartition(":")[2], 16) == self.port)


@contextmanager
def running(name: str, service: str, core: int) -> Iterator[Peer]:
    """Start a peer on a port that nobody has now, and wait until it has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = {"port": port, "service": service, "sockd": find_sockd() if "sockd" in name else ""}
    with pinned(core):
        process = subprocess.Popen(
            [word.format_map(words) for word in PEERS[name]],
            cwd=HERE / "peers",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        deadline = time.monotonic() + 15
        while f":{port:04X} " not in Path("/proc/net/udp").read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise PeerError(f"{name} did not start")
            time.sleep(0.02)
        time.sleep(0.3)
        yield Peer(process, port)
    finally:
        process.terminate()
        process.wait(10)


def measure_answers(name: str, cores: tuple[int, int], seconds: float) -> Round:
    with running(name, "upper", cores[0]) as peer:
        return result_of(generate(cores[1], "datagrams", "ask", peer.port, peer.pid, SOCKETS, seconds), peer, 60)


def flood(peer: Peer, core: int, rate: float) -> Round:
    before = peer.drops()
    figures = result_of(generate(core, "datagrams", "flood", peer.port, peer.pid, BURST, rate), peer, 60)
    lost = peer.drops() - before
    return {**figures, "lost": lost, "cpu_us": figures["cpu_us"] * BURST / max(BURST - lost, 1)}


def measure_floods(name: str, cores: tuple[int, int], _seconds: float) -> Round:
    """A burst, then faster and faster until one is lost."""
    with running(name, "hear", cores[0]) as peer:
        flood(peer, cores[1], FIRST_RATE / 2)
        figures = flood(peer, cores[1], 0)
        rate, kept = float(FIRST_RATE), 0.0
        while rate < 3e6 and (one := flood(peer, cores[1], rate))["lost"] == 0 and one["per_second"] > kept:
            kept, rate = one["per_second"], rate * STEP
        return {**figures, "without_loss": kept}


def rounds_of(measure, peers: list[str], cores: tuple[int, int], rounds: int, seconds: float) -> dict[str, list[Round]]:
    figures: dict[str, list[Round]] = {peer: [] for peer in peers}
    for number in range(rounds):
        turn = number % len(peers)
        for peer in peers[turn:] + peers[:turn]:
            figures[peer].append(measure(peer, cores, seconds))
    return figures


def show(title: str, figures: dict[str, list[Round]], keys: dict[str, str], ratio: str) -> None:
    """One row a peer: medians, and the ratio of one key to plain C and to uvloop in the same round."""
    others = [other for other in ("c", "uvloop") if other in figures]
    cells = [["", *keys.values(), *(f"x {other}" for other in others)]]
    for peer, rows in figures.items():
        row = [peer, *(f"{median(one[key] for one in rows):,.4g}" for key in keys)]
        for other in others:
            pairs = zip(rows, figures[other], strict=True)
            row.append(spread([a[ratio] / b[ratio] for a, b in pairs if b[ratio]]))
        cells.append(row)
    print(f"\n{title}\n\n{aligned(cells)}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Datagrams: answers a second, and the first loss.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--peer", action="append", choices=PEERS)
    parser.add_argument("--table", action="append", choices=("answers", "floods"))
    arguments = parser.parse_args()
    build()
    cores, peers = two_cores(), arguments.peer or [*PEERS]
    run = (peers, cores, arguments.rounds, arguments.seconds)
    tables = arguments.table or ("answers", "floods")
    if "answers" in tables:
        keys = {"per_second": "answers/s", "lost": "lost", "server_cpu": "CPU", "cpu_us": "us each"}
        show(f"{SOCKETS} sockets, 32 bytes, one in flight", rounds_of(measure_answers, *run), keys, "per_second")
    if "floods" in tables:
        keys = {
            "lost": f"lost of {BURST:,}",
            "per_second": "sent/s",
            "cpu_us": "us each",
            "without_loss": "no loss to /s",
        }
        show("a service that only listens", rounds_of(measure_floods, *run), keys, "without_loss")
    return 0


if __name__ == "__main__":
    sys.exit(main())
