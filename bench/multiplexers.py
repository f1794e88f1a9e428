# SPDX-License-Identifier: MIT
"""The multiplexers of sockd side by side (FAQ II.9): the cost of a reply beside connections that never speak.

    python bench/multiplexers.py [--rounds 5] [--seconds 3]

The same Python function under auto, epoll, poll and select, with 16 connections that ask and none, 400 or 5,000 that
are idle; select cannot hold the last.  Prints the table of docs/faq.md.  See README.md for how it measures.
"""

import argparse
import sys
from dataclasses import replace
from statistics import median

from measure import build, measure_load, two_cores
from report import Round, cost_us
from scenarios import PEERS, Load
from servers import MissingPeerError, PeerError, Server

NAMES = ("auto", "epoll", "poll", "select")
IDLE = (0, 400, 5_000)
SPEAKING = 16
SELECT_HOLDS = 900  # FD_SETSIZE of 1,024, less what the daemon keeps for itself


def measure(name: str, idle: int, cores: tuple[int, int], seconds: float) -> Round:
    """One round of one multiplexer, its daemon started afresh."""
    command = PEERS["sockd"].command
    peer = replace(PEERS["sockd"], command=(*command[:-2], "--multiplexer", name, *command[-2:]))
    with Server(peer, "upper", "tcp", cores[0]) as server:
        return measure_load(Load("tcp", SPEAKING, in_flight=1, idle=idle), server, cores[1], seconds)


def cell(rounds: list[Round]) -> str:
    """Medians: replies a second, and server CPU for each."""
    if not rounds:
        return "-"
    return f"{median(one['per_second'] for one in rounds):,.0f}/s, {median(map(cost_us, rounds)):.1f} us"


def main() -> int:
    parser = argparse.ArgumentParser(description="sockd under each multiplexer, beside idle connections.")
    parser.add_argument("--rounds", type=int, default=5, help="each with every multiplexer in it (default: 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured each time (default: 3)")
    arguments = parser.parse_args()
    build()
    cores = two_cores()
    figures: dict[tuple[str, int], list[Round]] = {(name, idle): [] for name in NAMES for idle in IDLE}
    for _ in range(arguments.rounds):
        for idle in IDLE:
            for name in NAMES:
                if name != "select" or idle + SPEAKING <= SELECT_HOLDS:
                    figures[name, idle].append(measure(name, idle, cores, arguments.seconds))
    print("| multiplexer |", *(f"{SPEAKING} speak, {idle:,} idle |" for idle in IDLE))
    print("|---|" + "---:|" * len(IDLE))
    for name in NAMES:
        print(f"| `{name}` |", *(f"{cell(figures[name, idle])} |" for idle in IDLE))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (MissingPeerError, PeerError) as error:
        sys.exit(f"bench: {error}")
