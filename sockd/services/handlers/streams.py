# SPDX-License-Identifier: MIT
"""What a coroutine reads from and writes to: the methods, results and errors of asyncio's streams.

Lines come whole from the C core, many in one call, and `readline` and `async for`
only take them from a queue.  A call that is not about lines (`read`, `readexactly`,
`readuntil` of something else) has the connection go on without framing, from the
byte it has come to; `readline` goes back to framed lines once nothing is left over.

What has come is read before anything is said of a loss: a line that is too long, or a reset, is raised where there is
nothing left that would do.  asyncio's own reader raises a loss at the next call, whatever has come.

Whoever reads what has come already does not wait, and would hold up all others as long as something is there: so a
read gives the loop a turn once the coroutines have had their time of this one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from io import BytesIO
from typing import TYPE_CHECKING

from sockd.wire.framing import Line, Raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sockd.net.connection.connection import Connection
    from sockd.wire.framing import Framing

    Data = bytes | bytearray | memoryview

LIMIT_BYTES = 64 * 1024
"""Of a line or of what is searched for a separator, where no framing says one (asyncio's own default)."""
MOST_READS = 8
"""Without a look at the clock; one where the turn was found to be over, and twice as many each time it was not."""
FULL_LIMITS = 2
"""Limits of bytes that wait to be read, past which the peer is held up (asyncio's measure)."""
LF = b"\n"


class StreamReader:
    """What the peer sends, as asyncio.StreamReader has it.

    Args:
        connection: whose input it is.
        framing: of the service; lines, or what has arrived.
        loop: of the coroutine.
        is_late: whether coroutines have had their time of this turn.

    Attributes:
        has_left_out: the end of file cut off a line, which nobody gets.
    """

    __slots__ = (
        "_buffer", "_connection", "_eof", "_exception", "_framing", "_in_lines", "_is_cut", "_is_full", "_is_late",
        "_left", "_limit", "_lines", "_loop", "_quantum", "_size", "_waiter", "has_left_out",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        framing: Framing,
        loop: asyncio.AbstractEventLoop,
        is_late: Callable[[], bool] = lambda: False,
    ) -> None:
        self._connection = connection
        self._is_late = is_late
        self._left = self._quantum = 1
        self._framing = framing
        self._loop = loop
        self._in_lines = isinstance(framing, Line)
        self._limit = framing.max_bytes if isinstance(framing, Line) else LIMIT_BYTES
        self._lines: deque[bytes] = deque()
        self._buffer = bytearray()
        self._size = 0
        self._is_full = False
        self._eof = self._is_cut = self.has_left_out = False
        self._exception: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    # ---- lines

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._iterate()

    async def __anext__(self) -> bytes:
        """Return the next line, with its ending."""
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def _iterate(self) -> AsyncIterator[bytes]:
        lines = self._lines
        while True:
            while lines:
                self._left -= 1
                if self._left < 0 and self._is_over():
                    await asyncio.sleep(0)
                yield lines.popleft()
            if self._in_lines and not self._eof and self._exception is None:
                await self._more()
            elif line := await self.readline():
                yield line
            else:
                return

    async def readline(self) -> bytes:
        """Return a line with its ending; at the end of file what is left, which is b"" in the end.

        Raises:
            ValueError: the line is longer than max_frame.
            OSError: the connection was lost.
        """
        while self._lines or not self._buffer:
            if self._lines:
                self._left -= 1
                if self._left < 0 and self._is_over():
                    await asyncio.sleep(0)
                return self._lines.popleft()
            self._check()
            if self._eof:
                return b""
            self._to_lines()
            await self._more()
        try:
            return await self._until(LF)
        except asyncio.IncompleteReadError as error:
            self.has_left_out = self._is_cut
            return b"" if self._is_cut else error.partial
        except asyncio.LimitOverrunError as error:
            found = self._buffer.startswith(LF, error.consumed)
            self._take(error.consumed + 1 if found else len(self._buffer))
            raise ValueError(error.args[0]) from None

    # ---- bytes

    async def readuntil(self, separator: bytes = LF) -> bytes:
        """Return all up to a separator, and with it.

        Raises:
            ValueError: the separator is empty.
            asyncio.IncompleteReadError: the end of file came first; `partial` is what there was.
            asyncio.LimitOverrunError: the separator is not among the first max_frame bytes, which stay to be read.
            OSError: the connection was lost.
        """
        if not separator:
            raise ValueError("Separator should be at least one-byte string")
        if separator == LF and (self._lines or self._in_lines):
            line = await self.readline()
            if not line.endswith(LF):
                raise asyncio.IncompleteReadError(line, None)
            return line
        self._to_bytes()
        return await self._until(separator)

    async def _until(self, separator: bytes) -> bytes:
        await self._turn()
        searched = 0
        while True:
            at = self._buffer.find(separator, searched)
            if at > self._limit:
                raise asyncio.LimitOverrunError("Separator is found, but chunk is longer than limit", at)
            if at >= 0:
                return self._take(at + len(separator))
            searched = max(0, len(self._buffer) - len(separator) + 1)
            if searched > self._limit:
                raise asyncio.LimitOverrunError("Separator is not found, and chunk exceed the limit", searched)
            self._check()
            if self._eof:
                raise asyncio.IncompleteReadError(self._take(len(self._buffer)), None)
            await self._more()

    async def read(self, n: int = -1) -> bytes:
        """Return up to n bytes, at least one of them before the end of file; -1: all, up to there.

        Raises:
            OSError: the connection was lost.
        """
        if n == 0:
            return b""
        self._to_bytes()
        await self._turn()
        if n < 0:
            return await self._all()
        if not self._buffer and not self._eof:
            self._check()
            await self._more()
        if not self._buffer:
            self._check()
        return self._take(n)

    async def _all(self) -> bytes:
        pieces = []
        try:
            while True:
                pieces.append(self._take(len(self._buffer)))
                self._check()
                if self._eof:
                    return b"".join(pieces)
                await self._more()
        except BaseException:  # of a loss, or of a cancelled wait: it is there to be read by another call
            self._buffer[:0] = b"".join(pieces)
            raise

    async def readexactly(self, n: int) -> bytes:
        """Return n bytes.

        Raises:
            ValueError: n is negative.
            asyncio.IncompleteReadError: the end of file came first; `partial` is what there was.
            OSError: the connection was lost.
        """
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        if n == 0:
            return b""
        self._to_bytes()
        await self._turn()
        while len(self._buffer) < n:
            self._check()
            if self._eof:
                raise asyncio.IncompleteReadError(self._take(len(self._buffer)), n)
            await self._more()
        return self._take(n)

    # ---- state

    def at_eof(self) -> bool:
        """Tell whether the end of file has come and all before it was read."""
        return self._eof and not self._lines and not self._buffer

    def exception(self) -> BaseException | None:
        """Return why the connection was lost, None if it was not or ended in order."""
        return self._exception

    @property
    def is_waiting(self) -> bool:
        """Whether somebody waits for the peer."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def unread(self) -> bytes:
        """What has come and was not read."""
        return b"".join(self._lines) + self._buffer

    # ---- what comes (for the sink)

    def feed(self, block: bytes, count: int) -> None:
        """Take `count` lines, or bytes where nothing is framed."""
        if not self._in_lines:
            self._buffer += block
        elif count == 1:
            self._lines.append(block)
        else:
            self._lines.extend(BytesIO(block))  # what iterating it gives are lines, found by memchr
        self._size += len(block)
        waiter = self._waiter
        if waiter is not None:  # _wake() without its call: this is once for each line where lines come one by one
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        if self._size > FULL_LIMITS * self._limit:
            self._is_full = True
            self._connection.pause_reading()  # until more is waited for

    def feed_eof(self, unfinished: bytes = b"", *, is_cut: bool = False) -> None:
        """Take what has come of a line that the end of file has cut off, and the end of file.

        Args:
            is_cut: the peer may not have meant it to end there (TLS without close_notify): such a line is left out.
        """
        self._is_cut = is_cut
        if is_cut and self._in_lines:
            self.has_left_out = bool(unfinished)
        else:
            self._buffer += unfinished
        self._eof = True
        self._wake()

    def hold(self) -> bool:
        """Have nothing more come until all that has come is read; False: there is nothing, and more is waited for."""
        if self.is_waiting:
            return False
        self._is_full = True
        self._connection.pause_reading()
        return True

    def set_exception(self, error: BaseException) -> None:
        """Take the loss of the connection; what has come is read first."""
        self._exception = error
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    # ---- within

    def _is_over(self) -> bool:
        """Look at the clock: whether to let the others go on.  It is asked again after some more reads."""
        is_over = self._is_late()
        self._left = self._quantum = 1 if is_over else min(2 * self._quantum, MOST_READS)
        return is_over

    async def _turn(self) -> None:
        self._left -= 1
        if self._left < 0 and self._is_over():
            await asyncio.sleep(0)

    def _more(self) -> asyncio.Future[None]:
        """Return what is done when there is something new."""
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("another coroutine is already waiting for incoming data")
        self._size = len(self._buffer)
        if self._is_full:
            self._is_full = False
            self._connection.resume_reading()
        waiter: asyncio.Future[None] = asyncio.Future(loop=self._loop)
        self._waiter = waiter
        return waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _check(self) -> None:
        if self._exception is not None:
            raise self._exception

    def _take(self, n: int) -> bytes:
        taken = bytes(self._buffer[:n])
        del self._buffer[:n]
        return taken

    def _to_bytes(self) -> None:
        """Go on without framing, from what was not read yet."""
        if self._in_lines:
            self._in_lines = False
            self._buffer[:0] = b"".join(self._lines)
            self._lines.clear()
            self._connection.set_framing(Raw())

    def _to_lines(self) -> None:
        """Go on by lines; nothing is left over of what came without framing."""
        if not self._in_lines and isinstance(self._framing, Line):
            self._in_lines = True
            self._connection.set_framing(self._framing)
