# SPDX-License-Identifier: MIT
"""What a coroutine reads from: asyncio's StreamReader, with lines that were found many at once.

The methods, their results and their errors are asyncio's own, of the running Python version: this module only delivers
lines to them.  As long as only lines are read, a received block is cut into lines at once, and `readline` and `async
for` take them from a queue; what is more than a piece waits in asyncio's buffer, and is cut piece by piece where it is
read, in the coroutine's own time.  Every other call puts the rest of the queue back into the buffer, and continues
there; lines are cut again once that is empty.

A line that is not read has no effect: its length, age and end are checked when it is awaited.

What has come is read before anything is said of a loss, which is raised where there is nothing left that would do.
asyncio's own reader raises a loss at the next call, whatever has come.

A read of data that has already arrived does not wait, and would delay all others as long as there is data: so a read
yields to the loop once the coroutines have used their time of this turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from enum import Enum
from io import BytesIO
from typing import TYPE_CHECKING, Any

from sockd._sockbuf import lib
from sockd.net.loop.asyncio_loop import LineSource, NextLine
from sockd.net.loop.deadline import MAX_EXTENSIONS, is_unfair
from sockd.net.loop.state_table import StateTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop.asyncio_loop import CoroutineLoop, LineWaiter

LIMIT_BYTES = 64 * 1024
"""Of a line or of what is searched for a separator, where no framing says one (asyncio's own default)."""
FULL_LIMITS = 2
"""Limits of bytes that wait to be read, past which the peer is held up (asyncio's measure)."""
PIECE_BYTES, MAX_LINES = lib.SOCKD_PIECE_BYTES, lib.SOCKD_MAX_LINES
"""As line_source.c has them."""
LF = b"\n"

Coroutine.register(NextLine)


class ReaderState(Enum):
    """Whether more may come."""

    OPEN = "it may"
    ENDED = "the end of file has come"
    CUT = "likewise, and the peer may not have meant it to end there: of a line that is not whole nothing is read"
    SHORT = "and there was such a line"
    LOST = "the connection was lost"


READER = StateTable(
    {
        ReaderState.OPEN: (ReaderState.ENDED, ReaderState.CUT, ReaderState.LOST),
        ReaderState.ENDED: (),
        ReaderState.CUT: (ReaderState.SHORT,),
        ReaderState.SHORT: (),
        ReaderState.LOST: (),
    }
)


class StreamReader(LineSource, asyncio.StreamReader):  # type: ignore[misc]  # what it returns passes for a coroutine
    """What the peer sends.  Its buffer and its waiter are where asyncio's own methods look for them.

    Args:
        limit: bytes of a line, or of what is searched for a separator.
        loop: of the coroutine.
        is_late: whether coroutines have had their time of this turn.
        frame_timeout: seconds for a line that is waited for, once its first byte has come.
        too_late: called when they have passed.

    Attributes:
        has_overrun: the last that was read was no line, because it is longer than the limit.
    """

    _buffer: bytearray
    _eof: bool
    _exception: BaseException | None
    _full: int
    _is_by_line: bool
    _is_late: Callable[[], bool]
    _is_open: bool
    _left: int
    _paused: bool
    _quantum: int
    _since: float | None
    _size: int
    _transport: asyncio.ReadTransport | None
    _waiter: LineWaiter | asyncio.Future[None] | None
    has_overrun: bool

    def __init__(
        self,
        limit: int,
        loop: CoroutineLoop,
        is_late: Callable[[], bool],
        frame_timeout: float,
        too_late: Callable[[], object],
    ) -> None:
        super().__init__(limit, loop)
        self._use(deque(), loop._ready.append)
        self._full = FULL_LIMITS * limit
        self._size = 0  # of lines, or more: exact where reading is paused
        self._whole = 0  # bytes of lines in the buffer that are not cut yet
        self._state = ReaderState.OPEN
        self._loss: BaseException | None = None
        self._is_late = is_late
        self._left = self._quantum = 1
        self._frame_timeout = frame_timeout
        self._too_late = too_late
        self._since = None  # the beginning of a line has come, and the rest is waited for
        self._timer: asyncio.TimerHandle | None = None
        self._extensions = 0

    # ---- lines; __anext__() is LineSource's

    async def readline(self) -> bytes:
        """Return the next line with its ending, without one at the end of file, b"" after it; as asyncio's."""
        return await self._line()

    async def _next_line(self, was_woken: int, is_over: int) -> bytes:
        """Give the others a turn if it is time to, and wait for a line, if need be.

        Args:
            was_woken: whether something has come for which it waited.
            is_over: whether the clock has said that it is time to.
        """
        if is_over or ((self._lines or self._whole) and self._is_over()):
            await asyncio.sleep(0)
        if not self._buffer and self._waiter is None and self._exception is None:
            self._is_by_line = True
        while self._is_by_line:
            if self._lines or self._cut_more():
                return self._pop_line()
            if not self._is_by_line:  # it is too long, which asyncio's own method tells
                break
            if self._eof:
                line = bytes(self._buffer)
                self._buffer.clear()
                return self._last_line(line)
            if self._buffer:
                self._begin_to_count()
            is_alone = self._waiter is None
            try:
                await self._wait_for_data("readuntil")  # as asyncio, whose readline() calls it
                was_woken = True
            finally:
                if is_alone:
                    self._since = None
        if was_woken and self._exception is not None and not self._has_to_wait():
            error, self._exception = self._exception, None  # behind what has woken it, as with asyncio
            try:
                return await self._buffered_line()
            finally:
                self._exception = error
        await self._turn()
        return await self._buffered_line()

    def _has_to_wait(self) -> bool:
        return not self._eof and len(self._buffer) <= self._limit and LF not in self._buffer

    async def _buffered_line(self) -> bytes:
        try:
            line = await asyncio.StreamReader.readline(self)
        except ValueError:
            self.has_overrun = True
            raise
        return line if line.endswith(LF) else self._last_line(line)

    def _last_line(self, line: bytes) -> bytes:
        """Return what came before the end of file, unless that may have cut it off."""
        if self._state is ReaderState.CUT and line:
            self._state = READER.step(self._state, ReaderState.SHORT)
        return b"" if self._state is ReaderState.SHORT else line

    def _pop_line(self) -> bytes:
        """Take a line, and have the peer send on once there is room again."""
        line = self._lines.popleft()
        if self._paused:
            self._size -= len(line)
            self._maybe_resume_transport()
        return line

    # ---- bytes: asyncio's own, on its buffer

    async def readuntil(self, separator: Any = LF) -> bytes:  # noqa: ANN401 - a tuple from 3.13 on
        """Return all up to a separator, and with it; as asyncio's."""
        if separator == LF and (self._lines or self._cut_more()):
            return await self.readline()
        self._to_buffer()
        await self._turn()
        return await super().readuntil(separator)

    async def read(self, n: int = -1) -> bytes:
        """Return up to n bytes, at least one of them before the end of file; -1: all, up to there."""
        self._to_buffer()
        await self._turn()
        return await super().read(n)

    async def readexactly(self, n: int) -> bytes:
        """Return n bytes; as asyncio's."""
        self._to_buffer()
        await self._turn()
        return await super().readexactly(n)

    # ---- state

    def at_eof(self) -> bool:
        """Tell whether the end of file has come and all before it was read."""
        return self._eof and not self._lines and not self._buffer

    def exception(self) -> BaseException | None:  # type: ignore[override]  # typeshed: Exception
        """Return why the connection was lost, None if it was not or was closed gracefully."""
        return self._exception or self._loss

    @property
    def has_left_out(self) -> bool:
        """Whether the end of file cut off a line, which nobody gets."""
        return self._state is ReaderState.SHORT

    @property
    def is_waiting(self) -> bool:
        """Whether a read is waiting for the peer."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def unread(self) -> bytes:
        """What has come and was not read."""
        return b"".join(self._lines) + self._buffer

    # ---- what comes

    def _feed(self, block: bytes) -> None:
        """Take what is more, or less, than a few whole lines."""
        waiter = self._waiter
        if not self._is_by_line:
            self._buffer += block
        elif not self._cut(block):
            return  # the beginning of a line, for which nobody is woken
        if waiter is not None:  # _wakeup_waiter() without its call
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        if self._size + len(self._buffer) > self._full and not self._paused:
            self._weigh()

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # typeshed: Iterable[SupportsIndex]
        """Take what has come; as asyncio's."""
        assert not self._eof, "feed_data after feed_eof"
        if data:
            self.feed(bytes(data))

    def _cut(self, block: bytes) -> bool:
        """Add lines to the queue, or to the buffer what is more than a piece; False: no line is complete yet."""
        buffer, end = self._buffer, block.rfind(LF) + 1
        if not end:
            buffer += block
            if self._whole or len(buffer) <= self._limit:
                if self._waiter is not None:
                    self._begin_to_count()
                return self._whole > 0
            self._since = None
            self._to_buffer()  # whoever asks for a line is told there
            return True
        self._since = None
        if self._whole or len(block) > PIECE_BYTES or len(self._lines) > MAX_LINES:
            self._whole = len(buffer) + end
            buffer += block
            return True
        lines = block[:end]
        if buffer:
            lines = bytes(buffer) + lines
            buffer.clear()
        buffer += block[end:]
        self._add_lines(lines)
        return True

    def _cut_more(self) -> bool:
        """Cut the next piece of the buffer; False: there is no whole line, or none that is short enough."""
        buffer, end = self._buffer, self._whole
        if not end:
            self._is_by_line = self._is_by_line and len(buffer) <= self._limit  # what is longer asyncio tells
            return False
        if end > PIECE_BYTES:
            end = buffer.rfind(LF, 0, PIECE_BYTES) + 1 or buffer.find(LF, PIECE_BYTES) + 1
        piece = bytes(buffer[:end])
        del buffer[:end]
        self._whole -= end
        self._size = 0  # the queue is empty
        self._add_lines(piece)
        return bool(self._lines)

    def _add_lines(self, block: bytes) -> None:
        """Add whole lines to the queue; all to the buffer if one of them is too long."""
        lines = BytesIO(block).readlines()  # found by memchr
        self._lines.extend(lines)
        self._size += len(block)
        if len(block) > self._limit and max(map(len, lines)) > self._limit + 1:
            self._to_buffer()

    def feed_eof(self, *, is_cut: bool = False) -> None:
        """Take the end of file.

        Args:
            is_cut: the peer may not have meant it to end there (TLS without close_notify): of a line that is not
                whole nothing is read then.
        """
        self._end(ReaderState.CUT if is_cut else ReaderState.ENDED)
        self._since = None
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        """Have every call raise this from now on; as asyncio's."""
        self._to_buffer()
        self._end(ReaderState.LOST)
        super().set_exception(exc)

    def lose(self, error: BaseException) -> None:
        """Take the loss of the connection; what has come is read first."""
        self._loss = error
        self._end(ReaderState.LOST)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    # ---- within

    def _end(self, state: ReaderState) -> None:
        """Note the first end that comes; another changes nothing."""
        if self._state is ReaderState.OPEN:
            self._is_open = False
            self._state = READER.step(self._state, state)

    def _give_up(self) -> None:
        """Wait no more, for a coroutine that got an exception instead."""
        self._waiter = self._since = None

    async def _turn(self) -> None:
        self._left -= 1
        if self._left < 0 and self._is_over():
            await asyncio.sleep(0)

    async def _wait_for_data(self, func_name: str) -> None:
        """Wait, for asyncio's own methods."""
        if self._loss is not None:
            raise self._loss
        self.has_overrun = False
        await super()._wait_for_data(func_name)  # type: ignore[misc]

    def _to_buffer(self) -> None:
        """Go on by bytes, from what was not read yet."""
        self._is_by_line, self._whole = False, 0
        if self._lines:
            self._buffer[:0] = b"".join(self._lines)
            self._lines.clear()
            self._size = 0

    def _weigh(self) -> None:
        """Hold the peer up, if as much waits to be read as there seems to be."""
        self._size = sum(map(len, self._lines))
        if self._transport is not None and self._size + len(self._buffer) > self._full:
            self._paused = True
            self._transport.pause_reading()

    def _maybe_resume_transport(self) -> None:
        if self._paused and self._transport is not None and self._size + len(self._buffer) <= self._limit:
            self._paused = False
            self._transport.resume_reading()

    # ---- the time for a line

    def _begin_to_count(self) -> None:
        if self._since is None:
            self._since = self._loop.time()
            self._extensions = 0
            if self._timer is None:
                self._timer = self._loop.call_later(self._frame_timeout, self._judge)

    def _judge(self) -> None:
        """Check whether the line is still incomplete; a loop that was blocked gives it more time (see Deadline)."""
        timer, self._timer = self._timer, None
        if self._since is None or not self.is_waiting:
            return
        now = self._loop.time()
        lateness = now - timer.when() if timer is not None else 0.0
        if is_unfair(lateness, self._frame_timeout) and self._extensions < MAX_EXTENSIONS:
            self._extensions += 1
            self._since = now
        left = self._since + self._frame_timeout - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._judge)
        else:
            self.lose(TimeoutError("the line was not complete within frame_timeout"))
            self._too_late()
