# SPDX-License-Identifier: MIT
"""A storm from its beginning to its verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

from storm import certificates, verdict, victims
from storm.asking import TROUBLES, Troubles
from storm.honest import Honest
from storm.machine import become_reaper, leave_network
from storm.peers import Listener, World
from storm.rude import Target
from storm.services import plan_of, toml_of, users_text
from storm.watched import START_S, Watched

CROWDS, THREADS, KEPT = 2, 16, 24
FEW_THREADS, FEW_KEPT = 4, 2
"""Where select(2) waits for 1,024 descriptors at most, 300 of which are listeners'."""
LOOK_S = 0.1
STOP_S = 15.0
WARM_SHARE, WARM_LEAST_S = 0.25, 4.0
EPOCH_S = 90.0
"""Of storm, between two looks at what the daemon holds."""
VICTIM_TRIES = 10
SHOWN_S = 3.0
"""Before its end: whoever came then may have to do with it."""


class Crowd:
    """A process of storm.crowd."""

    def __init__(self, world_file: Path, seed: str, first: int, threads: int, numbers=()) -> None:
        words = [sys.executable, "-P", "-m", "storm.crowd", world_file, seed, first, CROWDS, threads, *numbers]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [*map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def say(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"a crowd has ended: {self.process.wait()}")
        return json.loads(line)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Storm:
    """One daemon, and all that is done to it.

    Args:
        seconds: of storm, warming included.
        seed: of all dice.
        workers: processes of the daemon.
        multiplexer: of the daemon.
        upgrades: whether it goes on as another process now and then.
        only: numbers of clients; these alone are played, and nothing else happens.
        rows, honest_rows, tame: of the World.
        troubles: kinds of storm.asking that are made.
        goes_on: whether a fault does not end it, to see what comes behind.
        planted: places of storm.planted where sockd has a defect; their victims come in mid-storm.

    Attributes:
        faults: what should not be.
        figures: what was measured, and what happened at an end that should not have been.
    """

    def __init__(
        self,
        seconds: float,
        seed: str,
        *,
        workers=1,
        multiplexer="auto",
        upgrades=True,
        only=(),
        rows="",
        honest_rows="",
        tame=(),
        troubles=tuple(TROUBLES),
        goes_on=False,
        planted=(),
    ) -> None:
        self._seconds = seconds
        self.seed = seed
        self._workers = workers
        self._multiplexer = multiplexer
        self._upgrades = upgrades
        self._only = only
        few = multiplexer == "select"
        self._threads = FEW_THREADS if few else THREADS
        self._wish = {"kept": FEW_KEPT if few else KEPT, "rows": rows, "honest_rows": honest_rows, "tame": tame}
        self._kinds_of_trouble = troubles
        self._goes_on = goes_on
        self._planted = planted
        self._victims_to_come = list(planted)
        self.faults: list[str] = []
        self.figures: dict[str, object] = {}
        self._stack = ExitStack()
        self._clients = 0

    def __enter__(self) -> Storm:
        become_reaper()
        scope = leave_network()
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="storm")))
        made = certificates.all_of(self.directory)
        configured = {"workers": self._workers}
        self.plan = plan_of(self.directory, made, scope)
        (self.directory / "users").write_text(users_text())
        (self.directory / "sockd.toml").write_text(toml_of(self.plan, **configured))
        self.target = Target(str(self.directory / "target"), self.seed)
        self._stack.callback(self.target.close)
        environment = {"STORM_PLANTED": " ".join(self._planted)}
        words = ["-c", "sockd.toml", "--multiplexer", self._multiplexer]
        self.daemon = Watched(self.directory, words=words, environment=environment)
        self._stack.callback(self.daemon.kill)
        self.world = self._world(made)
        self.crowds = self._gathered()
        self.honest = Honest(self.world, self.seed, may_end=self._workers > 1)
        self.troubles = Troubles(self.daemon, self.plan, self.seed, configured, self._kinds_of_trouble)
        processes = 1 if self._workers == 1 else 1 + self._workers
        self._holdings = verdict.Holdings(self.daemon, {one.process.pid for one in self.crowds}, processes)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _world(self, made) -> World:
        shown = {"": (str(made.client.path), str(made.client.key))}
        shown |= {name: (str(one.path), str(one.key)) for name, one in made.odd.items()}
        told = self._listeners()
        listeners = [
            Listener(row.service, row.kind, row.framing, row.scheme, row.way, said["address"])
            for row, said in zip(self.plan.rows, told, strict=True)
        ]
        peers = self.directory / "peers"
        peers.mkdir()
        return World(listeners, str(peers), shown, str(made.ca), self.target.port, self.daemon.control, **self._wish)

    def _listeners(self) -> list[dict]:
        """Return what listens, once all of it does: workers that have just begun may not answer."""
        end = time.monotonic() + START_S
        while len(told := self.daemon.status()["listeners"]) < len(self.plan.rows) and time.monotonic() < end:
            time.sleep(LOOK_S)
        return told

    def _gathered(self) -> list[Crowd]:
        self._world_file = self.directory / "world.json"
        self._world_file.write_text(json.dumps(self.world.table()))
        if self._only or not self.world.targets:
            return []
        crowds = [Crowd(self._world_file, self.seed, at, self._threads) for at in range(CROWDS)]
        for crowd in crowds:
            self._stack.callback(crowd.end)
        return crowds

    # ---- the storm

    def run(self) -> None:
        """Have it all happen."""
        try:
            self._replay() if self._only else self._storm()
            if self._lives_for(0):
                self.faults += verdict.last_questions(self.world, len(self._planted), self.figures)
                if why := self.daemon.stop(STOP_S):
                    self.faults.append(f"no end in order: {why}")
            else:
                self._has_died()
        except (OSError, ValueError, AssertionError):
            self.faults.append(f"no answer: {traceback.format_exc(limit=-4)}")
            if not self._lives_for(1.0):
                self._has_died()
        self._judge()

    def _replay(self) -> None:
        crowd = Crowd(self._world_file, self.seed, 0, 0, self._only)
        self._stack.callback(crowd.end)
        told = crowd.hear()
        self.figures["did"] = [did for _, _, did in told["did"]]
        self._lives_for(1.0)

    def _storm(self) -> None:
        end = time.monotonic() + self._seconds
        warm = max(WARM_LEAST_S, min(self._seconds * WARM_SHARE, EPOCH_S / 3))
        while time.monotonic() < end and (self._goes_on or not self.faults):
            if not self._blow(min(warm, end - time.monotonic()), upgrade=self._upgrades):
                return
            before = self._settled()
            left = end - time.monotonic()
            if left < WARM_LEAST_S or not self._blow(min(left, EPOCH_S), upgrade=False):
                return
            self.faults += self._holdings.compare(before, self._settled(), self.figures)

    def _settled(self) -> int:
        memory, faults = self._holdings.settled(self.figures)
        self.faults += faults
        return memory

    def _blow(self, seconds: float, *, upgrade: bool) -> bool:
        """Let everybody loose for a time; False when the daemon did not live through it."""
        for crowd in self.crowds:
            crowd.say("go")
        self.honest.gate.go()
        self._trouble(True)
        lives = self._goes_well_for(seconds / 2)
        if lives and upgrade:
            self._upgrade()
        while lives and self._victims_to_come:
            self._suffer(self._victims_to_come.pop(0))
        if not (lives and self._goes_well_for(seconds / 2)):
            return False
        self.honest.gate.rest()
        self._trouble(False)
        self._clients = 0
        for told in self._tell_crowds("rest"):
            self._clients += told["played"]
            if told["failed"]:
                self.faults.append(f"a client of ours failed: {told['failed']}")
        return True

    def _suffer(self, place: str) -> None:
        """Have a planted defect happen; a victim whose frame comes in one event with others' has to come again."""
        before = verdict.counted(self.world)
        for _ in range(VICTIM_TRIES):
            if wrong := victims.play(place, self.world, self.daemon):
                self.faults.append(f"the victim of {place}: {wrong}")
            if wrong or verdict.counted(self.world) != before:
                return

    def _trouble(self, yes: bool) -> None:
        if self._kinds_of_trouble:
            self.troubles.gate.go() if yes else self.troubles.rest()

    def _tell_crowds(self, line: str) -> list[dict]:
        for crowd in self.crowds:
            crowd.say(line)
        return [crowd.hear() for crowd in self.crowds]

    def _lives_for(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (lives := self.daemon.is_alive()) and time.monotonic() < end:
            time.sleep(LOOK_S)
        return lives

    def _goes_well_for(self, seconds: float) -> bool:
        """Wait for that long, or until something is wrong: what comes next would only hide it; False at the end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._lives_for(LOOK_S):
            if not self._goes_on and (self.honest.wrong or self.troubles.wrong):
                break
        return self.daemon.is_alive()

    def _upgrade(self) -> None:
        """Go on as another process; the old one has ended once those that stay with it have."""
        self._trouble(False)
        answer = self.daemon.ask("upgrade", 60)
        if not answer["ok"]:
            self.faults.append(f"no upgrade: {answer}")
            return
        self.daemon.pid = answer["result"]["pid"]
        self._trouble(True)

    # ---- the end

    def _has_died(self) -> None:
        when = time.time()
        self.faults.append(f"the daemon has ended, exit code {self.daemon.process.poll()}")
        self.figures["in the end"] = self.troubles.doing
        told = self._tell_crowds("tell")
        self._clients = sum(one["played"] for one in told)
        recent = sorted(one for crowd in told for one in crowd["did"])
        self.figures["clients of the last second"] = [
            f"{number} at {started - when:.3f} s: {did:.400}"
            for started, number, did in recent
            if LOOK_S < when - started < SHOWN_S
        ][-verdict.MOST_TOLD :]

    def _judge(self) -> None:
        has_died = "in the end" in self.figures
        self.faults += verdict.of_log(self.daemon.judge, len(self._planted))
        most = 2 if has_died else verdict.MOST_TOLD  # what follows an end says nothing of it
        self.faults += [f"honest: {text}" for text in self.honest.wrong[:most]]
        self.faults += [f"troubles: {text}" for text in self.troubles.wrong[:most]]
        self.figures |= {"clients": self._clients, "troubles": dict(self.troubles.made)}
        self.figures |= verdict.figures(self.honest, self.daemon.judge)
        if has_died:
            self.figures["last lines"] = [text[:2500] for text in self.daemon.judge.last][-12:]
