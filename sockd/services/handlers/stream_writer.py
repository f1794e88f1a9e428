# SPDX-License-Identifier: MIT
"""The writer of a coroutine service, with the methods of asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from sockd.net.connection.connection import Connection
    from sockd.services.handlers.streams import Data, StreamReader


class CompletedDrain(asyncio.Future[None]):
    """What drain() returns where there is nothing to wait for: a future that is done, and passes for a coroutine.

    One is enough for all calls: to await it costs a quarter of what a coroutine costs that ends at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.set_result(None)

    def send(self, _value: object) -> None:
        """Be done."""
        raise StopIteration

    def throw(self, error: BaseException) -> None:
        """Have nobody who would catch it."""
        raise error

    def close(self) -> None:
        """Do nothing."""


Coroutine.register(CompletedDrain)


class StreamWriter:
    """What goes to the peer, as asyncio.StreamWriter has it.

    Args:
        connection: to whom.
        reader: whose loss of the connection drain() tells.
        loop: of the coroutine.
        drained: of this loop.
    """

    __slots__ = ("_closed", "_connection", "_drained", "_loop", "_outbox", "_reader", "_resumed", "_secured")

    def __init__(
        self, connection: Connection, reader: StreamReader, loop: asyncio.AbstractEventLoop, drained: CompletedDrain
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._loop = loop
        self._resumed: asyncio.Future[None] | None = None
        self._secured: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] = loop.create_future()
        self._outbox = connection.outbox
        self._drained = drained

    @property
    def transport(self) -> Connection:
        """The connection."""
        return self._connection

    def write(self, data: Data) -> None:
        """Send bytes behind all that was written before."""
        outbox = self._outbox  # Connection.write() without its call: a coroutine writes line by line
        if type(data) is bytes and (room := outbox.room - len(data)) >= 0:
            outbox.room = room
            outbox.pieces.append(data)
        else:
            self._connection.write_first(data)

    def writelines(self, data: Iterable[Data]) -> None:
        """Send each of several."""
        self._connection.writelines(data)

    def drain(self) -> Awaitable[None]:
        """Wait while more than high_water is unsent, until it is a quarter of that.

        Raises:
            ConnectionResetError: the connection has ended.
        """
        if self._resumed is None and self._outbox.room >= 0:
            return self._drained
        return self._drain()

    async def _drain(self) -> None:
        if (error := self._reader.exception()) is not None:
            raise error
        if self._closed.done():
            raise ConnectionResetError("Connection lost")
        if self._connection.is_closing():
            await asyncio.sleep(0)
        if self._resumed is not None:
            await asyncio.shield(self._resumed)

    def can_write_eof(self) -> bool:
        """Return True: every stream socket can be half-closed."""
        return self._connection.can_write_eof()

    def write_eof(self) -> None:
        """Half-close: FIN behind what was written; reading goes on."""
        self._connection.write_eof()

    def close(self) -> None:
        """End in order: what was written leaves, then FIN."""
        self._connection.close()

    def is_closing(self) -> bool:
        """Tell whether close() was called, or the connection has ended."""
        return self._connection.is_closing()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended: the peer has closed, too, or linger_timeout has passed.

        Raises:
            OSError: the connection was lost.
        """
        await asyncio.shield(self._closed)

    async def start_tls(self) -> None:
        """Go on encrypted, behind what was written: the answer to a STARTTLS (RFC 3207), by its listener's certificate.

        Raises:
            RuntimeError: as Connection.start_tls().
            ConnectionError: the handshake failed, or the peer had sent more already; the connection has ended.
        """
        secured = self._loop.create_future()

        def done() -> None:
            if not secured.done():
                secured.set_result(None)

        self._connection.start_tls(done, unread=self._reader.unread)
        self._secured = secured
        await secured

    def get_extra_info(self, name: str, default: object = None) -> Any:  # noqa: ANN401 - as asyncio
        """Answer as Connection.get_extra_info()."""
        return self._connection.get_extra_info(name, default)

    # ---- what happens (for the session)

    def pause(self) -> None:
        """Let drain() wait."""
        if self._resumed is None:
            self._resumed = self._loop.create_future()

    def resume(self) -> None:
        """Let drain() go on."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.set_result(None)

    def lost(self, error: Exception | None) -> None:
        """Let all go on that wait, and tell them of the end."""
        resumed, self._resumed = self._resumed, None
        for waiting in (resumed, self._secured):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error or ConnectionResetError("Connection lost"))
                waiting.exception()  # nobody may wait for it
        if error is None:
            self._closed.set_result(None)
        else:
            self._closed.set_exception(error)
            self._closed.exception()


__all__ = ["CompletedDrain", "StreamWriter"]
