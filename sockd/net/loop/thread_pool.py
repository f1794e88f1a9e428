# SPDX-License-Identifier: MIT
"""Threads for what blocks: a limited number, and their results for the loop.

A pool runs what it is given in the order of each source, and the sources in rotation; a source has a share of the
threads (sockd.net.loop.shares), so that its slow calls keep nobody else's from being served.  That no endless queue
comes of this is the part of those who give: a connection has one piece of work here at most and is not read meanwhile,
a datagram socket is not read while it has its share of threads, and BlockingCalls has waiting places and deadlines.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sockd.log.rate_limit import LogLimit
from sockd.net.loop.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from sockd.net.loop.loop import EventLoop, Timer

T = TypeVar("T")

WEIGHT = 3
"""Of handlers' sources: each has so many times as many threads as are left for the others, three quarters of all."""

logger = logging.getLogger("sockd.handler")

SWITCH_INTERVAL_SECONDS = 0.00005
"""For sys.setswitchinterval, as long as there are threads: the loop releases the interpreter at each call into C
and waits that long to get it back from a handler that computes.  p99 of a function's replies beside such a handler,
on two cores: 10.6 ms with Python's own 5 ms, 3.3 to 4.4 with 0.5 ms, 0.5 to 2.3 with 0.1 ms, 0.4 to 0.5 with this.
"""


class Work:
    """A piece of work, as it waits and as it runs.

    Attributes:
        service: of the work, for the log.
        run: called in a thread; raises nothing.
        done: called in the loop with what it returned.
        abort: ends what the result is for, if done() fails; see EventLoop.guarded.
        begun: called in the loop, when a thread gets it.
        is_wanted: false once nobody wants the result: then it does not begin.
    """

    __slots__ = ("abort", "begun", "done", "is_wanted", "run", "service")

    def __init__(
        self, service: str, run: Callable[[], T], done: Callable[[T], None], abort: Callable[[], None] = lambda: None
    ) -> None:
        self.service = service
        self.run: Callable[[], object] = run
        self.done: Callable[..., None] = done
        self.abort = abort
        self.begun: Callable[[], None] = lambda: None
        self.is_wanted = True


class ThreadPool:
    """Runs work in threads and hands its results to the loop.

    Args:
        size: threads at most; they are started when they are needed.
        loop: where results are handed over.
        name: of the threads.
        weight: of a source's share (sockd.net.loop.shares).
        computes: whether the work is Python's own code, which the loop then takes turns with more often.
    """

    def __init__(
        self, size: int, loop: EventLoop, name: str = "blocking", *, weight: int = WEIGHT, computes: bool = True
    ) -> None:
        self._size = size
        self._loop = loop
        self._name = name
        self._work: queue.SimpleQueue[tuple[Hashable, Work] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._running: dict[int, str] = {}
        self._shares = Shares(size, weight)
        self._queued: dict[Hashable, deque[Work]] = {}  # whose turn is first
        self._resting: dict[Hashable, Timer] = {}
        self._waiting: list[Callable[[], None]] = []
        self._interval = sys.getswitchinterval() if computes else None
        self._log_limit = LogLimit(loop.clock)
        self.at_work = 0
        """Pieces of work whose results were not delivered yet."""

    def close(self) -> None:
        """Let threads end after their current work, without waiting for them; later work gets threads of its own."""
        for _ in self._threads:
            self._work.put(None)
        if self._threads and self._interval is not None:
            sys.setswitchinterval(self._interval)
        self._threads = []
        for timer in self._resting.values():
            timer.cancel()
        self._resting.clear()

    def is_full(self, source: Hashable) -> bool:
        """Tell whether another piece of work of a source would have to wait."""
        return bool(self._queued.get(source)) or not self._may(source)

    def _may(self, source: Hashable) -> bool:
        if source in self._resting:
            return False
        return not self._shares.is_full if source is None else self._shares.may(source)

    def when_free(self, callback: Callable[[], None]) -> None:
        """Call back once, when a result was delivered."""
        self._waiting.append(callback)

    def rest(self, source: Hashable, seconds: float) -> None:
        """Begin no work of a source for so long."""
        if source in self._resting:
            self._resting[source].cancel()
        self._resting[source] = self._loop.call_later(seconds, partial(self._rest_over, source))

    def _rest_over(self, source: Hashable) -> None:
        del self._resting[source]
        self._dispatch()

    def submit(self, work: Work, source: Hashable = None) -> bool:
        """Run a piece of work in a thread, then hand its result over in the loop.

        Args:
            source: for whom; None: this host, which has no share but all threads.

        Returns:
            False if there is no thread and none can be started; then nothing is done.
        """
        if len(self._threads) < min(self._size, self.at_work + 1):
            self._start()
        if not self._threads:
            return False
        self.at_work += 1
        self._queued.setdefault(source, deque()).append(work)
        self._dispatch()
        return True

    def _dispatch(self) -> None:
        """Give threads what they may do, one piece of each source in turn."""
        while (found := self._next()) is not None:
            (source,) = found
            queued = self._queued.pop(source)
            work = queued.popleft()
            if queued:
                self._queued[source] = queued  # behind the others
            self._shares.acquire(source)
            work.begun()
            self._work.put((source, work))

    def _next(self) -> tuple[Hashable] | None:
        """Return whose turn it is (None is a source as well), and drop the work that nobody wants on the way there."""
        found, empty = None, []
        for source, queued in self._queued.items():
            while queued and not queued[0].is_wanted:
                queued.popleft()
                self.at_work -= 1
            if not queued:
                empty.append(source)
            elif self._may(source):
                found = (source,)
                break
        for source in empty:
            del self._queued[source]
        return found

    def _start(self) -> None:
        name = f"{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)  # a stop does not wait past its bound
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:  # EAGAIN of pthread_create(3): a limit on processes, or memory
            event = {"threads": len(self._threads), "error": str(error)}
            self._log_limit.log_limited(logger, logging.ERROR, "no thread can be started", event, key="start")
            return
        if not self._threads and self._interval is not None:
            sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        self._threads.append(thread)

    def _run(self) -> None:
        own = threading.get_ident()
        while (given := self._work.get()) is not None:
            source, work = given
            self._running[own] = work.service
            result = work.run()
            del self._running[own]
            self._loop.call_soon_threadsafe(self._loop.guarded(partial(self._done, source, work, result), work.abort))

    def _done(self, source: Hashable, work: Work, result: object) -> None:
        self.at_work -= 1
        self._shares.give_back(source)
        for callback in self._waiting:
            self._loop.call_soon(callback)
        self._waiting.clear()
        try:
            work.done(result)
        finally:
            self._dispatch()  # behind it, for it may have its source rest

    def log_unfinished(self) -> None:
        """Log the work that is still running."""
        frames = sys._current_frames()  # documented, for debuggers and the like
        for thread, service in list(self._running.items()):
            frame = frames.get(thread)
            event: dict[str, object] = {"service": service}
            if frame is not None:
                event["at"] = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
            logger.error("handler did not end in time", extra={"event": event})
