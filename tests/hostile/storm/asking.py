# SPDX-License-Identifier: MIT
"""What befalls the daemon itself in a storm: reloads, signals, questions right and wrong, a log that nobody reads."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from storm import headers
from storm.gate import Gate
from storm.services import toml_of

if TYPE_CHECKING:
    from storm.services import Plan
    from storm.watched import Watched

MOST_WRONG = 20
PAUSE_S = 0.05
"""Between two of them, at most."""
STALL_S = 0.3
"""For which the daemon is stopped, or its log is not read."""
TROUBLES = {
    "wrong question": 12,
    "status": 6,
    "connections": 6,
    "close": 6,
    "hang up": 4,
    "reload": 1,
    "hangup signal": 1,
    "another configuration": 1,
    "wrong configuration": 1,
    "log level": 2,
    "reopen": 1,
    "child signal": 1,
    "stopped": 1,
    "no log": 1,
    "plan": 1,
}
HONEST_PEERS = ("127.0.0.1:", "[::1]", "192.0.2.", "[2001:db8::", "[fe80::", "unix:")
"""Whom nobody closes: `close` is for those that are hostile for sure."""
WRONG_TOML = ("[daemon", "nonsense = 1\n", '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:nothing"\n')
WRONG_APP = ("import nothing_at_all\n", "raise SystemExit(3)\n", "def answer(:\n", "raise KeyboardInterrupt\n")


class Troubles:
    """A thread that makes trouble between go() and rest().

    Args:
        daemon: whom it is made for.
        plan: what it serves.
        configured: of toml_of, by name.
        only: kinds of TROUBLES that are made; all of them by default.
    """

    def __init__(self, daemon: Watched, plan: Plan, seed: str, configured: dict, only=()) -> None:
        self._daemon = daemon
        self._served = plan
        self._chance = random.Random(f"{seed} troubles")
        self._configured = configured
        self._names = [name for name in TROUBLES if name in (only or TROUBLES)]
        self._weights = [TROUBLES[name] for name in self._names]
        self.gate = Gate()
        self.made: Counter = Counter()
        self.wrong: list[str] = []
        self.doing = ""
        threading.Thread(target=self._run, daemon=True).start()

    def rest(self) -> None:
        """Make no more, and have it all be as it was."""
        self.gate.rest()
        self._write()
        self._told(self._daemon.ask("reload"))

    def _run(self) -> None:
        while True:
            with self.gate:
                while self.gate.is_open:
                    self._make()

    def _make(self) -> None:
        (name,) = self._chance.choices(self._names, self._weights)
        self.doing = name
        try:
            getattr(self, "_" + name.replace(" ", "_"))()
            self.made[name] += 1
        except Exception:
            if len(self.wrong) < MOST_WRONG:
                self.wrong.append(f"{name}: {traceback.format_exc(limit=-3)}")
        time.sleep(self._chance.random() * PAUSE_S)  # so that there are not more of them than clients

    def _told(self, answer: dict, ok: bool = True) -> dict:
        if answer["ok"] is not ok:
            raise AssertionError(f"the answer is {answer}")
        return answer

    def _write(self, **more) -> None:
        new = self._daemon.directory / "new"
        new.write_text(toml_of(self._served, **(self._configured | more)))
        os.replace(new, self._daemon.directory / "sockd.toml")

    # ---- questions

    def _wrong_question(self) -> None:
        question = headers.odd_question(self._chance)
        answer = self._daemon.ask_raw(question)
        if question.strip() and question.endswith(b"\n") and not answer.startswith(b'{"ok": '):
            raise AssertionError(f"{question!r:.200} was answered by {answer!r:.200}")

    def _status(self) -> None:
        self._told(self._daemon.ask("status"))

    def _connections(self) -> None:
        self._told(self._daemon.ask("connections"))

    def _close(self) -> None:
        """End some that are hostile by their names."""
        rows = self._told(self._daemon.ask("connections"))["result"]
        hostile = [row["id"] for row in rows if "id" in row and not any(part in row["peer"] for part in HONEST_PEERS)]
        for id in self._chance.sample(hostile, min(3, len(hostile))):
            self._daemon.ask("close", id=id)  # it may have ended by itself

    def _hang_up(self) -> None:
        """Ask and be gone, at any point."""
        with suppress(OSError):
            question = b'{"verb": "status"}\n'
            self._daemon.ask_raw(question[: self._chance.randrange(len(question))], within=0.05)

    def _log_level(self) -> None:
        for level in ("debug", "error", "warning"):
            self._told(self._daemon.ask("log-level", level=level))
            time.sleep(0.005)  # for a few lines of it

    def _plan(self) -> None:
        text = toml_of(self._served, **self._configured, without=self._chance.randrange(len(self._served.rows)))
        self._told(self._daemon.ask("plan", text=text, name="sockd.toml"))

    # ---- configurations

    def _reload(self) -> None:
        self._write()
        self._told(self._daemon.ask("reload"))

    def _hangup_signal(self) -> None:
        self._write()
        os.kill(self._daemon.pid, signal.SIGHUP)

    def _another_configuration(self) -> None:
        """One listener more, that is drained, or goes with the next reload."""
        extra = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "function-nul"\n'
        self._write(extra=extra)
        self._told(self._daemon.ask("reload"))
        if self._chance.random() < 0.5:
            for last in self._told(self._daemon.ask("status"))["result"]["listeners"][len(self._served.rows) :]:
                self._told(self._daemon.ask("drain", listener=last["address"]))

    def _wrong_configuration(self) -> None:
        """One that cannot be served: all stays as it is."""
        if self._chance.random() < 0.5:
            (self._daemon.directory / "sockd.toml").write_text(self._chance.choice(WRONG_TOML))
            self._told(self._daemon.ask("reload"), ok=False)
        else:
            app = self._daemon.directory / "app.py"
            right = app.read_text()
            app.write_text(self._chance.choice(WRONG_APP))
            try:
                self._told(self._daemon.ask("reload"), ok=False)
            finally:
                app.write_text(right)
        self._write()

    # ---- signals

    def _reopen(self) -> None:
        os.kill(self._daemon.pid, signal.SIGUSR1)

    def _child_signal(self) -> None:
        os.kill(self._daemon.pid, signal.SIGCHLD)

    def _stopped(self) -> None:
        """Stop all of its processes, and have them go on."""
        pids = [self._daemon.pid]
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(STALL_S * self._chance.random())  # that is what is tried
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def _no_log(self) -> None:
        self._daemon.read_no_log(True)
        try:
            time.sleep(STALL_S * self._chance.random())  # that is what is tried
        finally:
            self._daemon.read_no_log(False)
