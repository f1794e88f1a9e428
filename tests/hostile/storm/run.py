"""A storm from its beginning to its verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack, suppress
from pathlib import Path

from storm import certificates, victims
from storm.asking import TROUBLES, Troubles
from storm.honest import Honest
from storm.machine import become_reaper, leave_network
from storm.peers import Listener, World, opened
from storm.rude import Target
from storm.services import plan_of, toml_of, users_text
from storm.watched import Watched

HERE = Path(__file__).parent
CROWDS, THREADS = 2, 16
SETTLE_S = 40.0
"""Above every deadline of storm.services.TIMES, and what waits for two of them."""
LOOK_S = 0.1
STOP_S = 15.0
WARM_SHARE, WARM_LEAST_S = 0.25, 4.0
EPOCH_S = 90.0
MOST_TOLD = 15
MEMORY_GROWTH_BYTES = 24 << 20
"""Over one epoch, the first of which has every code path begin."""


class Crowd:
    """A process of storm.crowd."""

    def __init__(self, world_file: Path, seed: str, first: int, numbers=()) -> None:
        words = [sys.executable, "-P", "-m", "storm.crowd", world_file, seed, first, CROWDS, THREADS, *numbers]
        self.process = subprocess.Popen(
            [*map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
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


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}


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
        planted: a place of storm.planted where sockd has a defect; its victim comes in mid-storm.
    """

    def __init__(
        self, seconds: float, seed: str, *, workers=1, multiplexer="auto", upgrades=True, only=(), rows="", honest_rows="", tame=(), troubles=tuple(TROUBLES), goes_on=False, planted=""
    ) -> None:
        self._seconds = seconds
        self.seed = seed
        self._workers = workers
        self._multiplexer = multiplexer
        self._upgrades = upgrades
        self._only = only
        self._rows, self._honest_rows, self._tame, self._trouble = rows, honest_rows, tame, troubles
        self._goes_on = goes_on
        self._planted = planted
        self.faults: list[str] = []
        self.figures: dict[str, object] = {}
        self._had_victim = False
        self._stack = ExitStack()
        self._played = 0

    def __enter__(self) -> Storm:
        become_reaper()
        scope = leave_network()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="storm")))
        made = certificates.all_of(self.folder)
        self._configured = {"workers": self._workers}
        self.plan = plan_of(self.folder, made, scope)
        (self.folder / "users").write_text(users_text())
        (self.folder / "sockd.toml").write_text(toml_of(self.plan, **self._configured))
        self.target = Target(str(self.folder / "target"), self.seed)
        self._stack.callback(self.target.close)
        environment = {"STORM_PLANTED": self._planted} if self._planted else {}
        words = ["-c", "sockd.toml", "--multiplexer", self._multiplexer]
        self.daemon = Watched(self.folder, words=words, environment=environment)
        self._stack.callback(self.daemon.kill)
        self.world = self._world(made)
        (self.folder / "peers").mkdir()
        (self.folder / "world.json").write_text(json.dumps(self.world.table()))
        self.crowds = [] if self._only or not self.world.targets else [Crowd(self.folder / "world.json", self.seed, at) for at in range(CROWDS)]
        for crowd in self.crowds:
            self._stack.callback(crowd.end)
        for _ in range(2):  # what a first reload leaves open, if it is to
            self.daemon.ask("reload")
        self._resting = self._held()
        self.honest = Honest(self.world, self.seed, may_end=self._workers > 1)
        self.troubles = Troubles(self.daemon, self.plan, self.seed, self._configured, self._trouble)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _world(self, made) -> World:
        shown = {"": (str(made.client.path), str(made.client.key))}
        shown |= {name: (str(one.path), str(one.key)) for name, one in made.odd.items()}
        told = self.daemon.status()["listeners"]
        listeners = [
            Listener(row.service, row.kind, row.framing, row.scheme, row.way, said["address"])
            for row, said in zip(self.plan.rows, told, strict=True)
        ]
        peers = str(self.folder / "peers")
        what = self._rows, self._honest_rows, self._tame
        return World(listeners, peers, shown, str(made.ca), self.target.port, self.daemon.control, *what)

    # ---- the storm

    def run(self) -> None:
        """Have it all happen; `faults` has what was found."""
        try:
            self._replay() if self._only else self._storm()
            if self.daemon.is_alive():
                self._last_questions()
                if why := self.daemon.stop(STOP_S):
                    self.faults.append(f"no end in order: {why}")
            else:
                self._dead()
        except (OSError, ValueError, AssertionError):
            self.faults.append(f"no answer: {traceback.format_exc(limit=-4)}")
            if not self._alive_for(1.0, whatever=True):
                self._dead()
        self._judge()

    def _replay(self) -> None:
        crowd = Crowd(self.folder / "world.json", self.seed, 0, self._only)
        self._stack.callback(crowd.end)
        told = crowd.hear()
        self.figures["did"] = [did for _, _, did in told["did"]]
        self._alive_for(1.0)

    def _storm(self) -> None:
        end = time.monotonic() + self._seconds
        warm = max(WARM_LEAST_S, min(self._seconds * WARM_SHARE, EPOCH_S / 3))
        while time.monotonic() < end and (self._goes_on or not self.faults):
            if not self._blow(min(warm, end - time.monotonic()), upgrade=self._upgrades):
                return
            before = self._settled()
            left = end - time.monotonic()
            if left < WARM_LEAST_S and self._seconds > 2 * WARM_LEAST_S:
                return
            if not self._blow(min(left, EPOCH_S), upgrade=False):
                return
            self._compare(before, self._settled())

    def _blow(self, seconds: float, *, upgrade: bool) -> bool:
        """Let everybody loose for a time; False when the daemon did not live through it."""
        for crowd in self.crowds:
            crowd.say("go")
        self.honest.gate.go()
        if self._trouble:
            self.troubles.gate.go()
        lives = self._alive_for(seconds / 2)
        if lives and upgrade:
            self._upgrade()
        if lives and self._planted and not self._had_victim:
            self._have_victim()
        lives = lives and self._alive_for(seconds / 2)
        if not lives:
            return False
        self.honest.gate.rest()
        if self._trouble:
            self.troubles.rest()
        self._played = 0
        for crowd in self.crowds:
            crowd.say("rest")
        for crowd in self.crowds:
            told = crowd.hear()
            self._played += told["played"]
            if told["failed"]:
                self.faults.append(f"a client of ours failed: {told['failed']}")
        return True

    def _alive_for(self, seconds: float, *, whatever: bool = False) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.daemon.is_alive():
                return False
            if not whatever and not self._goes_on and (self.honest.wrong or self.troubles.wrong):
                break  # what is next would only hide it
            time.sleep(LOOK_S)
        return self.daemon.is_alive()

    def _upgrade(self) -> None:
        """Go on as another process; the old one has ended once those that stay with it have."""
        if self._trouble:
            self.troubles.rest()
        answer = self.daemon.ask("upgrade", 60)
        if not answer["ok"]:
            self.faults.append(f"no upgrade: {answer}")
            return
        self.daemon.pid = answer["result"]["pid"]
        if self._trouble:
            self.troubles.gate.go()

    def _have_victim(self) -> None:
        self._had_victim = True
        if wrong := victims.play(self._planted, self.world, self.daemon):
            self.faults.append(f"the victim of {self._planted}: {wrong}")

    def _dead(self) -> None:
        when = time.time()
        self.faults.append(f"the daemon has ended, exit code {self.daemon.process.poll()}")
        self.figures["in the end"] = self.troubles.doing
        for crowd in self.crowds:
            crowd.say("tell")
        told = [crowd.hear() for crowd in self.crowds]
        self._played = sum(one["played"] for one in told)
        recent = sorted(one for crowd in told for one in crowd["did"])
        self.figures["clients of the last second"] = [
            f"{number} at {started - when:.3f} s: {did:.400}"
            for started, number, did in recent
            if LOOK_S < when - started < 3
        ][-MOST_TOLD:]

    # ---- before and after

    @property
    def _ours(self) -> set[int]:
        return {crowd.process.pid for crowd in self.crowds}

    def _settled(self) -> dict:
        """Wait until nobody is connected, and return what the daemon holds then."""
        end = time.monotonic() + SETTLE_S
        while True:
            status = self.daemon.status()
            processes = self.daemon.processes(self._ours)
            busy = status["connections"], status["programs"], len(processes) - self._expected_processes
            if not any(busy):
                break
            if time.monotonic() > end:
                left = self.daemon.ask("connections")["result"][:5]
                self.faults.append(f"{SETTLE_S} s after all clients have gone (connections, programs, processes) are {busy}: {left}")
                break
            time.sleep(LOOK_S)
        while (held := self._held()) != self._resting and time.monotonic() < end:
            time.sleep(LOOK_S)  # handshakes, headers and questions are no connections yet
        if held != self._resting:
            self.faults.append(f"descriptors {self._resting} became {held}")
            self.figures["connections"] = self.daemon.connections(self._ours)[:MOST_TOLD]
        return {"descriptors": held, "memory": self.daemon.memory(self._ours)}

    def _held(self) -> dict[str, int]:
        """Return the daemon's descriptors, but for the pipes that relays keep for the next to need one (csrc/relay.c)."""
        held = self.daemon.descriptors(self._ours)
        held.pop("pipe:[N]", None)
        return held

    @property
    def _expected_processes(self) -> int:
        return 1 if self._workers == 1 else 1 + self._workers

    def _compare(self, before: dict, after: dict) -> None:
        self.figures.setdefault("memory MiB", []).append([round(one["memory"] / 2**20, 1) for one in (before, after)])
        self.figures.setdefault("descriptors", []).append(
            [sum(one["descriptors"].values()) for one in (before, after)]
        )
        grown = after["memory"] - before["memory"]
        if grown > MEMORY_GROWTH_BYTES * self._expected_processes:
            self.faults.append(f"memory grew by {grown / 2**20:.1f} MiB")

    # ---- the verdict

    def _last_questions(self) -> None:
        """Whoever came from a hostile address is let in again, and no defect was counted."""
        for listener in self.world.listeners:
            if "rules" in listener.way and listener.scheme == "tcp4" and "proxy" not in listener.way:
                for at in range(1, 5):
                    with suppress(OSError):
                        self._let_in(listener, f"127.88.0.{at}")
        defects = self._defects()
        self.figures["defects"] = defects
        if defects != (1 if self._planted else 0):
            self.faults.append(f"sockd_defects_total is {defects}")

    def _let_in(self, listener: Listener, source: str) -> None:
        import socket

        with socket.socket() as sock:
            sock.settimeout(5)
            sock.bind((source, 0))
            sock.connect(listener.sockaddr)
            sock.settimeout(0.05)
            try:
                said = sock.recv(100)
            except TimeoutError:
                return
            except OSError as error:
                said = repr(error).encode()
            self.faults.append(f"{listener.name} does not let {source} in any more: {said!r}")

    def _defects(self) -> float | None:
        page = next(one for one in self.world.listeners if one.kind == "metrics" and not one.way)
        talk = opened(page, 20)
        try:
            talk.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            text = b""
            while piece := talk.receive():
                text += piece
        finally:
            talk.close()
        found = [line.split()[-1] for line in text.decode().splitlines() if line.startswith("sockd_defects_total")]
        return sum(map(float, found)) if found else None

    def _judge(self) -> None:
        has_died = "in the end" in self.figures
        most = 2 if has_died else MOST_TOLD  # what follows an end says nothing of it
        judge = self.daemon.judge
        if len(judge.planted) != (1 if self._planted else 0):
            self.faults.append(f"{len(judge.planted)} lines of the planted defect: {judge.planted[:2]}")
        self.faults += [f"log: {text}" for text in judge.faults]
        if self.daemon.judge.text:
            self.faults.append("no log lines:\n    " + "\n    ".join(self.daemon.judge.text))
        self.faults += [f"honest: {text}" for text in self.honest.wrong[:most]]
        self.faults += [f"troubles: {text}" for text in self.troubles.wrong[:most]]
        honest = self.honest
        self.figures |= {
            "clients": self._played,
            "honest answers": sum(honest.answers.values()),
            "p50, p99, longest ms": [round(honest.percentile(share) * 1000, 1) for share in (0.5, 0.99, 1)],
            "slowest": {kind: round(took, 2) for kind, took in sorted(honest.slowest.items(), key=lambda one: -one[1])[:6]},
            "troubles": dict(self.troubles.made),
            "errors": [*self.daemon.judge.samples.values()],
            "log": dict(self.daemon.judge.counts.most_common(12)),
        }
        if has_died:
            self.figures["last lines"] = [text[:2500] for text in self.daemon.judge.last][-12:]
