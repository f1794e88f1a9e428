# SPDX-License-Identifier: MIT
"""Serves each connection by a coroutine: `async def session(reader, writer)`, one asyncio task a connection.

The connection ends when its coroutine does.  A lost connection does not cancel its
coroutine, which learns of it by reading or writing, as with asyncio.  At a stop, coroutines
that wait for their peer are cancelled at once, the others when half of stop_timeout is over;
what they do then in `finally` has the rest of it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from sockd.errors import is_close
from sockd.net.connection.connection import Connection
from sockd.net.connection.events import ConnectionEvents
from sockd.net.connection.info import log_end
from sockd.services.handlers.adapters import ProtocolAdapter
from sockd.services.handlers.stream_writer import CompletedDrain, StreamWriter
from sockd.services.handlers.streams import StreamReader
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sockd.net.connection.codec import Codec
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.asyncio_loop import AsyncioLoop

    SessionFunction = Callable[[Any, Any], Coroutine[Any, Any, object]]

logger = logging.getLogger("sockd.handler")

TOLD_PLACES = 10
"""Where coroutines wait that did not end in time: so many are named."""


class CoroutineSession:
    """The receiver of one connection, and its coroutine.

    Args:
        service: its name, for the log.
        function: the coroutine function.
        codec: of the service's framing.
        own_loop: of the coroutine.
        drained: of the loop.
        ended: told once the coroutine has ended.
    """

    __slots__ = (
        "_ended",
        "_function",
        "_is_cancelled",
        "_loop",
        "_lost",
        "_reason",
        "_service",
        "_wrong",
        "connection",
        "peer",
        "reader",
        "task",
        "writer",
    )  # fmt: skip

    def __init__(
        self,
        service: str,
        function: SessionFunction,
        connection: Connection,
        codec: Codec,
        own_loop: AsyncioLoop,
        drained: CompletedDrain,
        ended: Callable[[CoroutineSession], None],
    ) -> None:
        loop = own_loop.asyncio
        self._service = service
        self._function = function
        self.connection = connection
        self._loop = loop
        self._ended = ended
        self._is_cancelled = False
        self._lost: Exception | None = None
        self._reason = CloseReason.CLOSED
        self._wrong: CloseReason | None = None
        self.peer = ""
        self.reader = StreamReader(connection, codec.framing, loop, own_loop.is_over)
        self.writer = StreamWriter(connection, self.reader, loop, drained)

    # ---- the coroutine

    def connection_made(self, transport: Connection) -> None:
        """Begin."""
        self.task = self._loop.create_task(self._run())
        self.task.add_done_callback(self._done)

    async def _run(self) -> None:
        try:
            await self._function(self.reader, self.writer)
        except asyncio.CancelledError as error:
            if self.task.cancelling():
                raise
            self._reason = self._failed(error)  # nobody has cancelled it: the handler has raised it
        except BaseException as error:
            self._reason = self._failed(error)
        else:
            if self.reader.at_eof():
                self._reason = CloseReason.TRUNCATED if self.reader.has_left_out else CloseReason.EOF

    def _done(self, _task: asyncio.Task[None]) -> None:
        if self._is_cancelled and self._reason is not CloseReason.HANDLER_ERROR:
            self._reason = CloseReason.SHUTDOWN
        if self._wrong is not None and self._reason is CloseReason.CLOSED:
            self._reason = self._wrong
        self.connection.close_for(self._reason)
        self._ended(self)

    def _failed(self, error: BaseException) -> CloseReason:
        """Tell of an exception, unless it is the end of the connection, which has a line of its own."""
        if is_close(error):
            try:
                if error.last_words is not None:
                    self.connection.reply(error.last_words)
            except BaseException as raised:  # what they are is the handler's doing
                error = raised
            else:
                return CloseReason.CLOSED
        if not (self._lost and issubclass(type(error), type(self._lost))):
            event = {"service": self._service, "peer": self.peer or self.connection.peer}
            logger.error("handler failed", exc_info=error, extra={"event": event})
            return CloseReason.HANDLER_ERROR
        return self._wrong or CloseReason.HANDLER_ERROR

    @property
    def is_waiting(self) -> bool:
        """Whether it is in the middle of nothing: it waits for its peer alone."""
        return self.reader.is_waiting or self.writer.is_closing()

    def cancel(self) -> None:
        """End it, once; what it does about that is its own affair."""
        if not self._is_cancelled:
            self._is_cancelled = True
            self.task.cancel()

    @property
    def place(self) -> str:
        """Where the handler's own coroutine waits: `file:line name`."""
        own: Any = self.task.get_coro()
        frame = getattr(own.cr_await, "cr_frame", None)  # of _run's await
        return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"

    # ---- the connection

    def frame(self, frame: object) -> None:
        """Nothing: the sink hands blocks to the reader."""

    def eof_received(self) -> bool | None:
        """Keep our side open: the coroutine may still have something to say."""
        return True

    def wrong(self, reason: CloseReason) -> None:
        """Tell whoever waits for a line that there is none; before that all is read that came before it."""
        if not self.reader.hold():
            self._wrong = reason
            self._lost = ValueError("the line is longer than max_frame")
            self.reader.set_exception(self._lost)

    def pause_writing(self) -> None:
        """Let drain() wait."""
        self.writer.pause()

    def resume_writing(self) -> None:
        """Let drain() go on."""
        self.writer.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever reads or writes."""
        self.peer = self.connection.peer
        self._lost = exc or ConnectionResetError("Connection lost")
        if self.connection.close_reason is CloseReason.FRAME_TOO_LONG:
            self._lost = ValueError("the line is longer than max_frame")
            self.reader.set_exception(self._lost)
        elif exc is None:
            self.reader.feed_eof()
        else:
            self.reader.set_exception(exc)
        self.writer.lost(exc)


class CoroutineHandler(ConnectionEvents):
    """Makes a Session for each connection of a service.

    Args:
        service: its name, for the log.
        function: the coroutine function.
        codec: of the service's framing: lines, or what has arrived.
        high_water: unsent bytes past which drain() waits.
        connections: where lines come from.
        loop: of the coroutines.
    """

    def __init__(
        self,
        service: str,
        function: SessionFunction,
        codec: Codec,
        high_water: int,
        connections: ConnectionTable,
        loop: AsyncioLoop,
    ) -> None:
        self._service = service
        self._function = function
        self._codec = codec
        self._high_water = high_water
        self._set = connections
        self._loop = loop
        self._drained = CompletedDrain(loop.asyncio)
        self._live: dict[int, CoroutineSession] = {}
        self._running: set[CoroutineSession] = set()

    def accepted(self, id: int) -> None:
        """Begin the coroutine; it runs in this turn."""
        connection = Connection(id, self._set, self._codec, self._high_water, self._loop, ProtocolAdapter)
        ended = self._running.discard
        session = CoroutineSession(
            self._service, self._function, connection, self._codec, self._loop, self._drained, ended
        )
        self._live[id] = session
        self._running.add(session)
        connection.start(session)

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Hand a block of lines, or of bytes, to the reader."""
        self._live[id].reader.feed(self._set.block(offset, size), count)

    def ended(self, id: int) -> None:
        """Hand the rest to the reader, and the end of file; of a line that may have been cut off nothing."""
        self._live[id].reader.feed_eof(self._set.unfinished(id), is_cut=self._set.tls.is_cut(id))

    def wrong(self, id: int, reason: CloseReason) -> None:
        """Tell the session."""
        self._live[id].wrong(reason)

    def pause(self, id: int) -> None:
        """Pass on."""
        self._live[id].connection.pause()

    def resume(self, id: int) -> None:
        """Pass on."""
        self._live[id].connection.resume()

    def closed(self, id: int, reason: CloseReason) -> None:
        """Log the end and tell the session, whose coroutine may go on for a while."""
        session = self._live.pop(id, None)  # none where it was not even made
        try:
            log_end(self._service, self._set, id, reason)
        finally:
            if session is not None:
                session.connection.lost(reason, self._set.info(id).error)

    # ---- at a stop

    @property
    def at_work(self) -> int:
        """How many coroutines have not ended."""
        return len(self._running)

    def is_busy(self, id: int) -> bool:
        """Tell whether the coroutine has not ended."""
        session = self._live.get(id)
        return session is not None and session in self._running

    def stop(self, id: int, *, now: bool) -> None:
        """Cancel the coroutine if it waits for its peer, or (now) whatever it does."""
        session = self._live[id]
        if now or session.is_waiting:
            session.cancel()

    def tell_unfinished(self) -> None:
        """Name those that have not ended."""
        if self._running:
            at = sorted({session.place for session in self._running})[:TOLD_PLACES]
            event = {"service": self._service, "count": len(self._running), "at": at}
            logger.error("handlers did not end in time", extra={"event": event})
