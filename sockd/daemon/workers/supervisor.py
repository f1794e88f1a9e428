# SPDX-License-Identifier: MIT
"""Several processes that serve, and one that keeps them (`workers` of [daemon]).

The supervisor starts as every daemon does: it binds, it drops its rights, and then, in place of serving, it forks
workers, which go on where it stands: they have its sockets, its rights and the handlers that it has imported.
It answers sockctl and serves the pages of the metrics service; no byte of any other client reaches it.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import ExitStack, suppress
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

from sockd.daemon.context import StartContext
from sockd.daemon.control.server import Deferred, answer_to
from sockd.daemon.control.stats import ProcessStats
from sockd.daemon.daemon import Daemon
from sockd.daemon.lineage import Lineage
from sockd.daemon.programs import KILLED_SECONDS
from sockd.daemon.startup import Unprivileged
from sockd.daemon.workers.balance import WorkerSlot
from sockd.daemon.workers.ipc import ResponseChannel
from sockd.daemon.workers.listeners import WorkerListeners
from sockd.daemon.workers.member import LAST
from sockd.daemon.workers.memory import MemoryWatch, memory_of, own_memory
from sockd.daemon.workers.pool import WorkerPool
from sockd.errors import EX_OK, EX_OSERR, EX_USAGE, SockdError
from sockd.net.loop.loop import EventLoop, loop_class
from sockd.process.children import KILL_SECONDS
from sockd.process.inherited_sockets import InheritedSockets
from sockd.process.socket_activation import Inherited
from sockd.process.stop_bound import MARGIN_SECONDS
from sockd.services.handlers import needs_asyncio
from sockd.units import Duration, Size
from sockd.wire.control import ControlResponse

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from sockd.daemon.control.server import Verb
    from sockd.daemon.instances import Runtime
    from sockd.daemon.listeners import ListenerRegistry
    from sockd.daemon.plan import ListenerPlan
    from sockd.daemon.workers.balance import SharedConnectionCounts
    from sockd.daemon.workers.member import WorkerHandle
    from sockd.daemon.workers.pool import Results
    from sockd.net.address.address import Address
    from sockd.net.listen.bind import ServerSocket
    from sockd.process.signals import Signals
    from sockd.services.builtin.http import Later as LaterPage
    from sockd.services.builtin.http import Page
    from sockd.settings import Settings

    Opened = tuple[Address, ServerSocket, ListenerPlan]
    Words = dict[str, Any]

logger = logging.getLogger("sockd.daemon")

OF_A_WORKER = 10_000_000_000
"""Numbers of connections of worker n begin at n times this; ids of the table have 31 bits (csrc/slots.h)."""
STOP_MARGIN_SECONDS = KILL_SECONDS + KILLED_SECONDS + MARGIN_SECONDS + 0.5
"""Behind stop_timeout, for programs and the end of a worker; one that has not ended then is killed."""
PAGES_WITH_NUMBERS = ("/metrics", "/status.json")
LOOK_SECONDS = 0.1
"""How often a worker that accepts no more looks whether its last connection has ended."""


class Supervisor(Daemon):
    """A daemon whose connections are served by other processes; raises as Daemon."""

    def _serve(self, start: Unprivileged, stack: ExitStack) -> None:
        self._dropped = start.dropped
        start.log.share()  # with the workers
        self._parent = os.getpid()  # of workers
        self._loop_class = EventLoop  # coroutines are the workers' alone
        super()._serve(start, stack)

    def _actions(self) -> dict[signal.Signals, Callable[[], None]]:
        return super()._actions() | {signal.SIGCHLD: self._reap}

    def _reap(self) -> None:
        self._worker_pool.reap()

    def _serving_with(self, tools: Runtime) -> ListenerRegistry:
        self._worker_pool = WorkerPool(self._loop, signals=self._signals, lost=self._lost)
        self._worker_listeners = WorkerListeners(
            tools, self._page, self._worker_pool, self._settings.daemon.workers, self._work
        )
        self._memory = MemoryWatch(self._loop, self._worker_pool, self._worker_listeners)
        return self._worker_listeners

    def _lost(self, member: WorkerHandle) -> None:
        self._worker_listeners.lost(member)

    @property
    def _most(self) -> int:
        return self._settings.daemon.max_connections

    def _begin(self, bound: list[Opened]) -> None:
        """Wait for workers, and meanwhile for their ends and ours."""
        urgent = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
        self._act_on_signals({number: act for number, act in self._actions().items() if number in urgent})
        super()._begin(bound)
        self._memory.limit(self._settings.daemon.max_worker_memory)

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
            lent: what on.
            own: sockets that are the supervisor's alone.
            balance, place, number, channel, signals: of the worker.
        """
        self._abandon([*own, *self._worker_listeners.beside(lent)])
        share = WorkerSlot(balance, place)
        return Worker(self, number, channel, share, signals, is_measuring=bool(own)).work(lent)

    def _abandon(self, own: Sequence[ServerSocket]) -> None:
        """Close what is the supervisor's own, without a word to what it shares with it (epoll(7))."""
        for listening in own:
            listening.socket.close()
        if self._controlling is not None:
            self._controlling.leave()
        elif self._control is not None:
            self._control.socket.close()
        if self._manager is not None:
            self._manager.close()
        self._connections.leave()
        self._generations.abandon()
        self._loop.leave()

    # ---- told, and asked

    def _reopen_log(self) -> None:
        super()._reopen_log()
        self._worker_pool.send(signal.SIGUSR1)

    def _apply(self, settings: Settings) -> None:
        super()._apply(settings)
        self._memory.limit(settings.daemon.max_worker_memory)
        share = _share(settings).daemon
        words = {"stop_timeout": share.stop_timeout, "max_memory": share.max_memory, "level": share.log.level}
        members = [one for one in self._worker_pool if one.is_ready and not one.is_retired]
        self._worker_pool.ask("apply", members, words=words)

    def _verbs(self) -> dict[str, Verb]:
        verbs: dict[str, Verb] = {
            "status": self._status_of_all,
            "connections": self._connections_of_all,
            "close": self._close_one,
            "log-level": self._log_level_of_all,
        }
        return super()._verbs() | verbs

    def _page(self, path: str) -> Page | LaterPage | None:
        if path not in PAGES_WITH_NUMBERS:
            return super()._page(path)
        return lambda then: self._worker_listeners.look(lambda: then(self._pages.page(path)))

    def _usage_of_others(self) -> Mapping[str, float]:
        return self._worker_listeners.usage

    def _status_of_all(self, words: Words) -> object:
        answer = Deferred()
        self._worker_listeners.look(lambda: answer.settle(ControlResponse(self._status_of(words))))
        return answer

    def _status_of(self, words: Words) -> object:
        workers = [
            {
                "worker": member.number,
                "pid": member.pid,
                "seconds": round(self._loop.clock() - member.began, 3),
                "connections": self._worker_listeners.connections_of(member),
                "memory": memory_of(member.pid) or member.memory,
                "accepts": not member.is_retired,
                "answers": member.is_ready and not self._worker_listeners.is_silent(member),
            }
            for member in self._worker_pool
        ]
        return {**self._asked.status(words), "workers": workers}

    def _connections_of_all(self, _words: Words) -> object:
        answer = Deferred()

        def answered(results: Results) -> None:
            rows = [
                row | {"id": member.number * OF_A_WORKER + row["id"], "worker": member.number}
                for member, table in sorted(results, key=lambda one: one[0].number)
                for row in table
            ]
            answer.settle(ControlResponse(rows))

        self._worker_pool.ask("connections", then=answered)
        return answer

    def _close_one(self, words: Words) -> object:
        id = words["id"]
        number, own = divmod(id, OF_A_WORKER)
        answer = Deferred()

        def answered(results: Results) -> None:
            error = f"no connection {id}; sockctl connections lists them"
            answer.settle(
                ControlResponse(results[0][1]) if results else ControlResponse(error=error, exit_code=EX_USAGE)
            )

        self._worker_pool.ask(
            "close", [one for one in self._worker_pool if one.number == number and one.is_ready], answered, {"id": own}
        )
        return answer

    def _log_level_of_all(self, words: Words) -> object:
        result = self._asked.verbs()["log-level"](words)
        self._worker_pool.ask("log-level", words=words)
        return result

    def _count(self) -> int:
        self._worker_listeners.look()  # for the next time
        return self._worker_listeners.connections

    # ---- stop

    def _stop_at_once(self) -> None:
        self._worker_pool.replace_no_more()  # they have been told as well (stop_bound.c), and end
        super()._stop_at_once()

    def _drain(self) -> None:
        """End the workers in order, then what the supervisor serves itself."""
        self._is_draining = True
        seconds = self._settings.daemon.stop_timeout
        logger.info("stopping workers", extra={"event": {"workers": len(self._worker_pool)}})
        self._notifier.stopping("stopping", seconds + STOP_MARGIN_SECONDS)
        self._stopping = True
        self._bound.within(seconds + STOP_MARGIN_SECONDS)
        self._worker_listeners.shut()
        first = signal.SIGQUIT if self._at_once else signal.SIGTERM
        self._worker_pool.end(first, seconds + STOP_MARGIN_SECONDS, lambda: self._at_once)
        super()._drain()


class Worker(Daemon):
    """One of the processes that serve: it goes on with what its supervisor has made.

    Args:
        supervisor: whose process this was, until it was forked.
        number: of the worker, for its log.
        channel: on which the supervisor asks; ours from now on.
        share: of the connections.
        signals: of this process.
        is_measuring: whether anybody is told how long handlers take.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        number: int,
        channel: socket.socket,
        share: WorkerSlot,
        signals: Signals,
        *,
        is_measuring: bool,
    ) -> None:
        before = supervisor._context
        vars(self).update(vars(supervisor))
        self._settings = _share(supervisor._settings)
        self._context = StartContext(ready=lambda _: None, trace=before.trace, let_go=before.let_go)
        self._signals, self._bound = signals, signals.bound
        self._parent = supervisor._parent
        self._generations = Lineage(self._settings.daemon, self._context)
        self._generations.files = supervisor._generations.files
        self._passed = InheritedSockets(Inherited())
        self._control = self._manager = None
        self._dropped = supervisor._dropped
        self._number = number
        self._channel = channel
        self._share = share
        self._is_measuring = is_measuring
        self._is_ready = False

    def _tools(self) -> Runtime:
        return replace(super()._tools(), accepts_a_turn=1, is_ahead=self._is_ahead)

    def work(self, opened: Sequence[Opened]) -> int:
        """Serve until told to stop; return the exit code."""
        self._log.addFilter(self._mark)
        self._bound.tell(self._log)
        self._allow_stop(self._settings)
        sockets = [one.socket.fileno() for _, one, _ in opened]
        if not self._bound.orphaned(sockets, self._parent):
            return EX_OSERR  # it died in this moment
        self._loop_class = loop_class(asyncio=any(needs_asyncio(one.service) for _, _, one in opened))
        shared = [(address, replace(one, path=None, is_ours=False), what) for address, one, what in opened]
        try:
            with ExitStack() as stack:
                self._serve(Unprivileged(self._log, shared, self._dropped), stack)
        except SockdError as error:
            self._fail(str(error), error.exit_code)
            return error.exit_code
        except BaseException as error:
            logger.critical("ended by a defect", exc_info=True)
            self._fail(f"{type(error).__name__}: {error}", EX_OSERR)
            return EX_OSERR
        finally:
            self._log.flush()
        return EX_OK

    def _mark(self, record: logging.LogRecord) -> bool:
        event: object = getattr(record, "event", {})
        record.event = {**event, "worker": self._number} if isinstance(event, dict) else event
        return True

    def _fail(self, words: str, exit_code: int) -> None:
        if self._is_ready:
            logger.error("not serving", extra={"event": {"error": words}})
        else:
            self._channel.sendall(ControlResponse(error=words, exit_code=exit_code).encode())

    def _begin(self, bound: list[Opened]) -> None:
        """Have all that can fail done, and wait for the word to accept."""
        if self._is_measuring:
            self._serving.measure()
        with self._kept_from_handlers():  # in their startup hooks
            self._made = self._serving.prepare((*one, None) for one in bound)
        self._context.let_go()
        self._channel.sendall(ControlResponse(result={"memory": own_memory()}).encode())
        self._is_ready = True
        self._answering = ResponseChannel(self._channel, self._loop, self._answer, self._alone)

    def _drain(self) -> None:
        super()._drain()
        with suppress(OSError):  # the supervisor may have ended before
            self._answering.end_with(ControlResponse({LAST: self._numbers({})}))

    # ---- asked by the supervisor

    def _answer(self, line: bytes) -> ControlResponse:
        of_daemon = self._asked.verbs()
        verbs: dict[str, Verb] = {name: of_daemon[name] for name in ("connections", "close", "log-level")}
        verbs |= {"begin": self._accept, "numbers": self._numbers, "apply": self._apply_words}
        verbs |= {"retire": self._retire, "leave": self._leave, "memory": lambda _: own_memory()}
        return answer_to(line, verbs, self._loop.defects)

    def _is_ahead(self) -> bool:
        """Whether others have fewer connections."""
        return self._share.is_ahead(self._count())

    def _accept(self, _words: Words) -> object:
        self._share.begin()
        self._serving.start(self._made)
        return {}

    def _numbers(self, _words: Words) -> object:
        return ProcessStats.of(self._serving, self._pages.usage()).as_table()

    def _apply_words(self, words: Words) -> object:
        daemon = self._settings.daemon
        log = replace(daemon.log, level=words["level"])
        daemon = replace(daemon, stop_timeout=words["stop_timeout"], max_memory=words["max_memory"], log=log)
        self._apply(replace(self._settings, daemon=daemon))
        return {}

    def _retire(self, words: Words) -> object:
        """Accept no more on what others accept on from now on, and end with the last connection."""
        self._share.end()
        self._kept = frozenset(words["kept"])
        for served in self._serving.listeners:
            if str(served) in self._kept:
                served.listener.detach()
        self._look()
        return self._numbers({})

    def _look(self) -> None:
        self._loop.call_later(LOOK_SECONDS, self._look)  # first: a worker whose look fails would stay for ever
        serving = self._serving
        gone = not serving.draining and all(str(served) in self._kept for served in serving.listeners)
        idle = all(served.listener.is_idle for served in serving.every())
        if gone and idle and not self._count() and not self._is_at_work:
            self._loop.stop()

    def _leave(self, words: Words) -> object:
        """Take a listener out that is no more."""
        for served in list(self._serving.listeners):
            if str(served) == words["listener"]:
                self._reloading.drain(served)
        return {}

    def _alone(self) -> None:
        """Stop in order, for nobody would replace or stop us."""
        if not self._stopping:
            logger.error("the supervisor has ended")
            self._stop()


def _share(settings: Settings) -> Settings:
    """Return what one worker has of limits that hold for the whole daemon."""
    daemon, count = settings.daemon, settings.daemon.workers
    most, memory = ceil(daemon.max_connections / count), ceil(daemon.max_memory / count)
    daemon = replace(daemon, max_connections=most, max_memory=Size(memory), pre_drain=Duration(0))
    return replace(settings, daemon=daemon)


__all__ = ["Supervisor", "Worker"]
