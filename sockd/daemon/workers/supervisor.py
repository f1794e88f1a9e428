# SPDX-License-Identifier: MIT
"""Several serving processes, and a supervisor (`workers` of [daemon]).

The supervisor starts like every daemon: it binds and drops its privileges, and then, instead of serving, it forks
workers, which inherit its sockets, its privileges and its imported handlers. It answers sockctl and serves the pages
of the metrics service; it reads no byte of other clients.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from sockd.daemon import runtime
from sockd.daemon.control.server import Deferred
from sockd.daemon.daemon import Daemon
from sockd.daemon.programs import KILLED_SECONDS
from sockd.daemon.startup import ServingProcess, Start
from sockd.daemon.workers.balance import WorkerSlot
from sockd.daemon.workers.connection_pages import ConnectionCollection
from sockd.daemon.workers.hangs import HangWatch
from sockd.daemon.workers.listeners import WorkerListeners
from sockd.daemon.workers.member import split_id
from sockd.daemon.workers.memory import MemoryWatch, WorkerLimits, process_memory
from sockd.daemon.workers.pool import WorkerPool
from sockd.daemon.workers.traces import WorkerTraces
from sockd.daemon.workers.worker import WorkerPlace, divide_limits, work
from sockd.errors import EX_TEMPFAIL, EX_USAGE
from sockd.lazy import load_resident
from sockd.net.loop.loop import EventLoop
from sockd.process.children import KILL_SECONDS
from sockd.process.stop_bound import MARGIN_SECONDS
from sockd.values import replace
from sockd.wire.control import ControlResponse

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from sockd.daemon.context import StartContext
    from sockd.daemon.control.commands import ControlCommands
    from sockd.daemon.control.server import Verb, Words
    from sockd.daemon.startup import Opened, Unprivileged
    from sockd.daemon.worker_processes import WorkerRow
    from sockd.daemon.workers.balance import SharedConnectionCounts
    from sockd.daemon.workers.member import WorkerHandle
    from sockd.daemon.workers.pool import Results
    from sockd.net.listen.bind import ServerSocket
    from sockd.process.signals import Signals
    from sockd.services.builtin.http import Later, Page, Pages
    from sockd.settings import Settings
    from sockd.wire.control import JsonObject

logger = logging.getLogger("sockd.daemon")

STOP_MARGIN_SECONDS = KILL_SECONDS + KILLED_SECONDS + MARGIN_SECONDS + 0.5
"""Time beyond stop_timeout, for programs and the exit of a worker; one that has not exited then is killed."""
PAGES_WITH_NUMBERS = ("/metrics", "/status.json")
URGENT = frozenset((signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))
"""What is acted on while workers are waited for."""


class Supervisor:
    """A daemon whose connections are served by other processes; the part of it that has to do with these.

    Args:
        process: what it is.
        start: what it has after the drop; shared with the workers.
        stack: closes what is opened here.
    """

    def __init__(self, process: ServingProcess, start: Unprivileged, stack: ExitStack) -> None:
        self._process = process
        self._start = start
        self._parent = os.getpid()  # of workers
        alone = replace(start, resources=replace(start.resources, loop_class=EventLoop))  # coroutines are the workers'
        daemon = process.settings.daemon
        tools = replace(runtime.make(process, alone, stack), capacity=daemon.max_connections)
        self._loop = tools.loop
        self._pool = WorkerPool(self._loop, signals=process.signals, lost=self._lost)
        self._listeners = WorkerListeners(tools, self._pool, daemon.workers, self._work)
        self._pool.prepare = self._listeners.bring_up_to_date
        self._hangs = HangWatch(self._loop, self._pool)
        self._memory = MemoryWatch(self._loop, self._pool, self._listeners)
        self._daemon = Daemon(process, alone, self._listeners, self, stack)
        self._traces = WorkerTraces(self._pool, self._daemon.commands.followed.begin_trace)
        self._listeners.resume = self._traces.resume
        self._pool.passed = self._hear

    def run(self) -> None:
        """Fork workers, wait for them, and have them serve until stopped; raises as ListenerRegistry.prepare()."""
        self._daemon.act_on_signals(URGENT)
        self._daemon.begin()
        self._memory.limit(WorkerLimits.from_settings(self._process.settings.daemon))
        self._hangs.limit(self._process.settings.daemon.handler_timeout)
        self._daemon.serve()
        self._daemon.drain()

    def _lost(self, member: WorkerHandle) -> None:
        self._listeners.lost(member)

    def _hear(self, member: WorkerHandle, passed: JsonObject) -> None:
        """Send on what a worker has said unasked, to whoever follows."""
        if "trace" in passed:
            self._traces.hear(member, passed)
        elif "event" in passed:
            if passed["lost"]:
                lost = {"worker": member.number, "count": passed["lost"]}
                logger.warning("events of a worker lost", extra={"event": lost})
            self._daemon.events.publish(passed["event"])

    # ---- in a new process

    def _work(
        self,
        lent: Sequence[Opened],
        own: Sequence[ServerSocket],
        balance: SharedConnectionCounts,
        place: int,
        number: int,
        channel: socket.socket,
        signals: Signals,
    ) -> int:
        """Serve, in a process that was just forked.

        Args:
            lent: the sockets to serve.
            own: sockets of the supervisor alone.
            balance, place, number, channel, signals: of the worker.
        """
        lent = self._listeners.lent_still(lent)
        self._daemon.leave([*own, *self._listeners.beside(lent)])
        as_worker = WorkerPlace(number, channel, WorkerSlot(balance, place), self._parent, is_measuring=bool(own))
        return work(replace(self._process, signals=signals), self._start, lent, as_worker)

    # ---- the part of a daemon that has to do with them (sockd.daemon.worker_processes)

    def reap(self) -> None:
        """Reap exited workers (SIGCHLD)."""
        self._pool.reap()

    def log_reopened(self) -> None:
        """Have them open their logs anew, as this process has."""
        self._pool.send(signal.SIGUSR1)

    def replaced(self, settings: Settings) -> None:
        """Have others take effect there, as here."""
        self._memory.limit(WorkerLimits.from_settings(settings.daemon))
        self._hangs.limit(settings.daemon.handler_timeout)
        share = divide_limits(settings).daemon
        words = {"stop_timeout": share.stop_timeout, "max_memory": share.max_memory, "level": share.log.level}
        members = [one for one in self._pool if one.is_ready and one.accepts_clients]
        self._pool.ask("apply", members, words=words)

    def verbs(self, own: ControlCommands) -> Mapping[str, Verb]:
        """Return the verbs of the control socket that are answered for all, in place of this process's own."""
        return {
            "status": partial(self._collect_status, own),
            "connections": self._collect_connections,
            "close": self._close_one,
            "trace": lambda words: own.followed.trace(words, self._traces.begin),
            "log-level": partial(self._set_log_level, own.verbs()["log-level"]),
        }

    def pages(self, own: Callable[[str], Page | None]) -> Pages:
        """Return pages about all of them, made from those of this process."""

        def page(path: str) -> Page | Later | None:
            if path not in PAGES_WITH_NUMBERS:
                return own(path)
            return lambda then: self._listeners.look(lambda: then(own(path)))

        return page

    def usage(self) -> Mapping[str, float]:
        """Return their resource usage."""
        return self._listeners.usage

    def rows(self) -> Sequence[WorkerRow]:
        """Return what is shown of each."""
        return [
            {
                "worker": member.number,
                "pid": member.pid,
                "seconds": round(self._loop.clock() - member.began, 3),
                "connections": self._listeners.worker_connections(member),
                "memory": process_memory(member.pid) or member.memory,
                "accepts": member.accepts_clients,
                "answers": member.is_ready and not self._listeners.is_silent(member),
                "stalled": member.last.where,
            }
            for member in self._pool
        ]

    def replace_no_more(self) -> None:
        """From now on every exit is expected."""
        self._pool.replace_no_more()

    def end(self, is_urgent: Callable[[], bool]) -> bool:
        """Stop them gracefully, or fast once it is urgent."""
        process, seconds = self._process, self._process.settings.daemon.stop_timeout
        logger.info("stopping workers", extra={"event": {"workers": len(self._pool)}})
        self._daemon.notifier.stopping("stopping", seconds + STOP_MARGIN_SECONDS)
        process.signals.bound.within(seconds + STOP_MARGIN_SECONDS)
        self._listeners.shut()
        first = signal.SIGQUIT if is_urgent() else signal.SIGTERM
        self._pool.end(first, seconds + STOP_MARGIN_SECONDS, is_urgent)
        return True

    # ---- told, and asked

    def _collect_status(self, own: ControlCommands, words: Words) -> object:
        answer = Deferred()
        self._listeners.look(lambda: answer.resolve(self._status(own, words)))
        return answer

    def _status(self, own: ControlCommands, words: Words) -> ControlResponse:
        silent = [member for member in self._pool if member.is_ready and self._listeners.is_silent(member)]
        notes = tuple(f"{_hangs(member)}; its figures are those of its last reply" for member in silent)
        return ControlResponse({**own.status(words), "workers": self.rows()}, notes=(*own.notes, *notes))

    def _collect_connections(self, words: Words) -> object:
        return ConnectionCollection(self._pool, self._loop, words, _hangs).collect(self._listeners)

    def _close_one(self, words: Words) -> object:
        id = words["id"]
        number, own = split_id(id)
        answer = Deferred()

        def answered(results: Results) -> None:
            error, exit_code = f"no connection {id}; sockctl connections lists them", EX_USAGE
            if members and members[0].is_silent:
                error, exit_code = _hangs(members[0]), EX_TEMPFAIL
            answer.resolve(
                ControlResponse(results[0][1]) if results else ControlResponse(error=error, exit_code=exit_code)
            )

        members = [one for one in self._pool if one.number == number and one.is_ready]
        self._pool.ask("close", members, answered, {"id": own})
        return answer

    def _set_log_level(self, own: Verb, words: Words) -> object:
        result = own(words)
        if not words["service"]:  # else it is an override, which they get as every one
            self._pool.ask("log-level", words=words)
        return result


def _hangs(member: WorkerHandle) -> str:
    """Say that a worker does not answer, and where it hangs."""
    where = f"loop stalled at {member.last.where}" if member.last.where else "in C code, or stopped"
    return f"worker {member.number} (pid {member.pid}) does not answer: {where}"


def run(settings: Settings, context: StartContext) -> None:
    """Serve settings by several processes until stopped; arguments and errors as of sockd.daemon.daemon.run()."""
    load_resident()
    process = ServingProcess.create(settings, context)
    with ExitStack() as stack:
        start = Start(process, stack).run()
        start.resources.log.share()  # with the workers
        Supervisor(process, start, stack).run()


__all__ = ["Supervisor", "run"]
