# SPDX-License-Identifier: MIT
"""The verbs of the control socket: the daemon as a table of numbers and texts.

Nothing is stored here: every reply is computed when it is requested.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sockd._version import VERSION
from sockd.config.substitute import AskedVariables
from sockd.daemon.control.certificates import list_certificates
from sockd.daemon.control.connection_list import ConnectionQuery, answer_in_steps
from sockd.daemon.control.follow import FollowedVerbs
from sockd.daemon.control.override_verbs import OverrideVerbs
from sockd.daemon.control.server import Deferred
from sockd.daemon.control.service_table import service_table
from sockd.errors import UsageError
from sockd.log import format as log_format
from sockd.net.connection.info import ConnectionFilter
from sockd.net.kernel import time_wait_sockets
from sockd.net.loop.slices import run_in_slices
from sockd.values import asdict
from sockd.wire.close_reason import CloseReason
from sockd.wire.control import ControlResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sockd.daemon.config_diff import ReloadResult
    from sockd.daemon.control.server import Words
    from sockd.daemon.listeners import ActiveListener, ListenerRegistry
    from sockd.daemon.reload import Reload
    from sockd.daemon.succession import Succession
    from sockd.log.events import DaemonEvents
    from sockd.settings import Settings
    from sockd.wire.control import JsonObject


class DaemonControl(Protocol):
    """What the verbs need of the daemon."""

    @property
    def configuration(self) -> str | None:
        """The absolute path of its file."""

    @property
    def not_reopened(self) -> tuple[str, ...]:
        """Why files could not be opened again, at the last reload or USR1; one sentence for each."""

    def state(self) -> str:
        """Return serving, not-ready or stopping."""

    def reload(self, then: Callable[[ReloadResult], None]) -> None:
        """Reload, and report the result; raises TemporaryFault."""

    def stop(self) -> None:
        """Stop gracefully."""

    def read(self, text: str, name: str, environment: Mapping[str, str]) -> Settings:
        """Read a configuration with these variables; raises ConfigurationError."""


class ControlCommands:
    """Handles requests.

    Args:
        events: of the daemon.

    Attributes:
        followed: the verbs whose replies go on.
    """

    def __init__(
        self,
        daemon: DaemonControl,
        serving: ListenerRegistry,
        reloading: Reload,
        succession: Succession,
        events: DaemonEvents,
    ) -> None:
        self._daemon = daemon
        self._serving = serving
        self._reloading = reloading
        self._succession = succession
        self._events = events
        self.followed = FollowedVerbs(serving, events)

    @property
    def state(self) -> str:
        """Return serving, not-ready or stopping."""
        return self._daemon.state()

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever asks for the state should know beside it."""
        return self._daemon.not_reopened

    def verbs(self) -> dict[str, Callable[[Words], object]]:
        """Return the function of each verb."""
        return {
            "status": lambda words: ControlResponse(self.status(words), notes=self.notes),
            "connections": self.connections,
            "close": self._close,
            "reload": self._reload,
            "plan": self._plan,
            "upgrade": lambda _words: self._succession.upgrade(),
            "stop": self._stop,
            "certificates": lambda _words: list_certificates(self._serving),
            "trace": self.followed.trace,
            "events": self.followed.events,
            **OverrideVerbs(self._serving, self._reloading, self._succession).verbs(),
        }

    # ---- asked

    def recent_events(self, count: int) -> list[JsonObject]:
        """Return the last events, the latest first."""
        return list(self._events.recent)[: -count - 1 : -1]

    def status(self, _words: Words) -> dict[str, object]:
        """Return the state of the process, its listeners, its services and the last reload."""
        last = self._reloading.last
        return {
            "version": VERSION,
            "pid": os.getpid(),
            "configuration": self._daemon.configuration,
            "state": self._daemon.state(),
            "seconds": round(time.time() - self._succession.started, 3),
            "connections": self._serving.connections,
            "programs": self._serving.programs,
            "running": self._serving.running(),
            "memory": self._serving.memory,
            "defects": self._serving.defects,
            "descriptors": dict(sorted(self._serving.descriptors().items())),
            "time_wait": time_wait_sockets(),
            "listeners": [self._listener(served) for served in self._serving.listeners],
            "draining": [str(served) for served in self._serving.draining],
            "absent": [
                {"address": one.endpoint, "service": one.plan.service.name, "error": one.why}
                for one in self._serving.absent
            ],
            "services": service_table(self._serving),
            "reloads": {"succeeded": self._reloading.count[True], "failed": self._reloading.count[False]},
            "reload": None if last is None else outcome(last),
            **self._succession.table(),
        }

    def _listener(self, served: ActiveListener) -> dict[str, object]:
        counts, problem = served.listener.counts, self._reloading.problem(served)
        row: dict[str, object] = {
            "address": str(served),
            "service": served.run.spec.name,
            "accepted": counts.accepted,
        }
        if problem:
            row["problem"] = problem if served.listening.passed else f"{problem}; a reload binds it again"
        if counts.datagrams:
            return row | {"datagrams": dict(counts.datagrams)}
        if counts.programs:
            row["programs"] = dict(counts.programs)
        row |= {"open": counts.open, "peak": counts.peak, "max_connections": served.plan.settings.max_connections}
        row |= {"refused": dict(sorted(counts.refused.items()))}
        for queue in served.listener.queues:
            row["queue"] = asdict(queue)
        return row

    def connections(self, words: Words) -> Deferred:
        """Return those connections and running programs that are asked for; by default all."""
        answer, query = Deferred(), ConnectionQuery.read(words)
        steps = answer_in_steps(self._serving, query, answer)
        run_in_slices(self._serving.tools.loop, steps, partial(answer.fail, "connections"))
        return answer

    # ---- told

    def _close(self, words: Words) -> object:
        id = words["id"]
        connections = self._serving.tools.connections
        if id not in connections.groups.ids(ConnectionFilter.LIVE):
            raise UsageError(f"no connection {id}; sockctl connections lists them")
        peer = str(connections.peers.find(id))
        connections.shut(id, CloseReason.SHUTDOWN)
        return {"closing": peer}

    def _reload(self, _words: Words) -> object:
        answer = Deferred()

        def done(result: ReloadResult) -> None:
            said = ControlResponse(outcome(result), notes=self.notes)
            answer.resolve(ControlResponse(error=result.error, exit_code=result.exit_code) if result.error else said)

        self._daemon.reload(done)
        return answer

    def _plan(self, words: Words) -> object:
        """Compare; and return what an import of its handlers depends on, for sockctl does that."""
        environment = AskedVariables(os.environ)
        changes = self._reloading.compare(self._daemon.read(words["text"], words["name"], environment))
        daemon = {"environment": environment.found, "configuration": self._daemon.configuration}
        return {**asdict(changes), "daemon": {**daemon, "uid": os.geteuid(), "gid": os.getegid()}}

    def _stop(self, _words: Words) -> object:
        self._daemon.stop()
        return {"stopping": True, "pid": os.getpid()}


def outcome(last: ReloadResult) -> dict[str, object]:
    """Return the result of a reload, for JSON."""
    return {
        "when": log_format.timestamp(last.when),
        "ok": not last.error,
        "error": last.error,
        "changes": asdict(last.changes) if last.changes is not None else None,
    }
