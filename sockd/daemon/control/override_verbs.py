# SPDX-License-Identifier: MIT
"""The verbs of the control socket that change access, limits, levels and listeners without a reload.

Each is checked here, and is an override from then on (sockd.daemon.overrides): listed, ended, and passed on.
"""

from __future__ import annotations

from socket import SOCK_DGRAM
from typing import TYPE_CHECKING

from sockd.daemon.control.server import Deferred
from sockd.daemon.overrides import TARGET_STATES
from sockd.errors import UsageError
from sockd.log import format as log_format
from sockd.log.levels import levels
from sockd.net.listen.rate_overrides import read_rate
from sockd.services.given_kinds import RelayKind
from sockd.settings.networks import read_network
from sockd.wire.control import ControlResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.daemon.control.server import Words
    from sockd.daemon.listeners import ListenerRegistry
    from sockd.daemon.reload import Reload
    from sockd.daemon.succession import Succession
    from sockd.errors import SockdError

SOURCE = "source"
RATE_KINDS = {SOURCE: "rate", "service": "total-rate"}
"""Whose connections a rate counts: each source's (`rate` of a listener), or all together (`total_rate`)."""


class OverrideVerbs:
    """Handles requests to change something at once.

    Args:
        serving: what is changed.
        reloading: drains listeners, and binds them again.
        succession: refuses such a change within an upgrade.
    """

    def __init__(self, serving: ListenerRegistry, reloading: Reload, succession: Succession) -> None:
        self._serving = serving
        self._reloading = reloading
        self._succession = succession

    def verbs(self) -> dict[str, Callable[[Words], object]]:
        """Return the function of each verb."""
        return {
            "drain": self._drain,
            "undrain": self._undrain,
            "log-level": self._log_level,
            "deny": lambda words: self._network("deny", words),
            "allow": lambda words: self._network("allow", words),
            "limit": self._limit,
            "rate": self._rate,
            "target": self._target,
            "overrides": lambda _words: [row.table() for row in self._serving.overrides.rows],
            "clear": self._clear,
        }

    # ---- listeners

    def _drain(self, words: Words) -> object:
        self._succession.check()
        self._reloading.check()
        name = words["listener"]
        found = [one for one in self._serving.listeners if name in (str(one), str(one.address))]
        if not found:
            if any(name in (one.endpoint, str(one.address)) for one in self._serving.absent):
                raise UsageError(f"{name} is not bound, or drained already; sockctl status shows which")
            known = ", ".join(map(str, self._serving.listeners)) or "none"
            raise UsageError(f"no listener {name}; known: {known}")
        passed = [str(served) for served in found if not self._reloading.absent.can_bind(served)]
        if words["duration"] and passed:
            text = "cannot be bound again by this process; drain it without --for, and restart to listen again"
            raise UsageError(f"{', '.join(passed)}: {text}")
        for served in found:
            self._serving.overrides.add("drain", str(served), 0, words["duration"])
            self._reloading.absent.drained(served)
            self._reloading.drain(served)
        return {"draining": [str(served) for served in found]}

    def _undrain(self, words: Words) -> object:
        name = words["listener"]
        drained = [row for row in self._serving.overrides.rows if row.kind == "drain"]
        found = [row for row in drained if row.subject == name]
        if not found:
            raise UsageError(f"no drained listener {name}; drained: {', '.join(r.subject for r in drained) or 'none'}")
        return self._clear({"id": found[0].number})

    def _clear(self, words: Words) -> object:
        overrides = self._serving.overrides
        row = overrides.find(words["id"])
        if row.kind != "drain":
            return overrides.clear(row.number).table()
        self._succession.check()
        self._reloading.check()
        answer = Deferred()

        def done(error: SockdError | None) -> None:
            if error is not None:
                answer.resolve(ControlResponse(error=str(error), exit_code=error.exit_code))
            else:
                answer.resolve(ControlResponse({"listening": row.subject}))

        self._reloading.absent.undrain(row, done)
        return answer

    # ---- clients

    def _network(self, kind: str, words: Words) -> object:
        try:
            network = read_network(words["network"])
        except ValueError as error:
            raise UsageError(f"{words['network']} {error}") from None
        return self._serving.overrides.add(kind, str(network), 0, words["duration"]).table()

    def _limit(self, words: Words) -> object:
        name = words["service"]
        if name not in {str(one) for one in self._serving.listeners}:
            self._check_service(name)
        if words["connections"] < 0:
            raise UsageError(f"{words['connections']}: must be 0 or more")
        return self._serving.overrides.add("limit", name, words["connections"], words["duration"]).table()

    def _rate(self, words: Words) -> object:
        name, scope = words["service"], words["scope"] or SOURCE
        self._check_service(name)
        if scope not in RATE_KINDS:
            raise UsageError(f"--per {scope}: known: {', '.join(RATE_KINDS)}")
        listeners = [one for one in self._serving.listeners if one.run.spec.name == name]
        if all(one.listening.endpoint.type == SOCK_DGRAM for one in listeners):
            raise UsageError(f"{name}: has datagrams only, and no connections; sockctl deny refuses those of a network")
        if all(one.run.spec.kind.shares_socket for one in listeners):
            raise UsageError(f"{name}: its program accepts by itself (wait), so that sockd sees none of its clients")
        try:
            rate = read_rate(words["rate"])
        except ValueError as error:
            raise UsageError(f"{words['rate']} {error}") from None
        kind, seconds = RATE_KINDS[scope], rate.seconds
        row = self._serving.overrides.add(kind, name, rate.connections, words["duration"], seconds=seconds)
        return row.table()

    # ---- targets and levels

    def _target(self, words: Words) -> object:
        name, target, state = words["service"], words["target"], words["state"]
        kinds = [one.run.spec.kind for one in self._serving.listeners if one.run.spec.name == name]
        known = [str(one) for kind in kinds[:1] if isinstance(kind, RelayKind) for one in kind.settings.to]
        if target not in known:
            raise UsageError(f"no target {target} of {name}; known: {', '.join(known) or 'none, it is no relay'}")
        if state not in TARGET_STATES:
            raise UsageError(f"{state} is no state; known: {', '.join(TARGET_STATES)}")
        return self._serving.overrides.add(state, f"{name} {target}", 0, words["duration"]).table()

    def _log_level(self, words: Words) -> object:
        level = words["level"]
        if level not in log_format.LEVELS:
            raise UsageError(f"{level} is not a level; known: {', '.join(log_format.LEVELS)}")
        number = log_format.LEVELS[level]
        if words.get("service"):
            self._check_service(words["service"])
            return self._serving.overrides.add("log-level", words["service"], number, words["duration"]).table()
        if words.get("duration"):
            raise UsageError("--for needs --service: the level of the whole log holds until the next reload or start")
        levels.set_level(number)
        return {"level": level}

    def _check_service(self, name: str) -> None:
        known = sorted({one.run.spec.name for one in self._serving.listeners})
        if name not in known:
            raise UsageError(f"no service {name}; known: {', '.join(known) or 'none'}")


__all__ = ["OverrideVerbs"]
