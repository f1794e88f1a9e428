# SPDX-License-Identifier: MIT
"""A process full of hostile clients: `crowd.py WORLD SEED FIRST STEP THREADS [NUMBER...]`.

Plays FIRST, FIRST + STEP, FIRST + 2 STEP, ... in THREADS threads, from a line `go` until a line `rest`, and says how
many that were; with numbers it plays these alone, one after the other, and ends.  What clients have been doing lately
is told on `tell`.  Each answer is a line of JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
import traceback
from collections import deque
from pathlib import Path

from storm.clients import end_with_reset, play
from storm.gate import Gate
from storm.peers import World

RECENT = 64


class Crowd:
    def __init__(self, world: World, seed: str, numbers, threads: int) -> None:
        self._world = world
        self._seed = seed
        self._numbers = numbers
        self._lock = threading.Lock()
        self._recent: deque = deque(maxlen=RECENT)
        self.gate = Gate()
        self.played = 0
        self.failed = ""
        for _ in range(threads):
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        kept: deque = deque()
        while True:
            with self.gate:
                while self.gate.is_open and not self.failed and self._one(kept):
                    pass
                while kept:
                    end_with_reset(kept.popleft())
                while self.gate.is_open:
                    time.sleep(0.01)  # nothing is left to be done

    def _one(self, kept: deque) -> bool:
        with self._lock:
            number = next(self._numbers, None)
            self.played += number is not None
        if number is None:
            return False
        try:
            play(self._world, self._seed, number, kept, self.told(number))
        except Exception:
            self.failed = f"client {number}: {traceback.format_exc()}"
        return True

    def told(self, number: int):
        """Return what keeps a client's deeds."""
        return lambda did: self._recent.append((time.time(), number, did))

    def table(self) -> dict:
        did = [(when, number, " | ".join(did)) for when, number, did in list(self._recent)]
        return {"played": self.played, "failed": self.failed, "did": did}


def main(words) -> None:
    path, seed, first, step, threads, *numbers = words
    world = World.of(json.loads(Path(path).read_text()))
    crowd = Crowd(world, seed, itertools.count(int(first), int(step)), 0 if numbers else int(threads))
    if numbers:
        for number in numbers:
            play(world, seed, int(number), deque(), crowd.told(int(number)))
        say(crowd.table())
        return
    for line in sys.stdin:
        match line.strip():
            case "go":
                crowd.gate.go()
            case "rest":
                crowd.gate.rest()
                say(crowd.table())
            case "tell":
                say(crowd.table())


def say(value) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
