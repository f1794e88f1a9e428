# SPDX-License-Identifier: MIT
"""The statistics of each service, as `sockctl status`, `top` and the status page show them: one value for all three."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.values import asdict
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from sockd.daemon.listeners import ListenerRegistry
    from sockd.daemon.metrics import Histogram


def service_table(serving: ListenerRegistry) -> dict[str, dict[str, object]]:
    """Return what is known of each service, by its name; docs/statistics.md has the meaning of each."""
    refused, peaks, times = serving.refused(), serving.peaks(), serving.times()[0]
    every = [*serving.draining, *serving.listeners]
    limits = {served.plan.service.name: served.plan.service.max_connections for served in every}
    table: dict[str, dict[str, object]] = {}
    for name, totals in sorted(serving.totals().items()):
        reasons = {str(CloseReason(number)): count for number, count in enumerate(totals.reasons) if count}
        table[name] = asdict(totals) | {
            "reasons": reasons,
            "peak": peaks.get(name, 0),
            "max_connections": limits.get(name),
            "refused": dict(sorted(refused.get(name, {}).items())),
            "errors": totals.reasons[CloseReason.HANDLER_ERROR] + failed_datagrams(serving, name),
            "handler_seconds": handler_seconds(times.get(name)),
        }
    return table


def failed_datagrams(serving: ListenerRegistry, service: str) -> int:
    """Return for how many datagrams the handler of a service has failed."""
    own = [served.listener.counts.datagrams for served in serving.listeners if served.plan.service.name == service]
    return sum(one.get("failed", 0) for one in own)


def handler_seconds(times: Histogram | None) -> dict[str, object] | None:
    """Return how long calls of a handler have lasted; None where that is not measured, or there was none."""
    if times is None or not times.count:
        return None
    quantiles = {"p50": times.quantile(0.5), "p99": times.quantile(0.99)}
    return {"count": times.count, **quantiles, "max": times.max, "buckets": times.buckets}


__all__ = ["service_table"]
