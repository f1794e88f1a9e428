# SPDX-License-Identifier: MIT
"""A worker process: it serves with what its supervisor has prepared.

Until it can serve it sends messages by itself; from then on it replies to the supervisor's requests.  It exits when it
is stopped, when it is retired and its last connection has closed, or when its supervisor has exited.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, suppress
from math import ceil
from typing import TYPE_CHECKING

import msgspec

from sockd.daemon import runtime
from sockd.daemon.context import StartContext
from sockd.daemon.control.server import answer_to
from sockd.daemon.control.stats import ProcessStats
from sockd.daemon.daemon import Daemon
from sockd.daemon.effective import EffectiveSettings
from sockd.daemon.lineage import Lineage
from sockd.daemon.listeners import ListenerRegistry
from sockd.daemon.overrides import Override
from sockd.daemon.worker_processes import NoWorkers
from sockd.daemon.workers.connection_pages import ConnectionPages
from sockd.daemon.workers.hangs import MAX_NAMED
from sockd.daemon.workers.ipc import ResponseChannel
from sockd.daemon.workers.member import LAST, PASSED, SENSED, STALLED
from sockd.daemon.workers.memory import own_memory
from sockd.errors import EX_OK, EX_OSERR, SockdError
from sockd.net.connection.info import ConnectionFilter
from sockd.net.loop.loop import loop_class
from sockd.net.loop.turns import TurnWatch
from sockd.process.inherited_sockets import InheritedSockets
from sockd.process.socket_activation import Inherited
from sockd.units import Duration, Size
from sockd.values import dataclass, replace
from sockd.wire.control import ControlResponse

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from sockd.daemon.control.server import Verb, Words
    from sockd.daemon.control.tracing import Record
    from sockd.daemon.instances import Runtime
    from sockd.daemon.listeners import ActiveListener
    from sockd.daemon.startup import Opened, Resources, ServingProcess, Unprivileged
    from sockd.daemon.workers.balance import WorkerSlot
    from sockd.settings import Settings
    from sockd.wire.control import JsonObject

logger = logging.getLogger("sockd.daemon")

STALLED_SECONDS = 0.4
"""A loop that stands still for so long says so to the supervisor, which waits longer than that for its replies."""


@dataclass(frozen=True)
class WorkerPlace:
    """What a worker is among the others.

    Args:
        number: of the worker, for its log.
        channel: on which the supervisor asks; the worker's from now on.
        slot: its part of the shared counts.
        parent: pid of the supervisor.
        is_measuring: whether anybody is told how long handlers take.
    """

    number: int
    channel: socket.socket
    slot: WorkerSlot
    parent: int
    is_measuring: bool

    def mark(self, record: logging.LogRecord) -> bool:
        """Have a record of the log say which worker it is of."""
        event: object = getattr(record, "event", {})
        record.event = {**event, "worker": self.number} if isinstance(event, dict) else event
        return True


class Worker:
    """A worker that can serve, and replies to its supervisor.

    Args:
        daemon: that it is.
        made: its listeners, which do not accept yet.
        place: what it is among the others.
    """

    def __init__(self, daemon: Daemon, made: Sequence[ActiveListener], place: WorkerPlace) -> None:
        self._daemon = daemon
        self._serving = daemon.serving
        self._tools = daemon.serving.tools
        self._made = made
        self._number = place.number
        self._slot = place.slot
        self._kept: frozenset[str] = frozenset()
        self._is_retired = False
        own = daemon.commands.verbs()
        self._verbs: dict[str, Verb] = {name: own[name] for name in ("close", "log-level")}
        self._verbs |= {"begin": self._accept, "numbers": self._numbers, "apply": self._apply}
        self._verbs |= {
            "connections": ConnectionPages(self._serving).page,
            "retire": self._retire,
            "leave": self._leave,
            "memory": lambda _: own_memory(),
            "alive": lambda _: {},
            "override": self._override,
            "trace": self._trace,
            "untrace": lambda words: self._traces.pop(words["key"], lambda: None)(),
        }
        self._traces: dict[int, Callable[[], None]] = {}
        self._stalled_at = 0.0
        if self._tools.loop.watch is not None:
            self._tools.loop.watch.report = self._report_stall
        self._lost_events = 0
        daemon.events.follow(self._pass_event)
        self._channel = ResponseChannel(place.channel, self._tools.loop, self._answer, self._alone)
        self._tools.network_overrides.report = self._report_source

    def run(self) -> None:
        """Serve until stopped, and send the counters at the end."""
        self._daemon.serve()
        self._daemon.drain()
        with suppress(OSError):  # the supervisor may have ended before
            self._channel.end_with(ControlResponse({LAST: self._numbers({})}))

    # ---- asked by the supervisor

    def _answer(self, line: bytes) -> ControlResponse:
        return answer_to(line, self._verbs, self._tools.loop.defects)

    def _report_stall(self, seconds: float, place: Mapping[str, str]) -> None:
        """Say what the loop does instead of turning, in the handler of a signal (sockd.process.stall_detector)."""
        now = self._tools.loop.clock()
        if seconds < STALLED_SECONDS or now - self._stalled_at < STALLED_SECONDS:
            return
        self._stalled_at = now
        connections = self._tools.connections
        ids = list(connections.groups.ids(ConnectionFilter.LIVE))[:MAX_NAMED]
        peers = [str(connections.peers.find(id)) for id in ids]
        stalled = {"seconds": round(seconds, 3), "at": place["at"], "handler": place["handler"], "peers": peers}
        self._channel.send_now(ControlResponse({STALLED: stalled}))

    def _report_source(self, network: str, seconds: float) -> None:
        """Have a source denied in all processes."""
        self._channel.send_now(ControlResponse({SENSED: [network, seconds]}))

    def _accept(self, _words: Words) -> object:
        self._slot.begin()
        self._serving.start(self._made)
        return {}

    def _numbers(self, _words: Words) -> object:
        return ProcessStats.collect(self._serving, self._daemon.pages.usage()).as_table()

    def _apply(self, words: Words) -> object:
        settings = self._daemon.settings.current
        log = replace(settings.daemon.log, level=words["level"])
        daemon = replace(settings.daemon, stop_timeout=words["stop_timeout"], max_memory=words["max_memory"], log=log)
        self._daemon.settings.replace(replace(settings, daemon=daemon))
        return {}

    def _retire(self, words: Words) -> object:
        """Stop accepting where other processes accept, and exit with the last connection."""
        self._slot.end()
        self._kept = frozenset(words["kept"])
        for served in self._serving.listeners:
            if str(served) in self._kept:
                served.listener.detach()
        if not self._is_retired:
            self._is_retired = True
            TurnWatch(self._tools.loop, self._end_if_empty)
        return self._numbers({})

    def _end_if_empty(self) -> None:
        serving = self._serving
        gone = not serving.draining and all(str(served) in self._kept for served in serving.listeners)
        idle = all(served.listener.is_idle for served in serving.every())
        if gone and idle and not self._tools.count() and not self._tools.is_at_work:
            self._tools.loop.stop()

    def _override(self, words: Words) -> object:
        self._serving.apply_overrides(msgspec.convert(words["rows"], list[Override]))
        return {}

    def _trace(self, words: Words) -> object:
        """Begin a trace; what it sees is said unasked, and counted while the supervisor does not read."""
        key, left = words["key"], 0

        def emit(records: list[Record], left_out: int) -> None:
            nonlocal left
            seen = {"trace": key, "records": records, "left_out": left + left_out}
            left = 0 if self._channel.send({PASSED: seen}) else left + left_out + len(records)

        if key not in self._traces:
            self._traces[key] = self._daemon.commands.followed.begin_trace(words, emit)
        return {}

    def _pass_event(self, event: JsonObject) -> None:
        """Have the supervisor know of an event here."""
        said = {"event": event | {"worker": self._number}, "lost": self._lost_events}
        self._lost_events = 0 if self._channel.send({PASSED: said}) else self._lost_events + 1

    def _leave(self, words: Words) -> object:
        """Drain a listener that was removed."""
        for served in list(self._serving.listeners):
            if str(served) == words["listener"]:
                self._daemon.reloading.drain(served)
        return {}

    def _alone(self) -> None:
        """Stop gracefully, because without a supervisor nothing would replace or stop this process."""
        if not self._daemon.shutdown.is_begun:
            logger.error("the supervisor has exited")
            self._daemon.shutdown.stop()


def work(supervisor: ServingProcess, start: Unprivileged, opened: Sequence[Opened], place: WorkerPlace) -> int:
    """Serve until stopped, in a process that was just forked; return the exit code.

    Args:
        supervisor: the parent process, with the signals of this one.
        start: what the parent has.
        opened: what is served, on shared sockets.
        place: of the worker.
    """
    log, bound = start.resources.log, supervisor.signals.bound
    log.addFilter(place.mark)
    bound.set_log_target(log)
    process = _process(supervisor)
    sockets = [one.socket.fileno() for _, one, _ in opened]
    if not bound.orphaned(sockets, place.parent):
        return EX_OSERR  # it died in this moment
    is_ready = False

    def fail(error: SockdError) -> int:
        if is_ready:
            logger.error("not serving", extra={"event": {"error": str(error)}})
        else:
            said = ControlResponse(error=error.text, exit_code=error.exit_code, key=error.key)
            place.channel.sendall(said.encode())
        return error.exit_code

    try:
        with ExitStack() as stack:
            own = replace(start, resources=_own(start.resources, opened))
            daemon = Daemon(process, own, ListenerRegistry(_tools(process, own, stack, place)), NoWorkers(), stack)
            made = _prepare(process, daemon, own, place)
            is_ready = True
            Worker(daemon, made, place).run()
    except SockdError as error:
        return fail(error)
    except BaseException as error:
        logger.critical("internal error", exc_info=True)
        return fail(SockdError(f"{type(error).__name__}: {error}"))
    finally:
        log.flush()
    return EX_OK


def _process(supervisor: ServingProcess) -> ServingProcess:
    """Return the description of a worker: it has no previous and no next process."""
    before = supervisor.context
    settings = EffectiveSettings(divide_limits(supervisor.settings.current))
    context = StartContext(ready=lambda _: None, trace=before.trace, let_go=before.let_go)
    lineage = Lineage(settings, context, supervisor.lineage.files)
    process = replace(supervisor, context=context, settings=settings, lineage=lineage)
    process.allow_stop(settings.current)
    return process


def _own(supervisors: Resources, opened: Sequence[Opened]) -> Resources:
    """Return what a worker has of what its supervisor has."""
    return replace(
        supervisors,
        listening=[(address, replace(one, path=None, is_ours=False), what) for address, one, what in opened],
        loop_class=loop_class(asyncio=any(one.service.kind.may_use_asyncio for _, _, one in opened)),
        passed=InheritedSockets(Inherited()),
        control=None,
        manager=None,
    )


def _prepare(process: ServingProcess, daemon: Daemon, start: Unprivileged, place: WorkerPlace) -> list[ActiveListener]:
    """Have all that can fail done, say so, and wait for the word to accept."""
    if place.is_measuring:
        daemon.serving.measure()
    with process.kept_from_handlers():  # in their startup hooks
        made = daemon.serving.prepare((*one, None) for one in start.resources.listening)
    process.context.let_go()
    place.channel.sendall(ControlResponse(result={"memory": own_memory()}).encode())
    return made


def _tools(process: ServingProcess, start: Unprivileged, stack: ExitStack, place: WorkerPlace) -> Runtime:
    alone = runtime.make(process, start, stack)
    return replace(alone, accepts_a_turn=1, is_ahead=lambda: place.slot.is_ahead(alone.count()))


def divide_limits(settings: Settings) -> Settings:
    """Return one worker's part of limits that hold for the whole daemon."""
    daemon, count = settings.daemon, settings.daemon.workers
    max_connections, memory = ceil(daemon.max_connections / count), ceil(daemon.max_memory / count)
    daemon = replace(daemon, max_connections=max_connections, max_memory=Size(memory), pre_drain=Duration(0))
    return replace(settings, daemon=daemon)


__all__ = ["Worker", "WorkerPlace", "divide_limits", "work"]
