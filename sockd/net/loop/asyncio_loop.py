# SPDX-License-Identifier: MIT
"""The event loop for coroutine services: asyncio's own loop, running on sockd's selector.

asyncio waits in `select()` of its selector.  Here that is a turn of sockd's loop: it flushes, waits, receives, frames
and runs sockd's callbacks, and returns asyncio's own keys.  So there is one wait and one thread, a coroutine that is
woken in a turn runs in it, and its output is sent before the next wait. A protocol object may use asyncio's loop, too
(`get_running_loop()`), as long as a service of this kind exists.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import threading
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from sockd import _sockbuf
from sockd.log.failure import end_copy
from sockd.log.rate_limit import LogLimit
from sockd.net.loop.loop import TURN_SECONDS, EventLoop
from sockd.net.loop.state_table import StateTable

if TYPE_CHECKING:
    import contextvars
    from collections import deque
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

    from _typeshed import FileDescriptorLike

    from sockd.net.loop.defects import Defects

    Ready = list[tuple[selectors.SelectorKey, int]]

logger = logging.getLogger("sockd.loop")

_sockbuf.add_line_types(_sockbuf)

LineDelivery = _sockbuf.LineDelivery
LineSource = _sockbuf.LineSource
LineWaiter = _sockbuf.LineWaiter
NextLine = _sockbuf.NextLine

_new = object.__new__
CLOSING_TURNS = 100
"""Time in which tasks cancelled at the end may clean up."""


class RunState(Enum):
    """Which of the two loops runs, and for how long."""

    NONE = "neither"
    ALONE = "sockd's runs its turns itself: asyncio's has had nothing to do yet"
    WANTED = "so it does, and a descriptor of asyncio's is ready: this turn is the last one"
    BOTH = "asyncio's runs, whose waits are the turns of sockd's, until stop()"
    TURN = "so it does, for one turn"
    APART = "asyncio's runs within a callback of sockd's, and waits for its own descriptors: clients wait"


RUN = StateTable(
    {
        RunState.NONE: (RunState.ALONE, RunState.BOTH, RunState.TURN),
        RunState.ALONE: (RunState.WANTED, RunState.NONE, RunState.APART),
        RunState.WANTED: (RunState.WANTED, RunState.NONE, RunState.APART),  # a callback may run turns of its own
        RunState.BOTH: (RunState.NONE, RunState.APART),
        RunState.TURN: (RunState.NONE, RunState.APART),
        RunState.APART: (RunState.ALONE, RunState.WANTED, RunState.BOTH, RunState.TURN),
    }
)
TURN = RunState.TURN
"""By a name of its own: this is asked in each turn."""


class _Shared(selectors.BaseSelector):
    """Lets asyncio register with sockd's selector, and wait by a turn of sockd's loop."""

    def __init__(self, selector: selectors.BaseSelector, turn: Callable[[float | None], Ready]) -> None:
        self._selector = selector
        self._turn = turn
        self.select = turn  # type: ignore[method-assign,assignment]  # itself: a call less in each turn

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Wait for asyncio's own descriptors alone: sockd's turn is in the middle."""
        self.select = self._select_own  # type: ignore[method-assign]
        try:
            yield
        finally:
            self.select = self._turn  # type: ignore[method-assign,assignment]

    def _select_own(self, timeout: float | None = None) -> Ready:
        keys = {key.fd: key for key in self._selector.get_map().values() if type(key.data) is tuple}
        with selectors.DefaultSelector() as own:
            for key in keys.values():
                own.register(key.fd, key.events)
            return [(keys[key.fd], events) for key, events in own.select(timeout)]

    def register(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        """Watch a descriptor."""
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Watch it no more."""
        return self._selector.unregister(fileobj)

    def modify(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        """Change what is waited for."""
        return self._selector.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> Ready:
        """Run a turn of sockd's loop; return what is asyncio's."""
        return self._turn(timeout)

    def close(self) -> None:
        """Nothing: the selector belongs to its maker."""

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        """Return the keys by file object or descriptor."""
        return self._selector.get_map()


class _Handle(asyncio.Handle):
    """asyncio's handle; its private parts are declared here."""

    __slots__ = ()
    _args: Sequence[object]
    _callback: Callable[..., object] | None
    _cancelled: bool
    _context: contextvars.Context
    _loop: asyncio.AbstractEventLoop
    _repr: str | None
    _source_traceback: list[object] | None


class CoroutineLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, except for signals, which wake the daemon's loop; its private parts are declared here."""

    _closed: bool
    _debug: bool
    _ready: deque[asyncio.Handle | LineWaiter]
    _scheduled: list[asyncio.TimerHandle]
    _thread_id: int | None
    get_debug: Callable[[], bool]  # made by set_debug()

    def call_soon(
        self, callback: Callable[..., object], *args: object, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Call back in this turn; as asyncio, but one call instead of five where a future wakes its task."""
        if context is None or self._debug or self._closed:
            return super().call_soon(callback, *args, context=context)
        handle = _new(_Handle)
        handle._context, handle._loop, handle._callback, handle._args = context, self, callback, args
        handle._cancelled, handle._repr, handle._source_traceback = False, None, None
        self._ready.append(handle)
        return handle

    def set_debug(self, enabled: bool) -> None:
        """Turn asyncio's debug mode on or off, which each future asks for: a call of C answers it."""
        super().set_debug(enabled)
        self.get_debug = bool(enabled).__bool__

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: object) -> None:
        """Refuse: asyncio would take over the wake-up of all signals.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("the daemon handles signals; for work at its end, use Service.shutdown")

    @property
    def ready(self) -> deque[asyncio.Handle | LineWaiter]:
        """The callbacks that wait for this turn, always the same object."""
        return self._ready

    @property
    def due_times(self) -> list[float]:
        """When its timers are due."""
        return [handle.when() for handle in self._scheduled if not handle.cancelled()]

    def pretend_running(self, is_running: bool) -> None:
        """Answer that it is running, or not, whoever asks it or asyncio."""
        asyncio._set_running_loop(self if is_running else None)
        self._thread_id = threading.get_ident() if is_running else None


class AsyncioLoop(EventLoop):
    """An EventLoop whose turns are asyncio's waits.

    Args:
        selector: of sockd.net.connection.selector; asyncio's descriptors are watched beside sockd's own.
        clock: seconds, never going back.
        defects: as for EventLoop.

    Attributes:
        asyncio: the loop of coroutines.
    """

    serves_coroutines = True

    def __init__(
        self,
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
        defects: Defects | None = None,
    ) -> None:
        super().__init__(selector, clock, defects)
        self._max_timeout: float | None = None
        self._run_state = RunState.NONE
        self._is_busy = False
        self._is_working = False
        self._until = 0.0
        self._stops = LogLimit(clock)
        self._shared = _Shared(selector, self._turn)
        self.asyncio = CoroutineLoop(self._shared)
        self.asyncio.time = clock  # type: ignore[method-assign]  # one clock, for tests that have one of their own
        self._theirs = self.asyncio.ready
        self.asyncio.set_exception_handler(_log)

    def close(self) -> None:
        """Cancel what still runs, let it clean up within a short time, and close both loops."""
        for _ in range(CLOSING_TURNS):
            tasks = asyncio.all_tasks(self.asyncio)
            if not tasks:
                break
            for task in tasks:
                if not task.cancelling():
                    task.cancel()
            self.run_once(0)
        self.asyncio.close()
        super().close()

    @property
    def is_busy(self) -> bool:
        """Whether a callback is due without a wait."""
        return self._is_busy or super().is_busy

    @property
    def next_due(self) -> float | None:
        """When the next timer is due, of sockd's or of asyncio's."""
        own = super().next_due
        return min([*self.asyncio.due_times, *([] if own is None else [own])], default=None)

    def run(self) -> None:
        """Run until stop()."""
        self._running = True
        self._run_alone()
        if self._running:
            self._run(RunState.BOTH)

    def _enter(self, state: RunState) -> None:
        self._run_state = RUN.step(self._run_state, state)

    def _run_alone(self) -> None:
        """Run until stop(), or until asyncio's loop has something to do."""
        loop = self.asyncio
        self._enter(RunState.ALONE)
        loop.pretend_running(True)
        try:
            while self._running and self._run_state is RunState.ALONE and not (loop._ready or loop._scheduled):
                self.run_once(None)
        finally:
            loop.pretend_running(False)
            self._enter(RunState.NONE)

    def _run_ready(self, ready: Ready) -> None:
        """Run sockd's callbacks, where asyncio's loop does not run: its own are still ready once it does."""
        if any(type(one[0].data) is tuple for one in ready):
            self._enter(RunState.WANTED)
            ready = [one for one in ready if type(one[0].data) is not tuple]
        super()._run_ready(ready)

    def create_future(self) -> asyncio.Future[object]:
        """Return a future of asyncio's loop, whose own methods ask a transport's loop for some."""
        return self.asyncio.create_future()

    def run_once(self, timeout: float | None) -> None:
        """Run one turn, waiting at most `timeout` seconds (None: until something happens)."""
        if self._run_state in (RunState.ALONE, RunState.WANTED):
            super().run_once(timeout)
            return
        self._max_timeout = timeout
        try:
            self._run(TURN)
        finally:
            self._max_timeout = None

    def run_until_complete(self, coroutine: Coroutine[object, None, object]) -> None:
        """Run until a coroutine has finished; raise its exception.

        Within a turn, as a hook at a reload, clients wait for it as they do for a function.
        """
        if self._run_state is not RunState.NONE:
            self._run_apart(coroutine)
            return
        self._running = True
        self._enter(RunState.BOTH)
        try:
            self.asyncio.run_until_complete(coroutine)
        finally:
            self._rest()

    def _run_apart(self, coroutine: Coroutine[object, None, object]) -> None:
        before, loop = self._run_state, self.asyncio
        self._enter(RunState.APART)
        loop.pretend_running(False)
        try:
            with self._shared.apart():
                loop.run_until_complete(coroutine)
        finally:
            loop.pretend_running(True)
            self._enter(before)

    def is_over(self) -> bool:
        """Return whether coroutines have used their time of this turn: those with data left continue in the next."""
        now = self.clock()
        if not self._until:  # the first question of the turn; the other half goes to those who have something left then
            self._until = now + TURN_SECONDS / 2
        return now >= self._until

    def _run(self, state: RunState) -> None:
        self._enter(state)
        try:
            while True:
                stopped = self._run_until_stopped()
                if state is TURN or not self._running:
                    return
                if stopped:  # other services share the loop
                    self._stops.log_limited(logger, logging.ERROR, "loop.stop() of a handler ignored", {}, key=None)
        finally:
            self._rest()

    def _run_until_stopped(self) -> bool:
        """Run asyncio's loop; False if a handler's task has ended it with an exception that asyncio does not catch."""
        try:
            self.asyncio.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            end_copy(error)
            logger.error("handler failed", exc_info=error)
            return False
        return True

    def _rest(self) -> None:
        self._enter(RunState.NONE)
        if self._is_working:
            self._is_working = False
            self._turn_over()

    def _turn(self, timeout: float | None) -> Ready:
        """Wait and run sockd's callbacks; asyncio runs its own, up to the next wait."""
        if self._is_working:
            self._turn_over()
        # What looks behind turns may have stopped the loop, or woken coroutines, when asyncio had chosen its timeout.
        if self._theirs or not (self._running or self._run_state is TURN):
            timeout = 0
        self._is_busy = timeout is not None and timeout <= 0
        if self._max_timeout is not None and (timeout is None or timeout > self._max_timeout):
            timeout = self._max_timeout
        ready = self._wait(timeout)
        self._is_working = True
        others: Ready = []
        if len(ready) > 1 or (ready and ready[0][0].fd >= 0):  # not the connections alone
            others = [one for one in ready if type(one[0].data) is tuple]  # (reader, writer), asyncio's own
            ready = [one for one in ready if type(one[0].data) is not tuple] if others else ready
        super()._run_ready(ready)
        if self._timers or self._soon:
            self._run_due()
        if not self._running or self._run_state is TURN:
            self.asyncio.stop()
        self._until = 0.0
        if self._theirs and not self.asyncio._debug:  # in debug mode asyncio's loop measures each
            self._run_theirs()
        return others

    def _run_theirs(self) -> None:
        """Run the callbacks that wait for this turn, up to the first that is not a plain one: asyncio's loop runs the
        others.  It calls a method for each.
        """
        ready = self._theirs
        for _ in range(len(ready)):
            handle = ready[0] if ready else None  # a callback may run turns of its own
            try:
                if type(handle) is LineWaiter:
                    ready.popleft()
                    handle._run()
                elif type(handle) is _Handle:
                    ready.popleft()
                    if (callback := handle._callback) is not None:  # not cancelled
                        handle._context.run(callback, *handle._args)
                else:
                    return
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                about = {"message": f"Exception in callback {handle!r}", "exception": error, "handle": handle}
                self.asyncio.call_exception_handler(about)
            handle = callback = None  # a traceback may keep this frame, and in it the task whose exception has it


def _log(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log what asyncio reports about failed tasks and callbacks of handlers that nothing awaits."""
    raised = context.get("exception")
    error = raised if isinstance(raised, BaseException) else None
    event = {"error": context.get("message", "")} | ({"task": repr(context["task"])} if "task" in context else {})
    logger.error("asyncio", exc_info=error, extra={"event": event})
