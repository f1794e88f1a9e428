# SPDX-License-Identifier: MIT
"""What a storm must not have cost: descriptors, memory, a place for whoever comes next, a defect, a line of the log."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from storm.peers import opened

if TYPE_CHECKING:
    from storm.honest import Honest
    from storm.peers import Listener, World
    from storm.watched import Judge, Watched

SETTLE_S = 60.0
"""Above every deadline of storm.services.TIMES, and what waits for two of them."""
LOOK_S = 0.1
REST_S = 0.3
MOST_TOLD = 15
MEMORY_GROWTH_BYTES = 96 << 20
"""In an epoch: handlers of former configurations are circles that wait for the collector; 90 reloads take 75 MB."""
MEMORY_LATER_BYTES = 32 << 20
"""From the first epoch's end to the last one's, when all that is kept is there."""
HOSTILE = [f"127.88.0.{at}" for at in range(1, 5)]
"""From where hostile clients come to listeners with rules."""
LET_IN_S = 0.05
"""Without a word: whoever is refused is told so, or reset, at once."""


class Holdings:
    """What a daemon holds, once nobody is connected.

    Args:
        but: processes of ours that are none of the daemon's.
        processes: how many it is to have.
    """

    def __init__(self, daemon: Watched, but: set[int], processes: int) -> None:
        self._daemon = daemon
        self._but = but
        self._processes = processes
        self._memories: list[int] = []
        for _ in range(2):  # what a first reload leaves open, if it is to
            daemon.ask("reload")
        self._resting = self._rested()

    def _rested(self) -> dict[str, int]:
        """Return the descriptors of a daemon that nobody has been connected to, once they change no more."""
        end = time.monotonic() + SETTLE_S
        held: dict[str, int] = {}
        while any(self._busy()) or held != (held := self._descriptors()):
            assert time.monotonic() < end, f"it does not come to rest: {self._busy()}, {held}"
            time.sleep(REST_S)
        return held

    def _descriptors(self) -> dict[str, int]:
        """Return them by kind, but for the pipes that relays keep for the next to need one (csrc/relay.c)."""
        held = self._daemon.descriptors(self._but)
        held.pop("pipe:[N]", None)
        return held

    def settled(self, figures: dict) -> tuple[int, list[str]]:
        """Wait until nobody is connected and all is closed; return the memory then, and what is wrong."""
        faults = []
        end = time.monotonic() + SETTLE_S
        while any(busy := self._busy()) and time.monotonic() < end:
            time.sleep(LOOK_S)
        if any(busy):
            left = self._daemon.ask("connections")["result"][:5]
            faults.append(f"(connections, programs, processes) stay {busy} when all have gone: {left}")
        while (held := self._descriptors()) != self._resting and time.monotonic() < end:
            time.sleep(LOOK_S)  # handshakes, headers and questions are no connections yet
        if held != self._resting:
            faults.append(f"descriptors {self._resting} became {held}")
            figures["connections"] = self._daemon.connections(self._but)[:MOST_TOLD]
        return self._daemon.memory(self._but), faults

    def _busy(self) -> tuple[int, int, int]:
        status = self._daemon.status()
        return status["connections"], status["programs"], len(self._daemon.processes(self._but)) - self._processes

    def compare(self, before: int, after: int, figures: dict) -> list[str]:
        """Return what is wrong with the memory after an epoch."""
        figures.setdefault("memory MiB", []).append([round(one / 2**20, 1) for one in (before, after)])
        self._memories.append(after)
        grown, later = after - before, after - self._memories[0]
        if grown > MEMORY_GROWTH_BYTES * self._processes or later > MEMORY_LATER_BYTES * self._processes:
            return [f"memory grew by {grown / 2**20:.1f} MiB, since the first epoch by {later / 2**20:.1f} MiB"]
        return []


def last_questions(world: World, defects: int, figures: dict) -> list[str]:
    """Return what is wrong: somebody is not let in any more, or other than `defects` were counted."""
    faults = []
    for listener in world.listeners:
        if "rules" in listener.way and listener.scheme == "tcp4" and "proxy" not in listener.way:
            faults += filter(None, (_refused(listener, source) for source in HOSTILE))
    found = figures["defects"] = counted(world)
    if found != defects:
        faults.append(f"sockd_defects_total is {found}")
    return faults


def _refused(listener: Listener, source: str) -> str:
    with socket.socket() as sock:
        sock.settimeout(5)
        sock.bind((source, 0))
        sock.connect(listener.sockaddr)
        sock.settimeout(LET_IN_S)
        try:
            said = repr(sock.recv(100))
        except TimeoutError:
            return ""
        except OSError as error:
            said = repr(error)
    return f"{listener.name} does not let {source} in any more: {said}"


def counted(world: World) -> float | None:
    """Return sockd_defects_total; None where there is no such metric."""
    page = next(one for one in world.listeners if one.kind == "metrics" and not one.way)
    talk = opened(page, 20)
    text = b""
    try:
        talk.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with suppress(ConnectionResetError):
            while piece := talk.receive():
                text += piece
    finally:
        talk.close()
    found = [line.split()[-1] for line in text.decode().splitlines() if line.startswith("sockd_defects_total")]
    return sum(map(float, found)) if found else None


def of_log(judge: Judge, planted: int) -> list[str]:
    faults = [f"log: {text}" for text in judge.faults]
    is_whole = not judge.counts["log records lost"]  # what is not read in time is dropped
    if len(judge.planted) > planted or (is_whole and len(judge.planted) < planted):
        faults.append(f"{len(judge.planted)} lines of the planted defect: {judge.planted[:2]}")
    if judge.text:
        faults.append("no log lines:\n    " + "\n    ".join(judge.text))
    return faults


def figures(honest: Honest, judge: Judge) -> dict[str, object]:
    slowest = sorted(honest.slowest.items(), key=lambda one: -one[1])[:6]
    return {
        "honest answers": sum(honest.answers.values()),
        "p50, p99, longest ms": [round(honest.percentile(share) * 1000, 1) for share in (0.5, 0.99, 1)],
        "slowest": {kind: round(took, 2) for kind, took in slowest},
        "errors": [*judge.samples.values()],
        "log": dict(judge.counts.most_common(12)) | ({"cut": judge.cut} if judge.cut else {}),
    }
