# SPDX-License-Identifier: MIT
"""The end of a daemon: stop listening, answer what was accepted, close gracefully, within a time limit.

It is a sequence of states, and none is left backwards: SERVING, NOT_READY (it serves still, but not for long:
`pre_drain`), STOPPING.  A second request makes it urgent, which is no state: it cuts the waits of the one it is in.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING

from sockd.daemon.drain import Drain
from sockd.daemon.programs import KILLED_SECONDS
from sockd.errors import TemporaryFault
from sockd.net.loop.state_table import StateTable
from sockd.process.children import KILL_SECONDS

if TYPE_CHECKING:
    from sockd.daemon.effective import EffectiveSettings
    from sockd.daemon.listeners import ListenerRegistry
    from sockd.daemon.succession import Succession
    from sockd.daemon.worker_processes import WorkerProcesses
    from sockd.process.sd_notify import Notifier
    from sockd.process.stop_bound import StopBound

logger = logging.getLogger("sockd.daemon")


class ServingState(Enum):
    """How far a daemon has come, by the name that sockctl and the pages show."""

    SERVING = "serving"
    NOT_READY = "not-ready"
    STOPPING = "stopping"


NEXT = StateTable(
    {
        ServingState.SERVING: {ServingState.NOT_READY, ServingState.STOPPING},
        ServingState.NOT_READY: {ServingState.STOPPING},
        ServingState.STOPPING: (),
    }
)
"""What may follow."""


class Shutdown:
    """Stops a daemon on request.

    Args:
        settings: in effect.
        serving: what is stopped.
        succession: notified that there will be no next process.
        notifier: of the manager.
        bound: limits the time.
        workers: other processes that serve.

    Attributes:
        state: how far it has come.
        is_urgent: it is to be fast.
    """

    def __init__(
        self,
        settings: EffectiveSettings,
        serving: ListenerRegistry,
        succession: Succession,
        notifier: Notifier,
        bound: StopBound,
        workers: WorkerProcesses,
    ) -> None:
        self._settings = settings
        self._serving = serving
        self._tools = serving.tools
        self._succession = succession
        self._notifier = notifier
        self._bound = bound
        self._workers = workers
        self.state = ServingState.SERVING
        self.is_urgent = False

    @property
    def is_begun(self) -> bool:
        """Whether a stop was requested."""
        return self.state is not ServingState.SERVING

    # # ---- requested

    def stop(self) -> None:
        """Stop gracefully, after pre_drain; the second time, at once."""
        if self.is_begun:
            self.stop_at_once()
            return
        self.state = NEXT.step(self.state, ServingState.NOT_READY)
        self._serving.is_ending = True
        self._succession.give_up("the daemon is stopping")
        self._serving.give_up(TemporaryFault("the daemon is stopping"))
        daemon = self._settings.daemon
        self._bound.within(daemon.pre_drain + daemon.stop_timeout)
        self._notifier.stopping("stopping", daemon.pre_drain + daemon.stop_timeout)
        if not daemon.pre_drain:
            self._tools.loop.stop()
            return
        logger.info("not ready any more, still serving", extra={"event": {"seconds": daemon.pre_drain}})
        self._tools.loop.call_later(daemon.pre_drain, self._tools.loop.stop)

    def stop_at_once(self) -> None:
        """Stop without waiting."""
        self._serving.is_ending = True
        self._workers.replace_no_more()  # they have been told as well (stop_bound.c), and end
        self.is_urgent = True
        self._bound.at_once()
        self._tools.loop.stop()

    # ---- carried out

    def drain(self) -> None:
        """Close the listeners, answer what was accepted, drain, within stop_timeout; the loop has stopped."""
        was_begun = self.is_begun
        self.state = NEXT.step(self.state, ServingState.STOPPING)
        was_begun |= self._workers.end(lambda: self.is_urgent)
        self._succession.let_go()
        tools, seconds = self._tools, self._settings.daemon.stop_timeout
        self._bound.within(seconds)
        programs = {"programs": len(tools.executor)} if len(tools.executor) else {}
        logger.info("stopping", extra={"event": {"connections": len(tools.connections), **programs}})
        if not was_begun:
            self._notifier.stopping("stopping", seconds)
        end = tools.loop.clock() + seconds
        self._serving.close_listeners()
        if not self.is_urgent:
            self._succession.put_away()
        left = self._drained(seconds, end)
        self._end_programs()
        self._bound.within(end - tools.loop.clock())  # for hooks, threads, and what runs at Python's end
        tools.forwarding.end()
        left = max(left, len(tools.connections))
        logger.info("stopped", extra={"event": {"connections_left": left} if left else {}})

    def _drained(self, seconds: float, end: float) -> int:
        """Have connections end, then what works for them; return how many were not done in time."""
        tools = self._tools
        drain = Drain(tools.connections, tools.loop, None, self._serving, seconds, tools.loop.stop)
        if not self.is_urgent:
            tools.loop.call_soon(drain.start)
            tools.loop.run()
        while not self.is_urgent and tools.loop.clock() < end and tools.is_at_work:
            tools.loop.run_once(max(0.0, end - tools.loop.clock()))
        tools.connections.groups.log_unfinished()
        tools.pool.log_unfinished()
        return drain.left

    def _end_programs(self) -> None:
        executor = self._tools.executor
        if len(executor):
            self._bound.within(KILL_SECONDS + KILLED_SECONDS)
            self._notifier.stopping("terminating programs", KILL_SECONDS + KILLED_SECONDS)
        executor.end(lambda: self.is_urgent)


__all__ = ["NEXT", "ServingState", "Shutdown"]
