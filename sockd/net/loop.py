"""The event loop: a selector, timers and a wake-up; it knows no connection and no service.

A key's data is the callback, called with nothing.  Callbacks that raise are a
defect of sockd and end the loop; handlers are guarded where they are called.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import selectors
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

logger = logging.getLogger("sockd.loop")

FAILURES = 100
"""Failures of the wait in a row after which something is broken for good."""
FAILURE_PAUSE_SECONDS = 0.01


class Timer:
    """A callback to come; cancel() takes it back."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Take it back; harmless when it has been called."""
        self.callback = None


class Watch(Protocol):
    """Is told when the loop works; `turn` is odd then."""

    turn: int
    armed: bool

    def arm(self) -> None:
        """The loop works again after a rest."""


class Closes(Protocol):
    """Something that a loop has one of."""

    def close(self) -> None:
        """Be closed with the loop."""


C = TypeVar("C", bound=Closes)


class EventLoop:
    """Run callbacks when descriptors are ready, when their time comes, and soon.

    Args:
        selector: its keys' data are callbacks.
        clock: seconds, never going back.

    Attributes:
        watch: told of every turn, None for nobody.
        observe: told how long each turn worked, in seconds; None for nobody.
        serves_coroutines: whether there is asyncio's loop beside it.
    """

    serves_coroutines = False

    def __init__(self, selector: selectors.BaseSelector, clock: Callable[[], float]) -> None:
        self._selector = selector
        self.clock = clock
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._soon: deque[Callable[[], None]] = deque()
        self._running = False
        self._failures = 0
        self._own: dict[Callable[[EventLoop], Any], Any] = {}
        self.watch: Watch | None = None
        self.observe: Callable[[float], None] | None = None
        self._began = clock()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self.add_reader(self._reader.fileno(), self._woken)

    def close(self) -> None:
        """Close the wake-up, and what it has one of; other threads' calls do nothing from now on."""
        for one in self._own.values():
            one.close()
        self.remove_reader(self._reader.fileno())
        self._reader.close()
        self._writer.close()

    def leave(self) -> None:
        """Close, in a process that was forked, what is this loop's; the one it was forked from goes on with it."""
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

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever the descriptor is readable."""
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def add_writer(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever the descriptor is writable; for one that is not read."""
        self._selector.register(fd, selectors.EVENT_WRITE, callback)

    def remove_reader(self, fd: int) -> None:
        """Call back no more; harmless when it was not watched."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def watch_fd(self, fd: int, events: int, callback: Callable[[], None]) -> None:
        """Call back whenever the descriptor is ready for one of the events.

        Args:
            events: selectors.EVENT_READ and EVENT_WRITE, in place of those of the last call; 0: call back no more.
        """
        if not events:
            self.remove_reader(fd)
        elif fd in self._selector.get_map():
            self._selector.modify(fd, events, callback)
        else:
            self._selector.register(fd, events, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back once, in this turn or the next."""
        self._soon.append(callback)

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        """Call back once in the loop, from whichever thread this is called."""
        self._soon.append(callback)
        with contextlib.suppress(OSError):  # full: it is awake; closed: nobody listens
            self._writer.send(b"\0")

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call back once, `delay` seconds from now."""
        timer = Timer(self.clock() + delay, callback)
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        return timer

    @property
    def is_busy(self) -> bool:
        """Whether something is to be called without a wait."""
        return bool(self._soon)

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
        for key, _ in self._wait(timeout):
            key.data()
        self._run_due()
        self._turn_over()

    def _turn_over(self) -> None:
        if self.watch is not None:
            self.watch.turn += 1
        if self.observe is not None:
            self.observe(self.clock() - self._began)

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

    def _run_due(self) -> None:
        if self._timers:
            self._run_timers()
        for _ in range(len(self._soon)):
            self._soon.popleft()()

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
            if callback is not None:
                callback()


def loop_class(*, asyncio: bool) -> type[EventLoop]:
    """Return the class of loops that serve coroutines, or the one that needs nothing of asyncio."""
    if not asyncio:
        return EventLoop
    from sockd.net.asyncio_loop import AsyncioLoop

    return AsyncioLoop
