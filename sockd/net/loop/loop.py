# SPDX-License-Identifier: MIT
"""The event loop: a selector, timers and a wake-up; it knows no connection and no service.

A key's data is the callback, called without arguments.  Handlers are guarded where they are called, so an exception of
a callback is a defect of sockd: it is reported, and costs the callback's own descriptor.  Its owner defines what that
means with `guarded`; a descriptor without such an owner rests for REST_SECONDS.  A callback runs only while its
registration that was found ready is still in place: an earlier callback of the same turn may have ended it, and the
number of its descriptor may be reused by then.

If many are ready, a turn has a time limit: the remaining callbacks are the first of the next turn, except urgent ones,
which run in each turn.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import logging
import math
import selectors
import socket
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sockd.lazy import lazily
from sockd.net.loop.defects import Defects

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    Callback = Callable[[], None]
    from sockd.net.loop import asyncio_loop
else:
    asyncio_loop = lazily("sockd.net.loop.asyncio_loop", only_with="asyncio")

logger = logging.getLogger("sockd.loop")

FAILURES = 100
"""Failures of the wait in a row after which it is considered permanently broken."""
FAILURE_PAUSE_SECONDS = 0.01
REST_SECONDS = 1.0
"""Rest of a descriptor whose callback has raised, and would raise again at once."""
TURN_SECONDS = 0.005
"""Time per turn for callbacks of descriptors, and as much for those of call_soon; the others wait for the next."""
FEW = 8
"""Callbacks of one turn that run before the clock is read: each has a limit of its own."""
MAX_WAIT_SECONDS = 24 * 3600.0
"""Of one turn; a timer may be due later, or never (math.inf).  asyncio's MAXIMUM_SELECT_TIMEOUT."""
MIN_COMPACTED = 64
"""Cancelled timers are removed from the heap when there are so many, and more of them than of others."""


class Timer:
    """A scheduled callback; cancel() cancels it.

    Attributes:
        when: by the loop's clock.
        callback: None once it was called or cancelled.
        when_cancelled: called when it is cancelled; None for nothing.
    """

    __slots__ = ("_loop", "callback", "when", "when_cancelled")

    def __init__(self, when: float, callback: Callback, loop: EventLoop) -> None:
        self.when = when
        self.callback: Callback | None = callback
        self.when_cancelled: Callable[[Timer], None] | None = None
        self._loop = loop

    def cancel(self) -> None:
        """Cancel it; harmless when it has been called."""
        if self.callback is not None:
            self.callback = None
            self._loop.timer_cancelled()
            if self.when_cancelled is not None:
                self.when_cancelled(self)


class _AbortFailedError(Exception):
    """The abort of a descriptor has failed as well: the only thing left is to stop watching it."""


class TurnObserver(Protocol):
    """Observes when the loop works; `turn` is odd then."""

    turn: int
    armed: bool
    report: Callable[[float, Mapping[str, str]], None]
    """Called while a turn takes too long, with its seconds and its place."""

    def arm(self) -> None:
        """The loop works again after a wait."""


class Closeable(Protocol):
    """An object of which a loop has one."""

    def close(self) -> None:
        """Be closed with the loop."""


class Leaves(Protocol):
    """Owns sockets."""

    def leave(self) -> None:
        """Close them, in a forked process, without a shutdown: the parent continues to use them."""


C = TypeVar("C", bound=Closeable)


class EventLoop:
    """Run callbacks when descriptors are ready, when their time comes, and soon.

    Args:
        selector: its keys' data are callbacks.
        clock: seconds, never going back.
        defects: gets the exceptions of callbacks; its own by default.

    Attributes:
        defects: see above.
        watch: told of every turn, None for nobody.
        observe: told how long each turn worked, in seconds; None for nobody.
        behind_turns: called behind each turn (sockd.net.loop.turns).
        unfinished: what had better come to its end before the loop does.
        keepers: of sockets that are no connection yet, or not one alone.
        serves_coroutines: whether there is asyncio's loop beside it.
    """

    serves_coroutines = False

    def __init__(
        self,
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
        defects: Defects | None = None,
    ) -> None:
        self._selector = selector
        self.clock = clock
        self.defects = defects or Defects(clock)
        self._timers: list[tuple[float, int, Timer]] = []
        self._cancelled = 0
        self._resting: dict[int, Timer] = {}
        self._urgent: set[int] = set()
        self._next = -1
        self._order = itertools.count()
        self._soon: deque[Callback] = deque()
        self._running = False
        self._failures = 0
        self._own: dict[Callable[[EventLoop], Closeable], Any] = {}
        self.behind_turns: list[Callback] = []
        self.unfinished: set[object] = set()
        self.keepers: weakref.WeakSet[Leaves] = weakref.WeakSet()
        self.watch: TurnObserver | None = None
        self.observe: Callable[[float], None] | None = None
        self._began = clock()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self.add_reader(self._reader.fileno(), self._woken, urgent=True)

    def close(self) -> None:
        """Close the wake-up and the loop's own objects; calls of other threads do nothing from now on."""
        for one in self._own.values():
            one.close()
        self.remove_reader(self._reader.fileno())
        self._reader.close()
        self._writer.close()

    def leave(self) -> None:
        """Close, in a forked process, what belongs to this loop; the parent continues to use it."""
        for one in list(self.keepers):
            one.leave()
        self._reader.close()
        self._writer.close()

    def _woken(self) -> None:
        with contextlib.suppress(OSError):  # what is left wakes again
            self._reader.recv(4096)

    def instance(self, kind: Callable[[EventLoop], C]) -> C:
        """Return this loop's own instance of a class, which is closed with it."""
        if kind not in self._own:
            self._own[kind] = kind(self)
        own: C = self._own[kind]
        return own

    def add_reader(self, fd: int, callback: Callback, *, urgent: bool = False) -> None:
        """Call back whenever the descriptor is readable.

        Args:
            urgent: in each turn, and before others: for what must be answered however many are ready.
        """
        self._register(fd, selectors.EVENT_READ, callback, urgent)

    def add_writer(self, fd: int, callback: Callback, *, urgent: bool = False) -> None:
        """Call back whenever the descriptor is writable; for one that is not read."""
        self._register(fd, selectors.EVENT_WRITE, callback, urgent)

    def _register(self, fd: int, events: int, callback: Callback, urgent: bool) -> None:
        self._rests_no_more(fd)
        self._selector.register(fd, events, callback)
        if urgent:
            self._urgent.add(fd)

    def remove_reader(self, fd: int) -> None:
        """Stop calling back; harmless when it was not watched."""
        self._rests_no_more(fd)
        self._urgent.discard(fd)
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def watch_fd(self, fd: int, events: int, callback: Callback, *, urgent: bool = False) -> None:
        """Call back whenever the descriptor is ready for one of the events.

        Args:
            events: selectors.EVENT_READ and EVENT_WRITE, instead of those of the last call; 0: stop calling back.
            urgent: as for add_reader().
        """
        if not events:
            self.remove_reader(fd)
        elif fd in self._selector.get_map():
            self._selector.modify(fd, events, callback)
        else:
            self._register(fd, events, callback, urgent)

    def call_soon(self, callback: Callback) -> None:
        """Call back once, in this turn or the next."""
        self._soon.append(callback)

    def call_soon_threadsafe(self, callback: Callback) -> None:
        """Call back once in the loop, from any thread."""
        self._soon.append(callback)
        with contextlib.suppress(OSError):  # full: it is awake; closed: nobody listens
            self._writer.send(b"\0")

    def call_later(self, delay: float, callback: Callback) -> Timer:
        """Call back once, `delay` seconds from now; math.inf: never.

        Raises:
            ValueError: delay is NaN, before and behind which no timer is.
        """
        timer = Timer(self.clock() + delay, callback, self)
        if math.isnan(timer.when):
            raise ValueError("delay: expected a number of seconds, not nan")
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        return timer

    def timer_cancelled(self) -> None:
        """Count a cancelled timer (for Timer); a heap of which most are cancelled is swept."""
        self._cancelled += 1
        if self._cancelled > MIN_COMPACTED and 2 * self._cancelled > len(self._timers):
            self._timers = [row for row in self._timers if row[2].callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def guarded(self, callback: Callback, abort: Callback) -> Callback:
        """Return a callback whose failure is reported, and then ends with `abort`.

        Args:
            callback: of a descriptor, a timer or call_soon().
            abort: closes the descriptor of the callback, at once; if that fails as well, the loop stops watching it.
        """
        return functools.partial(self._call_guarded, callback, abort)

    def _call_guarded(self, callback: Callback, abort: Callback) -> None:
        try:
            callback()
        except BaseException as error:
            self.defects.report(error)
            try:
                abort()
            except BaseException as another:
                self.defects.report(another)
                raise _AbortFailedError from None

    @property
    def is_busy(self) -> bool:
        """Whether a callback is due without a wait."""
        return bool(self._soon)

    @property
    def next_due(self) -> float | None:
        """When the next timer is due; None: there is none."""
        return min((when for when, _, timer in self._timers if timer.callback is not None), default=None)

    def stop(self) -> None:
        """Let run() return after this turn."""
        self._running = False

    def run(self) -> None:
        """Run until stop()."""
        self._running = True
        while self._running:
            self.run_once(None)

    def run_until_complete(self, coroutine: Coroutine[object, None, object]) -> None:
        """Run until a coroutine has ended, where the loop serves coroutines.

        Raises:
            RuntimeError: it does not.
        """
        coroutine.close()
        raise RuntimeError("only coroutine services (Service.session) can await a coroutine")

    def run_once(self, timeout: float | None) -> None:
        """Run one turn, waiting at most `timeout` seconds (None: until something happens)."""
        self._run_ready(self._wait(timeout))
        self._run_due()
        self._turn_over()

    def _turn_over(self) -> None:
        if self.watch is not None:
            self.watch.turn += 1
        if self.observe is not None:
            self.observe(self.clock() - self._began)
        if self.behind_turns:
            for look in list(self.behind_turns):
                self.attempt(look)

    def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait until the next timer at most; from here on the loop works."""
        if self._soon:
            timeout = 0
        elif self._timers:
            left = min(MAX_WAIT_SECONDS, max(0.0, self._timers[0][0] - self.clock()))
            timeout = left if timeout is None else min(timeout, left)
        ready = self._select(timeout)
        if self.observe is not None:
            self._began = self.clock()
        watch = self.watch
        if watch is not None:
            watch.turn += 1
            if not watch.armed:
                watch.arm()
        return ready

    def _run_ready(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        """Call back for the descriptors that are ready, except those whose registration has changed."""
        for key, _ in ready if len(ready) <= FEW else self._in_turn(ready):
            if key.fd < 0 or self._selector.get_map().get(key.fd) is key:  # negative: the selector's own
                try:
                    key.data()
                except _AbortFailedError:
                    self.remove_reader(key.fd)
                except BaseException as error:
                    self.defects.report(error)
                    self._suspend(key)

    def _in_turn(self, ready: list[tuple[selectors.SelectorKey, int]]) -> Iterator[tuple[selectors.SelectorKey, int]]:
        """Yield urgent ones, then the others while there is time, beginning with those left over from the last
        turn.
        """
        end = self.clock() + TURN_SECONDS
        others = []
        for one in ready:
            if one[0].fd < 0 or one[0].fd in self._urgent:
                yield one
            else:
                others.append(one)
        first = next((place for place, (key, _) in enumerate(others) if key.fd == self._next), 0)
        for place in range(first, first + len(others)):
            one = others[place % len(others)]
            if place > first and self.clock() >= end:
                self._next = one[0].fd
                return
            yield one

    def _suspend(self, key: selectors.SelectorKey) -> None:
        """Stop watching a descriptor for a while, unless its callback has done that itself."""
        if key.fd >= 0 and self._selector.get_map().get(key.fd) is key:
            self._selector.unregister(key.fd)
            self._resting[key.fd] = self.call_later(REST_SECONDS, functools.partial(self._resume, key))

    def _resume(self, key: selectors.SelectorKey) -> None:
        del self._resting[key.fd]
        self._selector.register(key.fd, key.events, key.data)

    def _rests_no_more(self, fd: int) -> None:
        """End a rest: the descriptor is watched again, or closes."""
        if fd in self._resting:
            self._resting.pop(fd).cancel()

    def _run_due(self) -> None:
        if self._timers:
            self._run_timers()
        count = len(self._soon)
        end = self.clock() + TURN_SECONDS if count > FEW else math.inf
        for _ in range(count):
            self.attempt(self._soon.popleft())
            if count > FEW and self.clock() >= end:
                return

    def attempt(self, callback: Callback) -> None:
        """Call back now; a failure is reported, and costs nothing else."""
        try:
            callback()
        except _AbortFailedError:
            pass  # it was reported
        except BaseException as error:
            self.defects.report(error)

    def _select(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait; a failure of the wait itself (such as ENOMEM) is survived unless it lasts.

        So is an exception of a signal handler that a service has installed (signal.alarm() as a time limit), or of
        PyThreadState_SetAsyncExc(), which comes when the service's own code has returned.
        """
        try:
            ready = self._selector.select(timeout)
        except Exception as error:
            self._failures += 1
            if self._failures > FAILURES:
                raise
            self._log_failure(error)
            time.sleep(FAILURE_PAUSE_SECONDS)  # the one thing that cannot be waited for in the selector
            return []
        self._failures = 0
        return ready

    def _log_failure(self, error: BaseException) -> None:
        is_kernels = type(error) is OSError  # else the traceback says who has raised it
        event = {"error": str(error) if is_kernels else type(error).__name__, "times": self._failures}
        logger.error("wait failed", exc_info=None if is_kernels else error, extra={"event": event})
        if self.watch is not None:
            self.watch.armed = False  # its timer may have been used for something else

    def _run_timers(self) -> None:
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._cancelled -= 1
            else:
                self.attempt(callback)


def loop_class(*, asyncio: bool) -> type[EventLoop]:
    """Return the class of loops that serve coroutines, or the one without asyncio."""
    if not asyncio:
        return EventLoop
    return asyncio_loop.AsyncioLoop
