# SPDX-License-Identifier: MIT
"""Threads for handlers that block: a limited number, and their results for the loop.

The pool runs what it is given in the order of each source, and the sources in rotation; one source has three quarters
of the threads at most, so that its slow calls keep nobody else's from being served.  That no endless queue comes of
this is the part of those who give: a connection has one piece of work here at most and is not read meanwhile, and a
datagram socket is not read while it has its share of threads.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sockd.log.rate_limit import LogLimit
from sockd.net.loop.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from sockd.net.loop.loop import EventLoop

    Work = tuple[str, Callable[[], Any], Callable[[Any], None], Callable[[], None]]

T = TypeVar("T")

WEIGHT = 3
"""A source has so many times as many threads as are left for the others: three quarters of all."""

logger = logging.getLogger("sockd.handler")

SWITCH_INTERVAL_SECONDS = 0.00005
"""For sys.setswitchinterval, as long as there are threads: the loop releases the interpreter at each call into C
and waits that long to get it back from a handler that computes.  p99 of a function's replies beside such a handler,
on two cores: 10.6 ms with Python's own 5 ms, 3.3 to 4.4 with 0.5 ms, 0.5 to 2.3 with 0.1 ms, 0.4 to 0.5 with this.
"""


class ThreadPool:
    """Runs work in threads and hands its results to the loop.

    Args:
        size: threads at most; they are started when they are needed.
        loop: where results are handed over.
    """

    def __init__(self, size: int, loop: EventLoop) -> None:
        self._size = size
        self._loop = loop
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._running: dict[int, str] = {}
        self._shares = Shares(size, WEIGHT)
        self._queued: dict[Hashable, deque[Work]] = {}  # whose turn is first
        self._waiting: list[Callable[[], None]] = []
        self._interval = sys.getswitchinterval()
        self._log_limit = LogLimit(loop.clock)
        self.at_work = 0
        """Pieces of work whose results were not delivered yet."""

    def close(self) -> None:
        """Let threads end after their current work, without waiting for them."""
        for _ in self._threads:
            self._work.put(None)
        if self._threads:
            sys.setswitchinterval(self._interval)

    def is_full(self, source: Hashable) -> bool:
        """Tell whether another piece of work of a source would have to wait."""
        return bool(self._queued.get(source)) or not self._may(source)

    def _may(self, source: Hashable) -> bool:
        return not self._shares.is_full if source is None else self._shares.may(source)

    def when_free(self, callback: Callable[[], None]) -> None:
        """Call back once, when a result was delivered."""
        self._waiting.append(callback)

    def submit(
        self,
        service: str,
        work: Callable[[], T],
        done: Callable[[T], None],
        abort: Callable[[], None],
        source: Hashable = None,
    ) -> bool:
        """Run `work` in a thread, then `done` with what it returned in the loop.

        Args:
            service: of the work, for the log.
            work: raises nothing.
            done: called in the loop.
            abort: ends what the result is for, if done() fails; see EventLoop.guarded.
            source: for whom; None: this host, which has no share but all threads.

        Returns:
            False if there is no thread and none can be started; then nothing is done.
        """
        if len(self._threads) < min(self._size, self.at_work + 1):
            self._start()
        if not self._threads:
            return False
        self.at_work += 1
        self._queued.setdefault(source, deque()).append((service, work, done, abort))
        self._dispatch()
        return True

    def _dispatch(self) -> None:
        """Give threads what they may do, one piece of each source in turn."""
        while (source := next((one for one in self._queued if self._may(one)), self)) is not self:
            queued = self._queued.pop(source)
            service, work, done, abort = queued.popleft()
            if queued:
                self._queued[source] = queued  # behind the others
            self._shares.acquire(source)
            self._work.put((service, work, partial(self._done, source, done), abort))

    def _start(self) -> None:
        name = f"blocking-{len(self._threads)}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)  # a stop does not wait past its bound
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:  # EAGAIN of pthread_create(3): a limit on processes, or memory
            held_back = self._log_limit.admit("start")
            if held_back is not None:
                event = {"threads": len(self._threads), "error": str(error)}
                logger.error("no thread can be started", extra={"event": event})
            return
        if not self._threads:
            sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        self._threads.append(thread)

    def _run(self) -> None:
        own = threading.get_ident()
        while (given := self._work.get()) is not None:
            service, work, done, abort = given
            self._running[own] = service
            result = work()
            del self._running[own]
            self._loop.call_soon_threadsafe(self._loop.guarded(partial(done, result), abort))

    def _done(self, source: Hashable, done: Callable[[Any], None], result: object) -> None:
        self.at_work -= 1
        self._shares.give_back(source)
        self._dispatch()
        for callback in self._waiting:
            self._loop.call_soon(callback)
        self._waiting.clear()
        done(result)

    def log_unfinished(self) -> None:
        """Log the work that is still running."""
        frames = sys._current_frames()  # documented, for debuggers and the like
        for thread, service in list(self._running.items()):
            frame = frames.get(thread)
            event: dict[str, object] = {"service": service}
            if frame is not None:
                event["at"] = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
            logger.error("handler did not end in time", extra={"event": event})
