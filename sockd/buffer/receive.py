# SPDX-License-Identifier: MIT
"""Received bytes in, frames out.

What is done for each piece and each frame is written in C (sockd/buffer/cutter.c), and says there how data are held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sockd._sockbuf import ffi, lib
from sockd.buffer.core import FrameCutter, description, receive
from sockd.buffer.errors import BufferFull, FrameError, Malformed, TooLong, Truncated
from sockd.wire.framing import Datagram

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from sockd.wire.framing import StreamFraming

CHUNK_BYTES = 256 * 1024
"""Maximum bytes of one read; asyncio's selector_events uses the same number."""

MAX_BYTES = 2**31 - 1
"""Of one buffer: what every size of C and Python has room for."""


class Receiver(Protocol):
    """What `ReceiveBuffer.receive_from` needs of a socket; an SSLSocket has it too."""

    def recv(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end of the stream."""


class ReceiveBuffer(FrameCutter):
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

    __slots__ = ("_framing", "_limit", "_max_bytes")

    _framing: StreamFraming
    _limit: int

    def __init__(self, framing: StreamFraming, *, max_bytes: int | None = None) -> None:
        self._max_bytes = max_bytes
        self._cut_by(framing)

    def _cut_by(self, framing: StreamFraming) -> None:
        if isinstance(framing, Datagram):
            raise TypeError("a datagram is already a frame; a stream buffer would join it with the next one")
        made = description(framing)
        least = lib.sb_framing_room(made)
        limit = min(least + CHUNK_BYTES, MAX_BYTES) if self._max_bytes is None else self._max_bytes
        if least > MAX_BYTES:
            raise ValueError(f"{framing!r} has frames of up to {least} bytes, and a buffer holds up to {MAX_BYTES}")
        if not least <= limit <= MAX_BYTES:
            raise ValueError(f"max_bytes must be {least} to {MAX_BYTES} for {framing!r}, not {limit}")
        self._framing, self._limit = framing, limit
        self._use(bytes(ffi.buffer(made)))
        self._set_limit(limit)

    @property
    def framing(self) -> StreamFraming:
        """How the data not yet returned is framed; may be set between two frames, also inside a loop over them."""
        return self._framing

    @framing.setter
    def framing(self, framing: StreamFraming) -> None:
        if framing != self._framing or self._is_stopped:
            self._cut_by(framing)

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
            ValueError: size is less than 1.
            BlockingIOError, TimeoutError, OSError: as the socket raises them.
        """
        room = self._limit - self.held
        if size < 1:
            raise ValueError(f"size must be 1 or more, not {size}")
        if room < 1:
            raise BufferFull(self._limit)
        size = min(size, room)
        data = receive(source, size) if isinstance(source, int) else source.recv(size)
        self.feed(data)
        return len(data)

    def views(self) -> Iterator[memoryview]:
        """Return frames as read-only views of the received data, without a copy where they are large.

        A view stays valid while it is referenced, and keeps the whole piece in which it was received; for long use,
        copy it to bytes.  A view of a copy is what a dot block with doubled dots gets, and a frame that came in several
        pieces and is less than what is held behind it.

        Raises:
            FrameError: as iteration.
        """
        has_yielded = False
        while True:
            try:
                view = self._pop_view()
            except FrameError:
                if has_yielded:
                    return
                raise
            if view is None:
                return
            has_yielded = True
            yield view

    def discard(self) -> None:
        """Skip the frame that is too long or malformed, including its delimiter.

        It was reported once, by the exception; the next frame is the one after it.  The rest of it is dropped as it
        arrives.

        Raises:
            ValueError: no frame was reported, or its framing has no delimiter.
        """
        is_skipped = self._discard()
        if is_skipped is None:
            raise ValueError("no frame was reported as too long or malformed")
        if not is_skipped:
            raise ValueError(f"{self._framing!r} has no delimiter after which to resume")

    def _refuse(self, code: int, offset: int, size: int) -> NoReturn:
        """Raise what a code of the C core means (for FrameCutter)."""
        if code == lib.SB_ERR_TOO_LONG:
            raise TooLong(offset, size)
        if code == lib.SB_ERR_MALFORMED:
            raise Malformed(offset)
        if code == lib.SB_ERR_TRUNCATED:
            raise Truncated(offset, size)
        if code == lib.SB_ERR_LIMIT:
            raise BufferFull(size)
        raise ValueError(f"{self._framing!r} is not a framing")
