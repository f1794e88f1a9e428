# SPDX-License-Identifier: MIT
"""What overrides change in a process that serves: the list as a whole, in place of what held before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.daemon.overrides import TARGET_STATES
from sockd.log.levels import levels
from sockd.net.listen.rate_overrides import ConnectionRate
from sockd.settings.relay import TargetState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sockd.daemon.instances import ActiveListener, Runtime
    from sockd.daemon.overrides import Override
    from sockd.settings.networks import Network


def apply_overrides(rows: Sequence[Override], tools: Runtime, listeners: Iterable[ActiveListener]) -> None:
    """Have these changes hold in this process, and no others."""
    tools.network_overrides.replace(list_networks(rows))
    tools.rate_overrides.replace(list_rates(rows))
    tools.forwarding.override_targets(target_states(rows))
    levels.set_services({row.subject: row.value for row in rows if row.kind == "log-level"})
    _apply_limits({row.subject: row.value for row in rows if row.kind == "limit"}, tools, listeners)


def _apply_limits(limits: Mapping[str, int], tools: Runtime, listeners: Iterable[ActiveListener]) -> None:
    """Have services and listeners have these limits, by their name or address, and the others their own."""
    before = dict(tools.listener_limits)
    tools.listener_limits.clear()
    tools.listener_limits.update(limits)
    changed = []
    for served in listeners:
        name, address = served.run.spec.name, str(served)
        limit = limits.get(name, served.run.spec.max_connections)
        if served.run.quota.limit != limit or limits.get(address) != before.get(address):
            changed.append((served, limit))
    for served, limit in changed:  # listeners of a service have one quota
        served.run.quota.limit = limit
        if not served.run.spec.kind.shares_socket:
            served.listener.start()  # which may have been waiting for a place


def list_networks(rows: Iterable[Override]) -> list[tuple[Network, bool]]:
    """Return the networks of a list, and whether each is let in: the latest first, an administrator's before others."""
    rows = list(rows)
    found = [(row.network, row.kind == "allow") for row in reversed(rows) if row.kind in ("deny", "allow")]
    return found + [(row.network, False) for row in rows if row.kind == "sensor"]


def target_states(rows: Iterable[Override]) -> dict[str, dict[str, TargetState]]:
    """Return the states of targets of relays, by the service."""
    states: dict[str, dict[str, TargetState]] = {}
    for row in rows:
        if row.kind in TARGET_STATES:
            service, _, target = row.subject.rpartition(" ")
            states.setdefault(service, {})[target] = TargetState(row.kind)
    return states


def list_rates(rows: Iterable[Override]) -> dict[tuple[str, bool], ConnectionRate]:
    """Return the rates of services, and of each whether it is of all clients together."""
    return {
        (row.subject, row.kind == "total-rate"): ConnectionRate(row.value, row.seconds)
        for row in rows
        if row.kind in ("rate", "total-rate")
    }


__all__ = ["apply_overrides", "list_networks", "list_rates", "target_states"]
