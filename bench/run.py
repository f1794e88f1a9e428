"""The bench: servers that answer a line in upper case, side by side, every answer checked.

    python bench/run.py                                    # every scenario, every peer, 5 rounds of 3 s
    python bench/run.py --scenario tcp-64x1 --peer sockd --peer c-epoll --rounds 2 --seconds 1
    python bench/run.py --json figures.json

Each round starts every peer afresh, one after the other, so that what disturbs the machine disturbs all of them;
only ratios within a run mean anything. Server and generator have a core each. README.md explains the columns.
Exit code 1 when a peer gave a wrong answer or failed; a peer that is not installed is left out and named.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from report import Round, load_table, memory_table
from scenarios import PEERS, SCENARIOS, IdleMemory, Load
from servers import BUILD, HERE, MissingPeerError, PeerError, Server, pinned, wait_for

# -O3 because the ceiling should be one: at -O2 gcc does not vectorise its upper().
CFLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wstrict-prototypes"]
WARMUP_S = 0.3
GRACE_S = 60.0  # for connecting, draining and a machine that is busy
SETTLE_S = 0.3  # memory is read when it has not changed for this long


def build() -> None:
    BUILD.mkdir(exist_ok=True)
    for name in ("c_epoll", "loadgen"):
        subprocess.run([os.environ.get("CC", "cc"), *CFLAGS, "-o", BUILD / name, HERE / f"{name}.c"], check=True)


def two_cores() -> tuple[int, int]:
    """A core for the server and one for the generator."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("bench: needs two cores, one for the server and one for the generator")
    return cores[0], cores[1]


def generate(core: int, *words: object) -> subprocess.Popen[bytes]:
    """Start the load generator; the end of its standard input ends a run that only holds connections."""
    pipe = subprocess.PIPE
    with pinned(core):
        return subprocess.Popen([BUILD / "loadgen", *map(str, words)], stdin=pipe, stdout=pipe, stderr=pipe)


def measure_load(scenario: Load, server: Server, core: int, seconds: float) -> Round:
    load = ("--connections", scenario.connections, "--window", scenario.in_flight, "--length", scenario.line_bytes)
    times = ("--seconds", seconds, "--warmup", WARMUP_S, "--server-pid", server.pid)
    generator = generate(core, *load, "--idle", scenario.idle, *times, server.address)
    return result_of(generator, server, seconds + WARMUP_S + GRACE_S)


def measure_idle(scenario: IdleMemory, server: Server, core: int) -> Round:
    before, descriptors = settled_rss(server), server.descriptors()
    hold = ("--connections", 0, "--idle", scenario.connections, "--seconds", 2 * GRACE_S)
    generator = generate(core, *hold, server.address)

    def all_accepted() -> bool:
        return server.descriptors() >= descriptors + scenario.connections or generator.poll() is not None

    try:
        wait_for(all_accepted, GRACE_S, f"accepting {scenario.connections:,} connections")
        after = settled_rss(server)
    except BaseException:
        generator.kill()
        generator.communicate()
        raise
    result_of(generator, server, GRACE_S)
    growth = (after - before) / scenario.connections
    return {"rss_before": before, "rss_after": after, "bytes_per_connection": growth}


def settled_rss(server: Server) -> int:
    """Resident memory once it stands still."""
    rss, since = server.rss_bytes(), time.monotonic()
    deadline = since + GRACE_S / 4
    while time.monotonic() < min(since + SETTLE_S, deadline):
        time.sleep(SETTLE_S / 10)
        if (now := server.rss_bytes()) != rss:
            rss, since = now, time.monotonic()
    return rss


def result_of(generator: subprocess.Popen[bytes], server: Server, timeout_s: float) -> Round:
    """End the generator and read the figures it prints last; raise PeerError when it found anything wrong."""
    try:
        out, errors = generator.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        generator.kill()
        generator.communicate()
        raise PeerError(f"the generator did not end within {timeout_s:g} s") from None
    if generator.returncode != 0:
        said = [errors.decode(errors="replace").strip(), out.decode().strip(), server.last_words()]
        raise PeerError("\n    ".join(filter(None, said)))
    return json.loads(out.splitlines()[-1])


class Bench:
    """One run: the figures by scenario and peer, who was left out, who failed."""

    def __init__(self, rounds: int, seconds: float, peers: list[str]) -> None:
        self.rounds, self.seconds, self.peers = rounds, seconds, peers
        self.server_core, self.generator_core = two_cores()
        self.figures: dict[str, dict[str, list[Round]]] = {}
        self.failures: list[str] = []
        self.missing: dict[str, str] = {}

    def run(self, name: str) -> None:
        """All rounds of one scenario; each round begins with the next peer, so that none always follows the same."""
        scenario = SCENARIOS[name]
        peers = [peer for peer in self.peers if isinstance(scenario, Load) or peer in scenario.peers]
        figures = self.figures[name] = {peer: [] for peer in peers}
        for number in range(self.rounds):
            turn = number % len(peers) if peers else 0
            for peer in peers[turn:] + peers[:turn]:
                if peer not in self.missing:
                    self._measure(name, peer, number, figures[peer])
        of = f" of {self.seconds:g} s" if isinstance(scenario, Load) else ""
        print(f"\n{name}: {scenario.title}; {self.rounds} round{'s' * (self.rounds != 1)}{of}\n")
        print((load_table if isinstance(scenario, Load) else memory_table)(figures), flush=True)

    def _measure(self, name: str, peer: str, number: int, rows: list[Round]) -> None:
        scenario = SCENARIOS[name]
        try:
            with Server(PEERS[peer], scenario.transport, self.server_core) as server:
                if isinstance(scenario, Load):
                    figures = measure_load(scenario, server, self.generator_core, self.seconds)
                else:
                    figures = measure_idle(scenario, server, self.generator_core)
            rows.append({"round": number, **figures})
        except MissingPeerError as reason:
            self.missing[peer] = str(reason)
            print(f"{PEERS[peer].label}: left out: {reason}", file=sys.stderr)
        except PeerError as reason:
            self.failures.append(f"{name}, {PEERS[peer].label}, round {number + 1}: {reason}")
            print("FAILED:", self.failures[-1], file=sys.stderr)

    def as_json(self) -> str:
        document = {
            "machine": {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()},
            "rounds": self.rounds,
            "seconds": self.seconds,
            "scenarios": {name: asdict(SCENARIOS[name]) for name in self.figures},
            "figures": self.figures,
            "left_out": self.missing,
            "failures": self.failures,
        }
        return json.dumps(document, indent=1) + "\n"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Servers that answer a line in upper case, side by side.")
    parser.add_argument("--rounds", type=int, default=5, help="each with every peer in it (default: 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured for each peer and round (default: 3)")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="repeatable (default: all)")
    parser.add_argument("--peer", action="append", choices=PEERS, help="repeatable (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures there as well")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or not 0.1 <= arguments.seconds <= 3600:
        parser.error("--rounds from 1, --seconds from 0.1 to 3600")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    build()
    bench = Bench(arguments.rounds, arguments.seconds, [name for name in PEERS if name in (arguments.peer or PEERS)])
    for name in arguments.scenario or SCENARIOS:
        bench.run(name)
    if arguments.json:
        arguments.json.write_text(bench.as_json())
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
