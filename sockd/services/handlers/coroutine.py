# SPDX-License-Identifier: MIT
"""Serves each connection by a coroutine: `async def session(reader, writer)`, one asyncio task a connection.

The connection closes when its coroutine ends.  A lost connection does not cancel its coroutine, which notices it by
reading or writing, as with asyncio.  At a stop, coroutines that wait for their peer are cancelled at once, the others
after half of stop_timeout; the rest of that time is for their `finally` blocks.
"""

from __future__ import annotations

import asyncio
import logging
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from sockd.errors import is_close
from sockd.log.failure import error_info, user_line, waiting_line
from sockd.net.connection.codec import RawCodec
from sockd.net.connection.events import ConnectionEvents
from sockd.net.connection.info import log_end
from sockd.net.loop.asyncio_loop import LineDelivery
from sockd.services.handlers.adapters import ProtocolAdapter
from sockd.services.handlers.asyncio_transport import SessionTransport
from sockd.services.handlers.stream_writer import CompletedDrain, StreamWriter
from sockd.services.handlers.streams import LIMIT_BYTES, StreamReader
from sockd.wire.close_reason import CloseReason
from sockd.wire.framing import Line, Raw

if TYPE_CHECKING:
    from sockd.net.connection.codec import Codec
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.asyncio_loop import AsyncioLoop
    from sockd.services.api import SessionFunction


logger = logging.getLogger("sockd.handler")

SHOWN_PLACES = 10
"""Where coroutines wait that did not end in time: so many are named."""


def _connected(_reader: object, _writer: object) -> None:
    """Be there: by this asyncio knows a server's side."""


class CoroutineSession(asyncio.StreamReaderProtocol):
    """The protocol of one connection, which is asyncio's, and its coroutine.

    Args:
        handler: whose session this is.
        connection: its transport.
    """

    _closed: asyncio.Future[None]
    _connection_lost: bool
    _loop: asyncio.AbstractEventLoop
    _over_ssl: bool
    _paused: bool
    _transport: object
    task: asyncio.Task[None]

    def __init__(self, handler: CoroutineHandler, connection: SessionTransport) -> None:
        own_loop, loop = handler.loop, handler.loop.asyncio
        self.reader = StreamReader(handler.limit, loop, own_loop.is_over, handler.frame_timeout, self._too_late)
        super().__init__(self.reader, _connected, loop)
        self._handler = handler
        self.connection = connection
        self._is_cancelled = False
        self._reason = CloseReason.CLOSED
        self._wrong: CloseReason | None = None
        self.writer = StreamWriter(connection, self, self.reader, loop, handler.drained, handler.will_write)

    # ---- the coroutine

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - as asyncio's
        """Begin."""
        self._transport = transport
        self.reader.set_transport(transport)
        self.task = self._loop.create_task(self._run())
        self.task.add_done_callback(self._done)

    async def _run(self) -> None:
        try:
            await self._handler.function(self.reader, self.writer)
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
        if self._reason is CloseReason.CLOSED:
            self._reason = self._wrong or (CloseReason.FRAME_TOO_LONG if self.reader.has_overrun else self._reason)
        if self.writer.is_plain:
            self.connection.close_for(self._reason)
        else:
            self.writer.close()  # asyncio's TLS is between, and says its goodbye first
        self._handler.has_ended(self)

    def _failed(self, error: BaseException) -> CloseReason:
        """Tell of an exception, unless it is the end of the connection, which has a line of its own."""
        if is_close(error):
            try:
                if error.last_words is not None:
                    self.writer.write(self._handler.codec.encode(error.last_words))
            except BaseException as raised:  # what they are is the handler's doing
                error = raised
            else:
                return CloseReason.CLOSED
        if self.reader.has_overrun and issubclass(type(error), ValueError):
            return CloseReason.FRAME_TOO_LONG
        lost = self.reader.exception() or (ConnectionResetError() if self._connection_lost else None)
        if not (lost and issubclass(type(error), type(lost))):
            at = user_line(error, self._handler.function)
            event = {"service": self._handler.service, "peer": self.connection.peer, "at": at}
            logger.error("handler failed", exc_info=error_info(error), extra={"event": event})
            return CloseReason.HANDLER_ERROR
        return self._wrong or CloseReason.HANDLER_ERROR

    def _too_late(self) -> None:
        """Close the connection: output of code that was notified before is sent first."""
        self._wrong = CloseReason.FRAME_TIMEOUT
        self._loop.call_soon(self.connection.close_for, self._wrong)

    @property
    def is_waiting(self) -> bool:
        """Whether it is in the middle of nothing: it waits for its peer alone."""
        return self.reader.is_waiting or self.writer.is_closing()

    def cancel(self) -> None:
        """Cancel it, once; its reaction is up to the coroutine."""
        if not self._is_cancelled:
            self._is_cancelled = True
            self.task.cancel()

    @property
    def place(self) -> str:
        """Where the handler's own coroutine waits: `file:line name`."""
        own = self.task.get_coro()
        return waiting_line(own.cr_await) if isinstance(own, CoroutineType) else ""  # what _run awaits

    # ---- the connection

    def frame(self, frame: Any) -> None:  # noqa: ANN401 - bytes
        """Take what has come."""
        self.reader.feed(frame)

    def eof_received(self) -> bool:
        """Keep our side open, unless asyncio's own TLS is between: the coroutine may still have something to say."""
        self.reader.feed_eof()
        return not self._over_ssl

    def connection_lost(self, exc: Exception | None) -> None:
        """Report to waiting reads and writes."""
        if exc is None:
            self.reader.feed_eof()
        else:
            self.reader.lose(exc)
        if not self._closed.done():
            if exc is None:
                self._closed.set_result(None)
            else:
                self._closed.set_exception(exc)
                self._closed.exception()  # nobody may wait for it
        asyncio.streams.FlowControlMixin.connection_lost(self, exc)
        self._transport = None
        self.writer.lost(exc)


class CoroutineHandler(ConnectionEvents):
    """Makes a session for each connection of a service.

    Args:
        service: its name, for the log.
        function: the coroutine function.
        codec: of the service's framing: makes frames of last words.
        high_water: unsent bytes past which drain() waits.
        frame_timeout: seconds for a line that is waited for.
        connections: where bytes come from.
        loop: of the coroutines.

    Attributes:
        limit: bytes of a line.
        drained: of the loop.
        will_write: of the connections.
    """

    def __init__(
        self,
        service: str,
        function: SessionFunction,
        codec: Codec,
        high_water: int,
        frame_timeout: float,
        connections: ConnectionTable,
        loop: AsyncioLoop,
    ) -> None:
        self.service = service
        self.function = function
        self.codec = codec
        self.frame_timeout = frame_timeout
        self.loop = loop
        self.limit = codec.framing.max_bytes if isinstance(codec.framing, Line) else LIMIT_BYTES
        self.drained = CompletedDrain(loop.asyncio)
        self.will_write = connections.will_write
        self._raw = RawCodec(Raw(), connections)
        self._high_water = high_water
        self._table = connections
        self._live: dict[int, CoroutineSession] = {}
        self._readers: dict[int, StreamReader] = {}  # of those that speak to their reader still
        delivery = LineDelivery()
        delivery._use(connections.address, self._readers, self._to_another)
        self.frames = delivery.frames  # type: ignore[assignment,method-assign]  # itself: a call of Python less for each line
        self._running: set[CoroutineSession] = set()

    def accepted(self, id: int) -> None:
        """Begin the coroutine; it runs in this turn."""
        connection = SessionTransport(id, self._table, self._raw, self._high_water, self.loop, ProtocolAdapter)
        connection.service, connection.handler = self.service, self.function
        connection.switched = self._switched
        session = CoroutineSession(self, connection)
        self._live[id] = session
        self._readers[id] = session.reader
        self._running.add(session)
        connection.start(session, session)

    def _switched(self, id: int) -> None:
        """Note that a connection speaks to another protocol from now on."""
        self._readers.pop(id, None)

    def _to_another(self, _index: int, id: int, _part: int, offset: int, size: int, count: int) -> None:
        """Hand what has come to the protocol that was set."""
        self._live[id].connection.deliver(offset, size, count)

    def ended(self, id: int) -> None:
        """Tell of the end of file; of a line that may have been cut off nothing is read."""
        if (reader := self._readers.get(id)) is not None:
            reader.feed_eof(is_cut=self._table.tls.is_cut(id))
        else:
            self._live[id].connection.end()

    def pause(self, id: int) -> None:
        """Pass on."""
        self._live[id].connection.pause()

    def resume(self, id: int) -> None:
        """Pass on."""
        self._live[id].connection.resume()

    def lingering(self, id: int, reason: CloseReason) -> None:
        """Notify the session of the end: only the peer's end of file is awaited."""
        if (session := self._live.get(id)) is not None:
            session.connection.lost(reason, 0)

    def closed(self, id: int, reason: CloseReason) -> None:
        """Log the close and notify the session, whose coroutine may continue for a while."""
        session = self._live.pop(id, None)  # none where it was not even made
        self._readers.pop(id, None)
        try:
            log_end(self.service, self._table, id, reason)
        finally:
            if session is not None:
                session.connection.lost(reason, self._table.info(id).error)

    def has_ended(self, session: CoroutineSession) -> None:
        """Note that its coroutine has (for the session)."""
        self._running.discard(session)

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

    def log_unfinished(self) -> None:
        """Name those that have not ended."""
        log_unfinished(self.service, [session.place for session in self._running])


def log_unfinished(service: str, places: list[str]) -> None:
    """Describe unfinished coroutines by where they wait."""
    if places:
        event = {"service": service, "count": len(places), "at": sorted(set(places))[:SHOWN_PLACES]}
        logger.error("handlers did not end in time", extra={"event": event})
