# SPDX-License-Identifier: MIT
"""Workers past `max_worker_memory`, `max_worker_requests` or `max_worker_age`, found and replaced one after the other.

The kernel is asked for the memory of a worker, so that one in an endless call is seen as well; after chroot(2),
without /proc, the worker reports it.  The interval depends on what was found: a worker that grows is checked each
second, others less and less often.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sockd.errors import SockdError
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockd.daemon.workers.listeners import WorkerListeners
    from sockd.daemon.workers.member import WorkerHandle
    from sockd.daemon.workers.pool import Results, WorkerPool
    from sockd.net.loop.loop import EventLoop
    from sockd.settings import DaemonSettings

logger = logging.getLogger("sockd.daemon")

SHORTEST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 16.0
"""Between two looks: what a leak of 10 MB/s makes of it is 160 MB."""
LONGEST_AGAIN_SECONDS = 60.0
"""Behind a successor that could not serve."""
NO_GROWTH_SHARE = 64
"""Who has grown by less than one in so many of the limit since the last look has not grown."""
_FIELDS = (b"VmRSS:", b"VmSwap:")
_KIB = 1024


def process_memory(process: int | str) -> int | None:
    """Return how many bytes a process uses, resident and swapped out; None if the kernel does not report it.

    Source: proc_pid_status(5).
    """
    try:
        with open(f"/proc/{process}/status", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) * _KIB for line in lines if line.startswith(_FIELDS))


def own_memory() -> int:
    """Return how many bytes this process uses; without /proc, the maximum so far (getrusage(2))."""
    own = process_memory("self")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB if own is None else own


@dataclass(frozen=True)
class WorkerLimits:
    """After which a worker is replaced: bytes of memory, requests (frames), seconds since its start; None: never."""

    memory: int | None = None
    requests: int | None = None
    age: float | None = None

    @classmethod
    def from_settings(cls, daemon: DaemonSettings) -> WorkerLimits:
        """Return those of a configuration."""
        return cls(daemon.max_worker_memory, daemon.max_worker_requests, daemon.max_worker_age)


class MemoryWatch:
    """Looks at the workers of a pool now and then, while there is a limit.

    Limits of requests and age are lower by up to JITTER for each worker, so that workers do not reach them together.

    Args:
        loop: of the supervisor.
        pool: whose workers.
        listeners: which have a worker accept no more.

    """

    def __init__(self, loop: EventLoop, pool: WorkerPool, listeners: WorkerListeners) -> None:
        self._loop = loop
        self._pool = pool
        self._listeners = listeners
        self._limit: int | None = None
        self._limits = WorkerLimits()
        self._pause = SHORTEST_PAUSE_SECONDS
        self._timer = loop.call_later(0, lambda: None)
        self._replacing: WorkerHandle | None = None
        self._has_reported = False
        self._again_at = 0.0
        self._again_pause = SHORTEST_PAUSE_SECONDS

    def limit(self, limits: WorkerLimits) -> None:
        """Have workers replaced that are past these limits from now on."""
        if limits == self._limits:
            return
        self._limits, self._limit, self._has_reported = limits, limits.memory, False
        self._timer.cancel()
        if limits != WorkerLimits():
            self._look_in(SHORTEST_PAUSE_SECONDS)

    def _look_in(self, seconds: float) -> None:
        self._pause = seconds
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._look_in(min(2 * self._pause, LONGEST_PAUSE_SECONDS))  # first: a look that fails is not the last one
        self._recycle()
        if self._limit is None:
            return
        found = {member: process_memory(member.pid) for member in self._pool if member.is_ready}
        self._judge((member, used) for member, used in found.items() if used is not None)
        if silent := [member for member, used in found.items() if used is None]:
            self._pool.ask("memory", silent, self._answered)

    def _recycle(self) -> None:
        """Replace who has served for long enough; the longest first."""
        limits = self._limits
        for member in sorted((one for one in self._pool if one.is_ready), key=lambda one: one.began):
            requests, seconds = self._listeners.worker_frames(member), self._loop.clock() - member.began
            event = {"worker": member.number, "pid": member.pid, "requests": requests, "seconds": round(seconds, 3)}
            for reason, limit, value in (("requests", limits.requests, requests), ("age", limits.age, seconds)):
                if limit is not None and value >= limit * member.share:
                    if member.accepts_clients and member.generation.has_room and self._is_next(member):
                        logger.info("worker has served for long enough, replacing it", extra={"event": event})
                        self._replace(member, reason)
                    break
        if limits.requests is not None:
            self._listeners.refresh()  # for the next time

    def _answered(self, results: Results) -> None:
        self._judge((member, used) for member, used in results if isinstance(used, int))

    def _judge(self, found: Iterable[tuple[WorkerHandle, int]]) -> None:
        limit = self._limit
        if limit is None:
            return
        for member, used in sorted(found, key=lambda one: one[1], reverse=True):
            if used - member.memory >= limit // NO_GROWTH_SHARE and self._pause > SHORTEST_PAUSE_SECONDS:
                self._timer.cancel()
                self._look_in(SHORTEST_PAUSE_SECONDS)
            member.memory = used
            if used > limit:
                self._exceeded(member, limit)

    def _exceeded(self, member: WorkerHandle, limit: int) -> None:
        event = {"worker": member.number, "pid": member.pid, "memory": member.memory, "max_worker_memory": limit}
        if not member.accepts_clients:
            self._end(member)
        elif member.first_memory > limit:
            if not self._has_reported:
                logger.error("a worker exceeds max_worker_memory from its start", extra={"event": event})
            self._has_reported = True
        elif self._is_next(member):
            logger.warning("worker exceeds max_worker_memory, replacing it", extra={"event": event})
            self._replace(member, "memory")

    def _is_next(self, member: WorkerHandle) -> bool:
        """Tell whether it is a worker's turn: one leaves at a time, and if a successor has died the next one waits."""
        replacing = self._replacing
        if replacing is not None and replacing in self._pool:
            if not replacing.accepts_clients or (replacing.successor is not None and replacing.successor in self._pool):
                return False
            self._replacing = None
            self._again_at = self._loop.clock() + self._again_pause
            self._again_pause = min(2 * self._again_pause, LONGEST_AGAIN_SECONDS)
        return self._loop.clock() >= self._again_at and self._pool.can_supersede(member)

    def _replace(self, member: WorkerHandle, reason: str) -> None:
        """Have a successor accept, then retire this one gracefully."""
        try:
            self._pool.supersede(member, partial(self._succeeded, member, reason))
        except SockdError as error:
            logger.error("worker did not start", extra={"event": {"error": str(error)}})
            return
        self._replacing = member

    def _succeeded(self, member: WorkerHandle, reason: str) -> None:
        self._pool.replaced[reason] += 1
        self._again_pause = SHORTEST_PAUSE_SECONDS
        if member in self._pool:
            self._listeners.retire(member, partial(self._end if reason == "memory" else self._leave, member))

    def _leave(self, member: WorkerHandle) -> None:
        """Let one exit with its last connection, whenever that is: others do not wait for it."""
        if self._replacing is member:
            self._replacing = None

    def _end(self, member: WorkerHandle) -> None:
        """Stop one gracefully, within stop_timeout (sockd.process.stop_bound), once."""
        if member in self._pool and member.stop():
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGTERM)


__all__ = ["MemoryWatch", "WorkerLimits", "own_memory", "process_memory"]
