# SPDX-License-Identifier: MIT
"""The bench: servers that do the same with lines, side by side, every answer checked.

    python bench/run.py                                    # every scenario, every peer, 5 rounds of 3 s
    python bench/run.py --scenario tcp-64x1 --peer sockd --peer c-epoll --rounds 2 --seconds 1
    python bench/run.py --json figures.json                # for publish.py

Each round starts every peer afresh, one after the other, so that what disturbs the machine disturbs all of them;
only ratios within a run mean anything. Server and generator have a core each. README.md explains the columns.
Exit code 1 when a peer gave a wrong answer or failed; a peer that is not installed is left out and named.
"""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from measure import build, look_for_generator, measure, two_cores
from report import Round, aligned, table
from scenarios import PEERS, SCENARIOS
from servers import MissingPeerError, PeerError, Server


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
        try:
            look_for_generator(scenario)
        except MissingPeerError as reason:
            self._leave_out(name, name, reason)
            return
        peers = [peer for peer in self.peers if scenario.service in PEERS[peer].services]
        figures = self.figures[name] = {peer: [] for peer in peers}
        for number in range(self.rounds):
            turn = number % len(peers) if peers else 0
            for peer in peers[turn:] + peers[:turn]:
                if peer not in self.missing:
                    self._measure(name, peer, number, figures[peer])
        print(f"\n{name}: {scenario.title}; {self.rounds} round{'s' * (self.rounds != 1)} of {self.seconds:g} s\n")
        cells, notes = table(scenario, figures)
        print("\n".join([aligned(cells), *notes]), flush=True)

    def _measure(self, name: str, peer: str, number: int, rows: list[Round]) -> None:
        scenario = SCENARIOS[name]
        try:
            with Server(PEERS[peer], scenario.service, scenario.transport, self.server_core) as server:
                figures = measure(scenario, server, self.generator_core, self.seconds)
            rows.append({"round": number, **figures})
        except MissingPeerError as reason:
            self._leave_out(peer, PEERS[peer].label, reason)
        except PeerError as reason:
            self.failures.append(f"{name}, {PEERS[peer].label}, round {number + 1}: {reason}")
            print("FAILED:", self.failures[-1], file=sys.stderr)

    def _leave_out(self, name: str, label: str, reason: MissingPeerError) -> None:
        self.missing[name] = str(reason)
        print(f"{label}: left out: {reason}", file=sys.stderr)

    def as_json(self) -> str:
        system = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
        document = {
            "machine": {"system": system, "python": platform.python_version(), "cores": os.cpu_count()},
            "rounds": self.rounds,
            "seconds": self.seconds,
            "scenarios": {name: asdict(SCENARIOS[name]) for name in self.figures},
            "figures": self.figures,
            "left_out": self.missing,
            "failures": self.failures,
        }
        return json.dumps(document, indent=1) + "\n"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Servers that do the same with lines, side by side.")
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
