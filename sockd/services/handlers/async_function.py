# SPDX-License-Identifier: MIT
"""Serves frames by a coroutine function: `async def f(line)` or `async def f(line, connection)`.

Frames of one connection are answered in their order.  `max_in_flight` of them run at once; with 1, one task handles
all, and waits for the next ones, unless the function has the connection, which it may give to another protocol.  The
number of waiting frames is limited, because the connection is not read meanwhile; if the function has the connection,
it is not read at all while a frame runs, because its framing may change.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from types import CoroutineType
from typing import TYPE_CHECKING, cast

from sockd.log.failure import waiting_line
from sockd.services.handlers.connection import ConnectionFactory, PerConnectionHandler
from sockd.services.handlers.coroutine import log_unfinished
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection.connection import Connection
    from sockd.net.connection.events import FrameProtocol
    from sockd.net.loop.asyncio_loop import AsyncioLoop
    from sockd.services.api import Reply
    from sockd.services.handlers.transport import Transport
    from sockd.services.spec import SinkTools
    from sockd.wire.framing import Frame

MAX_WAITING = 256
"""Limit of waiting frames above which the connection is not read; it is read again at half of them."""


class AsyncAnswers:
    """The receiver of one connection: its frames that are worked on, and those that wait.

    Args:
        handler: whose frames these are.
    """

    __slots__ = (
        "_connection", "_end", "_handler", "_held", "_idle", "_is_lost", "_loop", "_max_waiting", "_task", "_tasks",
        "_waiting",
    )  # fmt: skip

    _connection: Transport

    def __init__(self, handler: AsyncFunctionHandler) -> None:
        self._handler = handler
        self._loop = handler.loop.asyncio
        self._max_waiting = 1 if handler.wants_connection else MAX_WAITING
        self._waiting: deque[tuple[Frame, bytes | None]] = deque()
        self._tasks: deque[tuple[asyncio.Task[object], Frame, bytes | None]] = deque()  # with several in flight
        self._task: asyncio.Task[object]
        self._idle: asyncio.Future[None] | None = None  # what the one task waits for once all is answered
        self._held = self._is_lost = False
        self._end: CloseReason | None = None  # why it ends once all is answered

    # ---- what comes

    def connection_made(self, transport: Connection) -> None:
        """Keep the transport."""
        self._connection = transport  # type: ignore[assignment]  # as the handler has made it

    def frame(self, frame: Frame) -> None:
        """Work on it, or put it aside."""
        self._waiting.append((frame, self._connection.reply_ending))
        if self._handler.max_in_flight > 1:
            self._begin_more()
        elif not self._tasks:
            if not self._wake():
                self._task = self._loop.create_task(self._work())
            self._tasks.append((self._task, frame, None))
            self._handler.running.add(self)
        if len(self._waiting) + len(self._tasks) - 1 >= self._max_waiting or self._is_full:
            self._hold()

    @property
    def _is_full(self) -> bool:
        return self._handler.wants_connection and len(self._tasks) >= self._handler.max_in_flight

    def eof_received(self) -> bool | None:
        """Keep our side open as long as something is to be answered."""
        if self._tasks:
            self._end = self._connection.eof_reason
            return True
        return None

    def pause_writing(self) -> None:
        """Nothing: the table stops reading by itself."""

    def resume_writing(self) -> None:
        """Nothing: the table keeps reading by itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the waiting frames; running ones continue, because they may be in the middle of something."""
        self._is_lost = True
        self._waiting.clear()
        self._wake()

    def hold(self) -> bool:
        """Have nothing more come until all is answered; False: there is nothing to answer."""
        if self._tasks:
            self._hold()
        return bool(self._tasks)

    # ---- one after the other

    def _wake(self) -> bool:
        """Have the task go on; False: there is none that waits."""
        idle, self._idle = self._idle, None
        if idle is None or idle.done():  # done: the handler has cancelled its task
            return False
        idle.set_result(None)
        return True

    async def _work(self) -> None:
        """Answer what comes, until the connection ends or may be another protocol's."""
        handler, waiting, connection = self._handler, self._waiting, self._connection
        begin, wants_connection = handler.function, handler.wants_connection
        while True:
            while waiting and not self._is_lost:
                frame, ending = waiting.popleft()
                try:
                    reply = begin(frame, connection) if wants_connection else begin(frame)
                    if type(reply) is CoroutineType or inspect.isawaitable(reply):
                        reply = await reply
                    if reply is not None:
                        connection.reply_with(reply, ending)
                except BaseException as error:  # of the handler, or because it is no reply
                    self._failed(error, frame)
                    break
                if self._held and len(waiting) <= self._max_waiting // 2:
                    self._resume_reading()
                if waiting and handler.loop.is_over():
                    try:
                        await asyncio.sleep(0)
                    except asyncio.CancelledError as error:  # by the handler, or by a stop
                        self._failed(error, frame)
                        break
            idle = self._all_answered()
            if idle is None:
                return
            try:
                await idle
            except asyncio.CancelledError as error:
                if not self._tasks or self._tasks[0][0] is not asyncio.current_task(self._loop):
                    raise  # nothing had come; what comes has another task
                self._failed(error, self._tasks[0][1])
                self._all_answered()
                return

    def _all_answered(self) -> asyncio.Future[None] | None:
        """Finish for now; return what the task has to wait for, None if it has to end."""
        is_kept = not (self._is_lost or self._end is not None or self._handler.wants_connection)
        idle: asyncio.Future[None] | None = asyncio.Future(loop=self._loop) if is_kept else None
        self._idle = idle
        self._tasks.clear()
        self._finished()
        return idle

    # ---- several at once

    def _begin_more(self) -> None:
        while self._waiting and len(self._tasks) < self._handler.max_in_flight and not self._is_lost:
            frame, ending = self._waiting.popleft()
            task = self._loop.create_task(self._handler.call(frame, self._connection))
            self._tasks.append((task, frame, ending))
            self._handler.running.add(self)
            task.add_done_callback(self._one_done)

    def _one_done(self, _task: asyncio.Task[object]) -> None:
        """Answer those that are done, as far as those before them are."""
        while self._tasks and self._tasks[0][0].done():
            task, frame, ending = self._tasks.popleft()
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if self._is_lost:
                continue
            if error is not None:
                self._failed(error, frame)
            elif (reply := task.result()) is not None:
                self._answer(reply, ending, frame)
        self._begin_more()
        if self._held and len(self._waiting) <= self._max_waiting // 2 and not self._is_full:
            self._resume_reading()
        if not self._tasks:
            self._finished()

    # # ---- progress

    def _answer(self, reply: object, ending: bytes | None, frame: Frame) -> None:
        try:
            self._connection.reply_with(reply, ending)
        except BaseException as error:  # it is no reply
            self._failed(error, frame)

    def _failed(self, error: BaseException, frame: Frame) -> None:
        self._waiting.clear()
        if self._end is CloseReason.SHUTDOWN and isinstance(error, asyncio.CancelledError):
            return
        if not self._is_lost:
            self._connection.fail(error, frame)
        self._is_lost = True
        for task, _, _ in self._tasks:
            if task is not asyncio.current_task(self._loop):
                task.cancel()

    def _hold(self) -> None:
        if not self._held and not self._connection.is_closing():
            self._held = True
            self._connection.pause_reading()

    def _resume_reading(self) -> None:
        if self._end is None:
            self._held = False
            self._connection.resume_reading()

    def _finished(self) -> None:
        """Resume reading, or close: all frames are answered."""
        self._handler.running.discard(self)
        if self._end is not None:
            self._connection.close_for(self._end)
        elif self._held:
            self._resume_reading()

    # ---- at a stop

    @property
    def is_busy(self) -> bool:
        """Whether something is worked on."""
        return bool(self._tasks)

    def stop(self, *, now: bool) -> None:
        """Stop reading, and close once all frames are answered; now: cancel the running ones."""
        self._end = CloseReason.SHUTDOWN
        self._hold()
        if now:
            self._waiting.clear()
            for task, _, _ in tuple(self._tasks):
                task.cancel()

    @property
    def places(self) -> list[str]:
        """Where the handler's own coroutines wait: `file:line name`."""
        return [place for task, _, _ in self._tasks if (place := waiting_line(_innermost(task.get_coro())))]


def _innermost(coroutine: object) -> object:
    """Return the coroutine that awaits what is none, such as a future: on behalf of this one."""
    while isinstance(coroutine, CoroutineType) and isinstance(coroutine.cr_await, CoroutineType):
        coroutine = coroutine.cr_await
    return coroutine


class AsyncFunctionHandler(PerConnectionHandler):
    """Answers the frames of each connection by a coroutine function.

    Args:
        service: its name, for the log.
        function: answers a frame; None answers nothing.
        wants_connection: with the connection as its second argument.
        max_in_flight: of one connection.
        tools: connections are made with these.
        loop: of the coroutines.
        kind: the class of its connections.
        high_water: unsent bytes past which a connection is not read.

    Attributes:
        function, loop, wants_connection, max_in_flight: as given.
        running: those that work on something.
    """

    def __init__(
        self,
        service: str,
        function: Callable[..., Reply],
        tools: SinkTools,
        loop: AsyncioLoop,
        kind: type[Transport],
        high_water: int,
        *,
        wants_connection: bool,
        max_in_flight: int,
    ) -> None:
        def make() -> tuple[AsyncAnswers, None]:
            return AsyncAnswers(self), None

        super().__init__(
            service, ConnectionFactory(kind, high_water, make, lambda made: cast("FrameProtocol", made)), tools
        )
        self.loop: AsyncioLoop = loop
        self.wants_connection = wants_connection
        self.max_in_flight = max_in_flight
        self.running: set[AsyncAnswers] = set()
        self.function: Callable[..., object] = function
        self.handler = function

    async def call(self, frame: Frame, connection: Connection) -> object:
        """Call the function, and wait for its reply, unless a decorator has replied at once."""
        returned = self.function(frame, connection) if self.wants_connection else self.function(frame)
        return await returned if inspect.isawaitable(returned) else returned

    def wrong(self, id: int, reason: CloseReason) -> None:
        """Answer the earlier frames first."""
        self._find_answers(id).hold()

    def _find_answers(self, id: int) -> AsyncAnswers:
        receiver: AsyncAnswers = self._live[id].receiver  # type: ignore[assignment]
        return receiver

    # ---- at a stop

    @property
    def at_work(self) -> int:
        """Number of connections with running frames, closed ones included."""
        return len(self.running)

    def is_busy(self, id: int) -> bool:
        """Tell whether something is worked on."""
        return id in self._live and self._find_answers(id).is_busy

    def stop(self, id: int, *, now: bool) -> None:
        """Pass on."""
        self._find_answers(id).stop(now=now)

    def forget(self, id: int) -> None:
        """Let its task end, too."""
        self._find_answers(id).connection_lost(None)
        super().forget(id)

    def snapshot(self, id: int) -> object:
        """Let a connection go that is in the middle of nothing."""
        return None if self.is_busy(id) else super().snapshot(id)

    def log_unfinished(self) -> None:
        """Name those that have not ended."""
        log_unfinished(self._service, [place for answers in self.running for place in answers.places])


__all__ = ["AsyncFunctionHandler"]
