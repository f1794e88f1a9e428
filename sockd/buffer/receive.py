# SPDX-License-Identifier: MIT
"""Received bytes in, frames out.

Data is held in three places: the batch, that is frames that were cut and not yet returned; behind it the data not yet
cut; and behind that the pieces that were fed while data waited to be cut.  A batch is cut in one call of the C core.

Data are a bytes object, or, when a frame comes in pieces smaller than what is
there already, a bytearray that grows.  Neither is changed once a batch is cut
from it, so a memoryview of a frame stays good.  What is left of them is moved
when no more is left than was cut, and joined with the pieces when there is no
frame in it: so a byte is copied a bounded number of times however it arrives,
and however much waits.
"""

from __future__ import annotations

from itertools import chain
from operator import length_hint
from typing import TYPE_CHECKING, Any, Protocol

from sockd._sockbuf import ffi, lib
from sockd.buffer.core import description, plain, receive
from sockd.buffer.errors import BufferFull, FrameError, Malformed, TooLong, Truncated
from sockd.lazy import pickle
from sockd.wire.framing import Datagram, Line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.wire.framing import StreamFraming

    Data = bytes | bytearray | memoryview

CHUNK_BYTES = 256 * 1024
"""Maximum bytes of one read; asyncio's selector_events uses the same number."""

BATCH_FRAMES = 4096
"""Frames cut in one call; 64 KiB of lines of 16 bytes."""

BATCH_BYTES = 1024 * 1024
"""Bytes searched in one call, unless one frame is longer; the frames cut from them are written beside them."""

SHORT_BYTES = 2048
"""Up to this size bytes.split is faster: 0.6 us against 1.1 for 16 lines of 32 bytes."""

MAX_BYTES = 2**31 - 1
"""Of one buffer; the C core counts the frames of a batch in an int."""

_room_for = ffi.new_allocator(should_clear_after_alloc=False)
_BYTES = ffi.typeof("char[]")
_SPANS = ffi.typeof("sb_span[]")
_A_FRAME = lib.SOCKD_BATCH_A_FRAME
_ONCE = lib.SOCKD_BATCH_ONCE


class Receiver(Protocol):
    """What `ReceiveBuffer.receive_from` needs of a socket; an SSLSocket has it too."""

    def recv(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end of the stream."""


class ReceiveBuffer:
    """Cuts a stream into frames.

        buffer = ReceiveBuffer(Line(8192))
        buffer.feed(b"one\\ntwo\\nth")
        list(buffer) == [b"one", b"two"]

    Iteration returns the complete frames and stops when none is complete; it can be left at any frame and started
    again.  An error of the peer also stops it, after the last good frame, so that list() returns these; the next
    attempt raises the error (`check`, `pop`, an iteration), and every later one, until `discard`, `framing` or
    `unread` changes what comes next.

    Args:
        framing: how the stream is framed; any but Datagram.
        max_bytes: limit of held bytes, including frames not yet returned; default: what one frame needs, and 256 KiB.

    Raises:
        ValueError: max_bytes is less than one frame needs, or more than 2 GiB.
    """

    __slots__ = (
        "_at", "_base", "_batch", "_begin", "_data", "_description", "_end", "_ended", "_failed_at", "_found",
        "_framing", "_is_discarding", "_is_failed", "_is_scanned", "_is_view", "_iterator", "_limit", "_max_bytes",
        "_passed", "_pieces", "_scan", "_short", "_source", "_waiting",
    )  # fmt: skip

    def __init__(self, framing: StreamFraming, *, max_bytes: int | None = None) -> None:
        self._max_bytes = max_bytes
        self._data: bytes | bytearray = b""
        self._begin = 0  # bytes of _data that were cut already
        self._base = 0  # bytes of the stream before what is not cut
        self._pieces: list[bytes] = []  # behind _data
        self._waiting = 0  # bytes of them
        self._source: bytes | bytearray = b""  # where the batch was cut from
        self._end = 0  # of the batch in it
        self._passed = self._at = 0  # frames of the batch that are known to end there in it
        self._batch: list[Any] = []
        self._iterator: Iterator[Any] = iter(self._batch)
        self._is_view = False
        self._ended = False
        self._failed_at = 0  # where the frame begins that was reported, or is discarded
        self._scan = ffi.new("sb_scan *")
        self._found = ffi.new("sockd_batch *")
        self._use(framing)

    def _use(self, framing: StreamFraming) -> None:
        if isinstance(framing, Datagram):
            raise TypeError("a datagram is already a frame; a stream buffer would join it with the next one")
        made = description(framing)
        least = lib.sb_framing_room(made)
        self._limit = least + CHUNK_BYTES if self._max_bytes is None else self._max_bytes
        if not least <= self._limit <= MAX_BYTES:
            raise ValueError(f"max_bytes must be {least} to {MAX_BYTES} for {framing!r}, not {self._limit}")
        self._framing, self._description = framing, made
        self._short = min(framing.max_bytes, SHORT_BYTES) if type(framing) is Line else -1
        self._forget_scan()

    def _forget_scan(self) -> None:
        self._scan = ffi.new("sb_scan *")
        self._is_discarding = self._is_failed = self._is_scanned = False

    @property
    def framing(self) -> StreamFraming:
        """How the data not yet returned is framed; may be set between two frames, also inside a loop over them."""
        return self._framing

    @framing.setter
    def framing(self, framing: StreamFraming) -> None:
        if framing != self._framing or self._is_failed or self._is_discarding:
            self._put_back()
            self._use(framing)

    @property
    def held(self) -> int:
        """Bytes that were fed and not yet returned: complete frames and the incomplete one."""
        return self._uncut_bytes() + self._untaken_bytes()

    @property
    def offset(self) -> int:
        """Bytes of the stream that were returned: where the next frame begins."""
        return self._base - self._untaken_bytes()

    # ---- in

    def feed(self, data: Data) -> None:
        """Add bytes of the stream; a bytes object is kept without a copy where possible.

        Raises:
            BufferFull: it would hold more than max_bytes; nothing was added.
            ValueError: the stream has ended.
        """
        if type(data) is not bytes:
            data = plain(data)
        if self._ended:
            raise ValueError("the stream has ended")
        size, held = len(data), self._data
        if size > self._limit - len(held) - len(self._source) - self._waiting and size > self._limit - self.held:
            raise BufferFull(self._limit)
        if not held:
            self._data = data if type(data) is bytes else bytes(data)
        elif self._begin:
            self._pieces.append(data if type(data) is bytes else bytes(data))
            self._waiting += size
        elif type(held) is bytearray:
            held += data
        elif len(held) <= size:
            self._data = held + data
        else:
            self._data = bytearray(held)
            self._data += data

    def receive_from(self, source: Receiver | int, size: int = CHUNK_BYTES // 4) -> int:
        """Receive once, and feed the data.

        Args:
            source: a socket, blocking or not as it is set; or the number of a descriptor (socket, pipe, terminal,
                file), which never blocks.
            size: maximum bytes; less if max_bytes leaves less room.

        Returns:
            The number of bytes received; 0 at the end of the stream.

        Raises:
            BufferFull: there is no room for a byte; read frames first.
            BlockingIOError, TimeoutError, OSError: as the socket raises them.
        """
        size = min(size, self._limit - self.held)
        if size < 1:
            raise BufferFull(self._limit)
        data = receive(source, size) if isinstance(source, int) else source.recv(size)
        self.feed(data)
        return len(data)

    def eof(self) -> None:
        """Say that the stream has ended.

        Raises:
            Truncated: within a frame.  While complete frames are held, it is raised after the last of them instead.
        """
        self._ended = True
        if not length_hint(self._iterator):
            self._fill(self._is_view)

    # ---- out

    def __iter__(self) -> Iterator[bytes]:
        """Return frames as bytes while they are complete.

        Raises:
            TooLong: the first frame is, or must become, longer than its limit.
            Malformed: the first bytes are not a frame.
            Truncated: the stream ended within the first frame.
        """
        return chain.from_iterable(self._batches(False))

    def views(self) -> Iterator[memoryview]:
        """Return frames as read-only views of the received data, without a copy.

        A view stays valid while it is referenced, and keeps the whole piece in which it was received; for long use,
        copy it to bytes.  A dot block with doubled dots is a view of a copy.

        Raises:
            FrameError: as iteration.
        """
        return chain.from_iterable(self._batches(True))

    def pop(self) -> bytes | None:
        """Return one frame; None when none is complete.

        Raises:
            FrameError: as iteration.
        """
        return next(iter(self), None)

    def check(self) -> None:
        """Raise what the peer did wrong, if that is what comes next; after a loop over the frames.

        Raises:
            FrameError: as iteration.
        """
        if not length_hint(self._iterator):
            self._fill(self._is_view)

    def unread(self) -> bytes:
        """Return all bytes held, for another consumer of the stream."""
        self._put_back()
        self._join()
        data = bytes(self._data)
        self._move_on(len(data))
        self._forget_scan()
        return data

    def discard(self) -> None:
        """Skip the frame that is too long or malformed, including its delimiter.

        It was reported once, by the exception; the next frame is the one after it.  The rest of it is dropped as it
        arrives.

        Raises:
            ValueError: no frame was reported, or its framing has no delimiter.
        """
        if not self._is_failed:
            raise ValueError("no frame was reported as too long or malformed")
        if not self._drop():
            raise ValueError(f"{self._framing!r} has no delimiter after which to resume")
        self._is_failed = False

    # ---- inside

    def _batches(self, is_view: bool) -> Iterator[Iterator[Any]]:
        if is_view is not self._is_view:
            self._put_back()
            self._is_view = is_view
        has_yielded = False
        try:
            while length_hint(self._iterator) or self._fill(is_view):
                has_yielded = True
                yield self._iterator
        except FrameError:
            if not has_yielded:
                raise

    def _fill(self, is_view: bool) -> bool:
        """Cut the next batch; False when no frame is complete."""
        if self._is_discarding:
            self._drop()
        if not self._data or self._is_discarding:
            self._source = b""
            if self._ended and self._is_discarding:
                raise Truncated(self._failed_at, self._base + len(self._data) - self._begin - self._failed_at)
            return False
        batch, size = self._cut_views() if is_view else self._cut()
        if not batch:
            if not size and self._pieces:
                self._join()
                return self._fill(is_view)
            self._source = b""
            return self._none(size)
        self._source, self._at = self._data, self._begin
        self._end = self._at + size
        self._passed = 0
        self._batch, self._iterator = batch, iter(batch)
        self._move_on(size)
        return True

    def _none(self, code: int) -> bool:
        """Return the reason why there is no frame."""
        if code == lib.SB_ERR_TOO_LONG:
            self._fail()
            raise TooLong(self._base, self._description.limit)
        if code == lib.SB_ERR_MALFORMED:
            at = self._scan.searched
            self._fail()
            raise Malformed(self._base + at)
        assert code == 0
        if self._ended:
            raise Truncated(self._base, len(self._data) - self._begin)
        return False

    def _fail(self) -> None:
        self._scan = ffi.new("sb_scan *")
        self._is_failed = True
        self._failed_at = self._base

    def _cut(self, window: int = BATCH_BYTES) -> tuple[list[bytes], int]:
        """Cut frames off the start of the uncut data: (frames, their bytes), or ([], why there is none).

        Args:
            window: bytes searched, unless they contain no frame: all of it may be cut, and needs room.
        """
        data, begin = self._data, self._begin
        size = len(data) - begin
        if not begin and size <= self._short and type(data) is bytes and b"\r" not in data:
            return self._split(data)
        if size > window:
            size = window
        found = self._found
        max_frames = size if size < BATCH_FRAMES else BATCH_FRAMES
        out = _room_for(_BYTES, size + max_frames * _A_FRAME + _ONCE)
        source = data if type(data) is bytes and not begin else ffi.from_buffer(data) + begin
        self._is_scanned = True
        count = lib.sockd_batch_cut(self._description, source, size, self._scan, out, max_frames, found)
        if count <= 0:
            return self._cut(MAX_BYTES) if not count and size < len(data) - begin else ([], count)
        if count > 1 or found.used:
            return pickle.loads(ffi.buffer(out, found.used)), found.next
        if type(data) is bytes:
            return [data[begin + found.start : begin + found.end]], found.next
        return [bytes(memoryview(data)[begin + found.start : begin + found.end])], found.next

    def _split(self, data: bytes) -> tuple[list[bytes], int]:
        """Cut lines when none can be too long, and there are so few that a call into C costs more."""
        lines = data.split(b"\n")
        end = len(data) - len(lines.pop())
        if lines and self._is_scanned:
            self._scan = ffi.new("sb_scan *")
            self._is_scanned = False
        return lines, end

    def _cut_views(self) -> tuple[list[memoryview], int]:
        data, begin = self._data, self._begin
        size = len(data) - begin
        max_frames = min(size, BATCH_FRAMES)
        spans, end = _room_for(_SPANS, max_frames), ffi.new("size_t *")
        self._is_scanned = True
        source = ffi.from_buffer(data) + begin
        count = lib.sb_frames_find(self._description, source, size, self._scan, spans, max_frames, end)
        if count <= 0:
            return [], count
        view = memoryview(data).toreadonly()[begin:]
        edges = iter(ffi.unpack(ffi.cast("size_t *", spans), 2 * count))
        views = [view[start:stop] for start, stop in zip(edges, edges, strict=True)]
        if self._description.kind == lib.SB_FRAMING_DOT_BLOCK:
            views = [_unstuffed(view) for view in views]
        return views, end[0]

    def _move_on(self, n: int) -> None:
        """Drop the first n bytes of the uncut data; the rest is moved when it is no larger than what was cut."""
        data, begin = self._data, self._begin + n
        self._base += n
        if begin == len(data):
            self._data, self._begin = b"", 0
            if self._pieces:
                self._join()
        elif 2 * begin >= len(data):
            self._data, self._begin = bytes(memoryview(data)[begin:]), 0
        else:
            self._begin = begin

    def _join(self) -> None:
        """Join the uncut data and the pieces behind it."""
        if self._pieces:
            self._data = b"".join([memoryview(self._data)[self._begin :], *self._pieces])
            self._begin = self._waiting = 0
            self._pieces.clear()

    def _uncut_bytes(self) -> int:
        return len(self._data) - self._begin + self._waiting

    def _untaken_bytes(self) -> int:
        """Count the bytes of the batch's frames that were not returned; looks at each frame once."""
        untaken = length_hint(self._iterator)
        if not untaken:
            return 0
        count = len(self._batch) - untaken - self._passed
        if count:
            spans = _room_for(_SPANS, count)
            end = ffi.new("size_t *")
            rest = ffi.from_buffer(self._source) + self._at
            scan = ffi.new("sb_scan *")
            lib.sb_frames_find(self._description, rest, self._end - self._at, scan, spans, count, end)
            self._passed += count
            self._at += end[0]
        return self._end - self._at

    def _put_back(self) -> None:
        """Turn the frames that were cut and not returned back into data."""
        size = self._untaken_bytes()
        if size:
            untaken = memoryview(self._source)[self._end - size : self._end]
            self._data = b"".join([untaken, memoryview(self._data)[self._begin :]])
            self._begin = 0
            self._base -= size
            self._batch.clear()
            self._scan = ffi.new("sb_scan *")
        self._source = b""

    def _drop(self) -> bool:
        """Skip what is held of a rejected frame; False when its end cannot be known."""
        self._join()
        drop = ffi.new("size_t *")
        source, size = ffi.from_buffer(self._data) + self._begin, len(self._data) - self._begin
        code = lib.sb_frame_discard(self._description, source, size, self._scan, drop)
        if code < 0:
            return False
        self._move_on(drop[0])
        self._is_discarding = code == 0
        return True


def _unstuffed(block: memoryview) -> memoryview:
    out = ffi.new("char[]", len(block) or 1)
    size = lib.sb_dot_unstuff(ffi.from_buffer(block), len(block), out)
    return block if size == len(block) else memoryview(bytes(ffi.buffer(out, size)))
