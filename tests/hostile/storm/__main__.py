# SPDX-License-Identifier: MIT
"""`python tests/hostile/storm`: see the package."""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent.parent
HANGS_S = 240
"""Past the storm's own time: then it hangs, and says where."""
sys.path[:] = [str(TESTS / name) for name in ("hostile", "support", "buffer")] + [
    path for path in sys.path if Path(path).resolve() != HERE
]

from storm import run  # noqa: E402 - its place is known from here on
from storm.asking import TROUBLES  # noqa: E402 - likewise
from storm.peers import TAME  # noqa: E402 - likewise
from storm.planted import PLACES  # noqa: E402 - likewise


def arguments():
    parser = argparse.ArgumentParser(prog="storm")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", default=str(int(time.time())))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--multiplexer", default="auto", choices=["auto", "epoll", "poll", "select"])
    parser.add_argument("--no-upgrade", action="store_true")
    parser.add_argument("--only", type=int, nargs="+", default=[])
    parser.add_argument("--rows", default="", help="hostile clients go to listeners whose names contain this pattern")
    parser.add_argument("--honest", default="", help="the same for honest clients")
    parser.add_argument("--tame", nargs="+", default=[], choices=TAME, help="what hostile clients leave out")
    parser.add_argument("--spared", default="", help="a pattern of names of raises.RAISED that become a ValueError")
    parser.add_argument("--planted", nargs="+", default=[], choices=PLACES, help="defects that sockd is to have")
    parser.add_argument("--go-on", action="store_true", help="also behind a fault")
    parser.add_argument("--troubles", nargs="*", default=[*TROUBLES], choices=TROUBLES, help="what befalls the daemon")
    return parser.parse_args()


def main() -> int:
    told = arguments()
    faulthandler.dump_traceback_later(told.seconds + HANGS_S, exit=True)
    os.environ["STORM_SPARED"] = told.spared
    with run.Storm(
        told.seconds,
        told.seed,
        workers=told.workers,
        multiplexer=told.multiplexer,
        upgrades=not told.no_upgrade,
        only=told.only,
        rows=told.rows,
        honest_rows=told.honest,
        tame=tuple(told.tame),
        troubles=tuple(told.troubles),
        goes_on=told.go_on,
        planted=tuple(told.planted),
    ) as storm:
        storm.run()
    for fault in storm.faults:
        sys.stdout.write(f"FAULT {fault}\n")
    for name, value in storm.figures.items():
        text = (
            "\n    ".join(map(str, value)) if isinstance(value, list) and len(str(value)) > 100 else json.dumps(value)
        )
        sys.stdout.write(f"{name}: {text}\n")
    sys.stdout.write(f"seed {told.seed}: {len(storm.faults)} faults\n")
    return 1 if storm.faults else 0


if __name__ == "__main__":
    sys.exit(main())
