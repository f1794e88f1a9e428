# SPDX-License-Identifier: MIT
"""The pages of the `metrics` service: numbers for Prometheus, a status page for people, and readiness."""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from sockd._version import VERSION
from sockd.daemon.control.certificates import certificates_in_use, list_certificates
from sockd.daemon.metrics import CONTENT_TYPE, Family, exposition
from sockd.lazy import json, psutil
from sockd.net.kernel import time_wait_sockets
from sockd.net.listen.refusal import RefusalReason
from sockd.services.builtin.http import Page
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sockd.daemon.control.commands import ControlCommands
    from sockd.daemon.listeners import ActiveListener, ListenerRegistry
    from sockd.daemon.metrics import Histogram, Labels
    from sockd.daemon.reload import Reload
    from sockd.daemon.worker_processes import WorkerProcesses
    from sockd.net.connection.info import Totals

    Samples = Sequence[tuple[Labels, float | Histogram]]

UPPER_BOUND = "; with workers, the sum of what each has had, which is an upper bound"
SHOWN_EVENTS = 20
STATUS_PAGE = os.path.join(os.path.dirname(__file__), "status.html")


@cache
def read_status_page() -> str:
    """Return the text of the status page; the first call is before chroot(2) hides it."""
    with open(STATUS_PAGE, encoding="utf-8") as file:
        return file.read()


class MetricsPages:
    """Returns the page for a path.

    Args:
        asked: has the status.
        max_connections: maximum of open connections.
        started: seconds since 1970.
        others: processes that serve for this one.
    """

    def __init__(
        self,
        asked: ControlCommands,
        serving: ListenerRegistry,
        reloading: Reload,
        *,
        max_connections: int,
        started: float,
        others: WorkerProcesses,
    ) -> None:
        self._asked = asked
        self._serving = serving
        self._reloading = reloading
        self._max_connections = max_connections
        self._started = started
        self._others = others

    def page(self, path: str) -> Page | None:
        """Return a page; None if there is none."""
        match path:
            case "/":
                return Page(read_status_page(), "text/html; charset=utf-8")
            case "/metrics":
                return Page(exposition([*self._families()]), CONTENT_TYPE)
            case "/status.json":
                return Page(json.dumps(self._status()), "application/json")
            case "/live":
                return Page("live\n")
            case "/ready":
                if self._is_ready():
                    return Page("ready\n")
                return Page("not ready\n", status=HTTPStatus.SERVICE_UNAVAILABLE)
        return None

    def _is_ready(self) -> bool:
        return self._asked.state == "serving"

    def _status(self) -> dict[str, object]:
        _, turns = self._serving.times()
        seconds = {"count": turns.count, "sum": turns.sum}
        workers = self._others.rows()
        last = self._reloading.last
        loaded = last.when if last is not None and not last.error else self._started
        return (
            self._asked.status({})
            | {"host": socket.gethostname(), "configuration_seconds": round(time.time() - loaded, 3)}
            | {"certificates": list_certificates(self._serving), "events": self._asked.recent_events(SHOWN_EVENTS)}
            | ({"workers": workers} if workers else {})
            | {
                "max_connections": self._max_connections,
                "turns": seconds,
                "process": self._total_usage(),
            }
        )

    # ---- for Prometheus

    def _families(self) -> Iterator[Family]:
        version = {"version": VERSION, "python": sys.version.partition(" ")[0]}
        yield Family("sockd_build_info", "gauge", "Version of sockd and of Python", [(version, 1)])
        yield _one("sockd_ready", "1 while the daemon is ready for new clients", int(self._is_ready()))
        yield from self._service_families()
        yield from self._listener_families()
        yield _one("sockd_max_connections", "Maximum number of open connections", self._max_connections)
        yield _one("sockd_buffer_bytes", "Memory of incomplete frames and pending output", self._serving.memory)
        yield from self._certificate_families()
        text = "Internal errors that the daemon survived, each with a line in the log; expected: 0"
        yield Family("sockd_defects_total", "counter", text, [({}, self._serving.defects)])
        replaced: Samples = [({"reason": why}, count) for why, count in self._serving.replaced.items()]
        yield Family("sockd_workers_replaced_total", "counter", "Workers that were replaced", replaced)
        text = "1 while a worker answers; 0: what it counts is as of its last reply"
        answers: Samples = [
            ({"worker": str(one["worker"]), "pid": str(one["pid"])}, int(one["answers"])) for one in self._others.rows()
        ]
        yield Family("sockd_worker_answers", "gauge", text, answers)
        yield _one("sockd_programs", "Running programs", self._serving.programs)
        held: Samples = [({"service": name}, count) for name, count in sorted(self._serving.descriptors().items())]
        yield Family("sockd_descriptors", "gauge", "Descriptors of listeners, connections and what they use", held)
        if (waiting := time_wait_sockets()) is not None:
            yield _one(
                "sockd_time_wait_sockets", "TCP sockets in TIME_WAIT, of this host or network namespace", waiting
            )
        yield from self._time_families()
        yield from self._reload_families()
        yield from self._process_families()

    def _service_families(self) -> Iterator[Family]:
        totals = self._serving.totals()

        def each(value: str) -> Samples:
            return [({"service": name}, getattr(one, value)) for name, one in sorted(totals.items())]

        yield Family("sockd_open_connections", "gauge", "Open connections", each("open"))
        yield Family("sockd_connections_total", "counter", "Connections accepted", each("accepted"))
        yield Family("sockd_connections_closed_total", "counter", "Connections closed, by reason", [*_endings(totals)])
        yield Family("sockd_frames_total", "counter", "Frames received", each("frames"))
        yield Family("sockd_received_bytes_total", "counter", "Bytes received", each("received"))
        yield Family("sockd_sent_bytes_total", "counter", "Bytes sent", each("sent"))
        yield Family(
            "sockd_output_pending_bytes", "gauge", "Bytes of output not yet sent", each("output_pending_bytes")
        )

    def _listener_families(self) -> Iterator[Family]:
        listeners = self._serving.listeners
        queues = [(_where(served), queue) for served in listeners for queue in served.listener.queues]
        accepted: Samples = [(_where(served), served.listener.counts.accepted) for served in listeners]
        name = "sockd_listener_accepted_total"
        yield Family(name, "counter", "Connections and datagrams accepted by a listener", accepted)
        length: Samples = [(where, queue.length) for where, queue in queues]
        limit: Samples = [(where, queue.limit) for where, queue in queues]
        drops: Samples = [(where, queue.overflows) for where, queue in queues if queue.overflows is not None]
        yield Family("sockd_accept_queue_connections", "gauge", "Connections waiting in the accept queue", length)
        yield Family("sockd_accept_queue_limit", "gauge", "Maximum length of the accept queue", limit)
        yield Family(
            "sockd_accept_queue_overflows_total", "counter", "Packets dropped because the accept queue was full", drops
        )
        refused: Samples = [
            ({**_where(served), "reason": reason.value}, served.listener.counts.refused.get(reason.value, 0))
            for served in listeners
            if not served.listener.counts.datagrams
            for reason in RefusalReason
        ]
        yield Family("sockd_refused_total", "counter", "Clients that were not served, by reason", refused)
        yield from self._limit_families()
        yield Family("sockd_datagrams_total", "counter", "Datagrams, by outcome", [*_datagrams(listeners)])
        text = "Programs that ended at once, of listeners whose socket is a program's (wait = true)"
        quick: Samples = [(where, programs["ended_at_once"]) for where, programs in _programs(listeners)]
        yield Family("sockd_programs_ended_at_once_total", "counter", text, quick)
        running: Samples = [(where, programs["running"]) for where, programs in _programs(listeners)]
        yield Family("sockd_listener_programs", "gauge", "Running programs that have a listener's socket", running)

    def _limit_families(self) -> Iterator[Family]:
        streams = [one for one in self._serving.listeners if not one.listener.counts.datagrams]
        is_open: Samples = [(_where(served), served.listener.counts.open) for served in streams]
        yield Family("sockd_listener_open_connections", "gauge", "Open connections of a listener", is_open)
        peaks: Samples = [(_where(served), served.listener.counts.peak) for served in streams]
        yield Family(
            "sockd_listener_peak_connections", "gauge", f"Most connections of a listener at once{UPPER_BOUND}", peaks
        )
        maxima: Samples = [
            (_where(served), limit) for served in streams if (limit := served.plan.settings.max_connections) is not None
        ]
        yield Family("sockd_listener_max_connections", "gauge", "Maximum of open connections of a listener", maxima)
        peaks = [({"service": name}, peak) for name, peak in sorted(self._serving.peaks().items())]
        yield Family("sockd_peak_connections", "gauge", f"Most connections of a service at once{UPPER_BOUND}", peaks)
        limits = {one.plan.service.name: one.plan.service.max_connections for one in self._serving.listeners}
        maxima = [({"service": name}, limit) for name, limit in sorted(limits.items()) if limit is not None]
        yield Family("sockd_service_max_connections", "gauge", "Maximum of open connections of a service", maxima)

    def _certificate_families(self) -> Iterator[Family]:
        ends = {certificate.path: certificate.until for _, certificate in certificates_in_use(self._serving)}
        if ends:
            samples: Samples = [({"file": path}, until) for path, until in sorted(ends.items())]
            text = "Time at which a certificate expires, since 1970; 0 for one that is not valid"
            yield Family("sockd_certificate_expiry_timestamp_seconds", "gauge", text, samples)

    def _time_families(self) -> Iterator[Family]:
        handler_times, turns = self._serving.times()
        handlers: Samples = [({"service": name}, one) for name, one in sorted(handler_times.items())]
        text = "Time per call of a handler; for services that are called for each "
        text += "connection, sampled"
        yield Family("sockd_handler_seconds", "histogram", text, handlers)
        slowest: Samples = [({"service": name}, one.max) for name, one in sorted(handler_times.items())]
        yield Family("sockd_handler_max_seconds", "gauge", "Longest call of a handler that was measured", slowest)
        text = "Working time of the event loop between two waits"
        yield Family("sockd_loop_turn_seconds", "histogram", text, [({}, turns)])

    def _reload_families(self) -> Iterator[Family]:
        count, last = self._reloading.count, self._reloading.last
        results: Samples = [({"result": "success"}, count[True]), ({"result": "failure"}, count[False])]
        yield Family("sockd_reloads_total", "counter", "Reloads", results)
        text = "1 unless the last reload failed"
        yield _one("sockd_last_reload_success", text, int(last is None or not last.error))
        when = self._started if last is None else last.when
        yield _one("sockd_last_reload_timestamp_seconds", "Time of the last reload, or of the start", when)

    def _process_families(self) -> Iterator[Family]:
        usage = self._total_usage()
        for key, (kind, text) in _PROCESS.items():
            if key in usage:
                samples: Samples = [({}, usage[key])]
                yield Family(f"process_{key}", "counter" if kind == "counter" else "gauge", text, samples)

    def _total_usage(self) -> dict[str, float]:
        usage = self.usage()
        for name, value in self._others.usage().items():
            if name in ADDED:
                usage[name] = usage.get(name, 0) + value
        return usage

    def usage(self) -> dict[str, float]:
        """Return the resource usage of the process; values of /proc are missing where it is not mounted, as after
        chroot(2).
        """
        used = resource.getrusage(resource.RUSAGE_SELF)
        usage: dict[str, float] = {
            "cpu_seconds_total": used.ru_utime + used.ru_stime,
            "max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "start_time_seconds": self._started,
        }
        with suppress(psutil.Error, OSError):
            memory = psutil.Process().memory_info()
            usage |= {"resident_memory_bytes": memory.rss, "virtual_memory_bytes": memory.vms}
        with suppress(OSError):
            usage["open_fds"] = len(os.listdir("/proc/self/fd"))
        return usage


ADDED = ("cpu_seconds_total", "open_fds", "resident_memory_bytes", "virtual_memory_bytes")
"""Values that are added for several processes; limits and times are the first one's."""
_PROCESS = {
    "cpu_seconds_total": ("counter", "CPU time, user and system"),
    "open_fds": ("gauge", "Open descriptors"),
    "max_fds": ("gauge", "Maximum number of open descriptors"),
    "resident_memory_bytes": ("gauge", "Resident memory"),
    "virtual_memory_bytes": ("gauge", "Virtual memory"),
    "start_time_seconds": ("gauge", "Start time of the process, since 1970"),
}
"""Named as in the client libraries of Prometheus."""


def _one(name: str, text: str, value: float) -> Family:
    return Family(name, "gauge", text, [({}, value)])


def _where(served: ActiveListener) -> Labels:
    return {"address": str(served), "service": served.run.spec.name}


def _endings(totals: dict[str, Totals]) -> Iterator[tuple[Labels, float]]:
    for name, one in sorted(totals.items()):
        for reason in CloseReason:
            if reason is not CloseReason.NONE:
                yield {"service": name, "reason": str(reason)}, one.reasons[reason]


def _datagrams(listeners: Sequence[ActiveListener]) -> Iterator[tuple[Labels, float]]:
    for served in listeners:
        for result, count in served.listener.counts.datagrams.items():
            yield {**_where(served), "result": result}, count


def _programs(listeners: Sequence[ActiveListener]) -> Iterator[tuple[Labels, Mapping[str, int]]]:
    for served in listeners:
        if programs := served.listener.counts.programs:
            yield _where(served), programs


__all__ = ["MetricsPages", "read_status_page"]
