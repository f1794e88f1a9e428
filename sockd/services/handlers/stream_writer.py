# SPDX-License-Identifier: MIT
"""The writer of a coroutine service: asyncio's StreamWriter, whose two calls for each line take a shorter way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from sockd.net.connection.write_buffer import WriteBuffer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from sockd.net.connection.table import Writer
    from sockd.services.handlers.asyncio_transport import AsyncioTransport
    from sockd.services.handlers.coroutine import CoroutineSession
    from sockd.services.handlers.streams import StreamReader

    Data = bytes | bytearray | memoryview


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
        """An exception that nothing would catch."""
        raise error

    def close(self) -> None:
        """Do nothing."""


Coroutine.register(CompletedDrain)


class StreamWriter(asyncio.StreamWriter):
    """What goes to the peer.

    Args:
        connection: to whom.
        protocol: of the connection, which waits for what is unsent.
        reader: whose loss of the connection drain() tells.
        loop: of the coroutine.
        drained: of this loop.
        will_write: sends the output before the next wait.
    """

    _loop: asyncio.AbstractEventLoop
    _transport: asyncio.WriteTransport | AsyncioTransport

    def __init__(
        self,
        connection: AsyncioTransport,
        protocol: CoroutineSession,
        reader: StreamReader,
        loop: asyncio.AbstractEventLoop,
        drained: CompletedDrain,
        will_write: Callable[[Writer], None],
    ) -> None:
        super().__init__(connection, protocol, reader, loop)  # type: ignore[arg-type]  # it stands for one
        self._connection = connection
        self._write_checked: Callable[[Data], None] = connection.write_checked
        self._will_write = will_write
        self._flow = protocol
        self._input = reader
        self._outbox = connection.outbox
        self._drained = drained
        self._secured: asyncio.Future[None] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it writes to the connection itself, and not to asyncio's TLS before it."""
        return self._transport is self._connection

    def write(self, data: Data) -> None:
        """Send bytes after all earlier output."""
        outbox = self._outbox  # Connection.write() without its call: a coroutine writes line by line
        if type(data) is bytes and (room := outbox.room - len(data)) >= 0:
            outbox.room = room
            outbox.pieces.append(data)
            if not outbox.is_listed:
                outbox.is_listed = True
                self._will_write(self._connection)
        else:
            self._write_checked(data)

    def drain(self) -> Awaitable[None]:  # type: ignore[override]  # it passes for a coroutine
        """Wait while more than high_water is unsent, until it is a quarter of that.

        Raises:
            ConnectionResetError: the connection has ended.
        """
        if self._outbox.room >= 0 and not self._flow._paused:  # something was written, and nobody has to wait
            return self._drained
        return super().drain()

    async def start_tls(self, sslcontext: ssl.SSLContext | None = None, **options: Any) -> None:  # noqa: ANN401
        """Start TLS after the output.

        Args:
            sslcontext: whose certificate is shown, as asyncio has it; None: that of the listener, the answer to a
                STARTTLS (RFC 3207).
            options: of asyncio's start_tls().

        Raises:
            RuntimeError: as Connection.start_tls().
            ConnectionError: the handshake failed, or the peer had sent more already; the connection has ended.
        """
        if sslcontext is not None:
            self._outbox = WriteBuffer()  # which never has room: what is written from now on is asyncio's to encrypt
            await super().start_tls(sslcontext, **options)
            self._write_checked = self._transport.write
            return
        secured = self._loop.create_future()

        def done() -> None:
            if not secured.done():
                secured.set_result(None)

        self._connection.start_tls(done, unread=self._input.unread)
        self._secured = secured
        await secured

    def lost(self, error: Exception | None) -> None:
        """Resume the handshake's waiter (for the session)."""
        secured = self._secured
        if secured is not None and not secured.done():
            secured.set_exception(error or ConnectionResetError("Connection lost"))
            secured.exception()  # nobody may wait for it

    def __del__(self) -> None:
        """Close nothing, and warn of nothing: the connection ends when its coroutine does."""


__all__ = ["CompletedDrain", "StreamWriter"]
