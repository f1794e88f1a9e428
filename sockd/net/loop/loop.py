# SPDX-License-Identifier: MIT
"""The event loop: a selector, timers and a wake-up; it knows no connection and no service.

A key's data is the callback, called with nothing.  Handlers are guarded where they are called, so
whatever a callback raises is a defect of sockd: it is reported, and costs the callback's own
descriptor.  What that means the owner says with `guarded`; a descriptor that has no such owner rests for
REST_SECONDS.  A callback runs only while what it was found ready for is still registered:
an earlier callback of the same turn may have ended it, and its descriptor's number may be another's by then.

Where many are ready, a turn has a bound: those that were not called are the first of the next turn, but for what is
urgent, which is called in each.
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

from sockd.net.loop.defects import Defects

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    Callback = Callable[[], None]

logger = logging.getLogger("sockd.loop")

FAILURES = 100
"""Failures of the wait in a row after which something is broken for good."""
FAILURE_PAUSE_SECONDS = 0.01
REST_SECONDS = 1.0
"""For a descriptor whose callback has raised, and would raise again at once."""
TURN_SECONDS = 0.005
"""Of a turn for callbacks of descriptors, and as much for those that are to come soon; the others wait for the next."""
FEW = 8
"""Callbacks of one turn that are called without a look at the clock: each has a bound of its own."""
MIN_COMPACTED = 64
"""Cancelled timers are swept out of the heap when there are so many, and more of them than of others."""


class Timer:
    """A callback to come; cancel() takes it back.

    Attributes:
        when: by the loop's clock.
        callback: None once it was called or taken back.
        when_cancelled: told that it was taken back, for whoever keeps it; None for nobody.
    """

    __slots__ = ("_loop", "callback", "when", "when_cancelled")

    def __init__(self, when: float, callback: Callback, loop: EventLoop) -> None:
        self.when = when
        self.callback: Callback | None = callback
        self.when_cancelled: Callable[[Timer], None] | None = None
        self._loop = loop

    def cancel(self) -> None:
        """Take it back; harmless when it has been called."""
        if self.callback is not None:
            self.callback = None
            self._loop.timer_cancelled()
            if self.when_cancelled is not None:
                self.when_cancelled(self)


class _AbortFailedError(Exception):
    """What ends a descriptor has failed as well: nothing is left but to watch it no more."""


class TurnObserver(Protocol):
    """Is told when the loop works; `turn` is odd then."""

    turn: int
    armed: bool

    def arm(self) -> None:
        """The loop works again after a rest."""


class Closeable(Protocol):
    """Something that a loop has one of."""

    def close(self) -> None:
        """Be closed with the loop."""


class Leaves(Protocol):
    """Keeps sockets."""

    def leave(self) -> None:
        """Close them, in a process that was forked, without a word: the one it was forked from goes on with them."""


C = TypeVar("C", bound=Closeable)


class EventLoop:
    """Run callbacks when descriptors are ready, when their time comes, and soon.

    Args:
        selector: its keys' data are callbacks.
        clock: seconds, never going back.
        defects: told of what callbacks raise; its own by default.

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
        self._own: dict[Callable[[EventLoop], Any], Any] = {}
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
        """Close the wake-up, and what it has one of; other threads' calls do nothing from now on."""
        for one in self._own.values():
            one.close()
        self.remove_reader(self._reader.fileno())
        self._reader.close()
        self._writer.close()

    def leave(self) -> None:
        """Close, in a process that was forked, what is this loop's; the one it was forked from goes on with it."""
        for one in list(self.keepers):
            one.leave()
        self._reader.close()
        self._writer.close()

    def _woken(self) -> None:
        with contextlib.suppress(OSError):  # what is left wakes again
            self._reader.recv(4096)

    def one_of(self, kind: Callable[[EventLoop], C]) -> C:
        """Return this loop's own instance of something that is made from a loop, and closed with it."""
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
        """Call back no more; harmless when it was not watched."""
        self._rests_no_more(fd)
        self._urgent.discard(fd)
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def watch_fd(self, fd: int, events: int, callback: Callback, *, urgent: bool = False) -> None:
        """Call back whenever the descriptor is ready for one of the events.

        Args:
            events: selectors.EVENT_READ and EVENT_WRITE, in place of those of the last call; 0: call back no more.
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
        """Call back once in the loop, from whichever thread this is called."""
        self._soon.append(callback)
        with contextlib.suppress(OSError):  # full: it is awake; closed: nobody listens
            self._writer.send(b"\0")

    def call_later(self, delay: float, callback: Callback) -> Timer:
        """Call back once, `delay` seconds from now."""
        timer = Timer(self.clock() + delay, callback, self)
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
        """Return a callback whose failure is reported, and then costs what `abort` ends.

        Args:
            callback: of a descriptor, a timer or call_soon().
            abort: ends the descriptor that the callback is about, at once; where that fails as well, the loop
                watches the descriptor no more.
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
        """Whether something is to be called without a wait."""
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

    def run_until_complete(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run until a coroutine has ended, where the loop serves coroutines.

        Raises:
            RuntimeError: it does not.
        """
        coroutine.close()
        raise RuntimeError("a coroutine can be awaited only where a service is a coroutine (Service.session)")

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
        """Wait, no longer than until something is due; the loop works from here on."""
        if self._soon:
            timeout = 0
        elif self._timers:
            left = max(0.0, self._timers[0][0] - self.clock())
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
        """Call back for the descriptors that are ready, but for those that are not registered any more as they were."""
        registered = self._selector.get_map().get
        for key, _ in ready if len(ready) <= FEW else self._in_turn(ready):
            if key.fd < 0 or registered(key.fd) is key:  # negative: the selector's own
                try:
                    key.data()
                except _AbortFailedError:
                    self.remove_reader(key.fd)
                except BaseException as error:
                    self.defects.report(error)
                    self._suspend(key)

    def _in_turn(self, ready: list[tuple[selectors.SelectorKey, int]]) -> Iterator[tuple[selectors.SelectorKey, int]]:
        """Yield what is urgent, then the others as long as there is time, beginning with who had to wait last time."""
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
        """Watch a descriptor no more for a while, unless its callback has ended that itself."""
        if key.fd >= 0 and self._selector.get_map().get(key.fd) is key:
            self._selector.unregister(key.fd)
            self._resting[key.fd] = self.call_later(REST_SECONDS, functools.partial(self._resume, key))

    def _resume(self, key: selectors.SelectorKey) -> None:
        del self._resting[key.fd]
        self._selector.register(key.fd, key.events, key.data)

    def _rests_no_more(self, fd: int) -> None:
        """Forget a rest: the descriptor is watched anew, or is to be closed."""
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
        """Call back now; a failure is reported, and costs nothing else: what comes behind is done."""
        try:
            callback()
        except _AbortFailedError:
            pass  # it was reported
        except BaseException as error:
            self.defects.report(error)

    def _select(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait; a failure of the wait itself (ENOMEM, say) is survived as long as it does not last."""
        try:
            ready = self._selector.select(timeout)
        except OSError as error:
            self._failures += 1
            if self._failures > FAILURES:
                raise
            logger.error("wait failed", extra={"event": {"error": str(error), "times": self._failures}})
            time.sleep(FAILURE_PAUSE_SECONDS)  # the one thing that cannot be waited for in the selector
            return []
        self._failures = 0
        return ready

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
    """Return the class of loops that serve coroutines, or the one that needs nothing of asyncio."""
    if not asyncio:
        return EventLoop
    from sockd.net.loop.asyncio_loop import AsyncioLoop

    return AsyncioLoop
