# SPDX-License-Identifier: MIT
"""Frames in, bytes out as the peer accepts them.

Frames are joined in one bytearray, so that many small ones leave in one system call.  Large pieces of bytes are kept as
they are, in the order in which they came; pieces leave together, in one gather write.  What a target is given does not
change any more, so that it may keep it, or write more meanwhile.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from sockd.buffer.core import plain, send
from sockd.buffer.encoder import encoder_for
from sockd.buffer.errors import BufferFull, PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockd.wire.framing import AnyFraming

    Data = bytes | bytearray | memoryview

HIGH_WATER_BYTES = 64 * 1024
"""asyncio's default, transports' set_write_buffer_limits."""

MAX_BYTES = 64 * 1024 * 1024
KEPT_BYTES = 64 * 1024
"""A bytes object of at least this size is kept without a copy: copying it costs as much as a system call."""

GATHERED = 64
"""Pieces per system call; POSIX guarantees 16, Linux has 1024."""


class Sender(Protocol):
    """What `SendBuffer.send_to` needs of a socket; an SSLSocket has it too."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Send some of the data and return how many bytes."""


class SendBuffer:
    """Holds data that the peer has not accepted yet.

        buffer = SendBuffer(Netstring(1000))
        buffer.append(b"hello")
        buffer.send_to(sock)

    Args:
        framing: what `append` and `extend` encode with.
        max_bytes: limit of held bytes.
        high_water: bytes above which `is_high` is true: stop producing.
    """

    __slots__ = ("_buffer", "_encoder", "_kept", "_max_bytes", "_pieces", "high_water")

    def __init__(self, framing: AnyFraming, *, max_bytes: int = MAX_BYTES, high_water: int = HIGH_WATER_BYTES) -> None:
        self._max_bytes = max_bytes
        self.high_water = high_water
        self._buffer = bytearray()  # of Python's: threads that forget whose it is find its bytes mixed, and no worse
        self._pieces: deque[memoryview] = deque()  # before what _buffer has
        self._kept = 0  # bytes of them
        self._encoder = encoder_for(framing)

    @property
    def framing(self) -> AnyFraming:
        """The framing of the next frames; may be changed between two."""
        return self._encoder.framing

    @framing.setter
    def framing(self, framing: AnyFraming) -> None:
        self._encoder = encoder_for(framing)

    def __len__(self) -> int:
        """Bytes held."""
        return self._kept + len(self._buffer)

    @property
    def is_high(self) -> bool:
        """Whether more than high_water bytes are held."""
        return len(self) > self.high_water

    # ---- in

    def append(self, payload: Data) -> None:
        """Add one frame.

        Raises:
            PayloadError: longer than the framing's limit, or not encodable: it contains the delimiter, or does not
                have the fixed size.
            BufferFull: there is no room; nothing was added.
        """
        self.write(self._encoder.encode(payload))

    def extend(self, payloads: Iterable[Data]) -> None:
        """Add a frame for each payload, made in one call.

        Raises:
            PayloadError, BufferFull: as append; the payloads before it were added.
        """
        payloads = payloads if isinstance(payloads, list) else list(payloads)
        try:
            self.write(self._encoder.encode_all(payloads))
        except (PayloadError, BufferFull, TypeError):
            for payload in payloads:
                self.append(payload)

    def write(self, data: Data) -> None:
        """Add bytes that are already framed.

        Raises:
            BufferFull: there is no room; nothing was added.
        """
        if type(data) is not bytes:
            data = plain(data)
        size = len(data)
        if size > self._max_bytes - len(self):
            raise BufferFull(self._max_bytes)
        if size >= KEPT_BYTES and type(data) is bytes:
            self._seal()
            self._pieces.append(memoryview(data))
            self._kept += size
        else:
            self._buffer.extend(data)

    def _seal(self) -> None:
        """Move what was joined behind the pieces."""
        if self._buffer:
            joined, self._buffer = self._buffer, bytearray()
            self._pieces.append(memoryview(joined).toreadonly())
            self._kept += len(joined)

    # ---- out

    def send_to(self, target: Sender | int) -> int:
        """Send as much as possible in one system call; the rest stays.

        Args:
            target: a socket, blocking or not as it is set; or the number of a descriptor of any kind, which never
                blocks and raises no SIGPIPE.

        Returns:
            The number of bytes sent; 0 also when nothing can be sent now.

        Raises:
            OSError: as the socket raises it; all data is still held.
            TypeError: the target's send() does not return how many bytes it has taken, as that of a transport, which
                gets pop_all().
        """
        if not self._pieces:
            self._seal()
        sent = self._send_pieces(target) if self._pieces else 0
        if not isinstance(sent, int) or not 0 <= sent <= self._kept:
            raise TypeError(f"send() returned {sent!r}, not how many bytes it has taken; a transport gets pop_all()")
        self._consume(sent)
        return sent

    def _send(self, target: Sender | int, view: memoryview) -> int:
        try:
            return send(target, view) if isinstance(target, int) else target.send(view)
        except BlockingIOError:
            return 0

    def _send_pieces(self, target: Sender | int) -> int:
        gather = getattr(target, "sendmsg", None)
        if gather is None or len(self._pieces) == 1:
            return self._send(target, self._pieces[0])
        try:
            return int(gather(list(islice(self._pieces, GATHERED))))
        except BlockingIOError:
            return 0
        except NotImplementedError:  # an SSLSocket has the method, and this is what it does
            return self._send(target, self._pieces[0])

    def _consume(self, sent: int) -> None:
        self._kept -= sent
        while sent:
            piece = self._pieces.popleft()
            if len(piece) > sent:
                self._pieces.appendleft(piece[sent:])
                return
            sent -= len(piece)

    def pop_all(self) -> bytes:
        """Return all data, for a transport with its own buffer: `transport.write(buffer.pop_all())`."""
        if self._pieces:
            self._seal()
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._kept = 0
        else:
            data = bytes(self._buffer)
            self._buffer.clear()
        return data
