# SPDX-License-Identifier: MIT
"""The writing side of a connection: what was written in a turn, and what is to be done behind it.

Its methods are those of asyncio.WriteTransport, but for close() and abort(), which end the reading side as well
(sockd.net.connection.connection).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.connection.codec import reply_bytes
from sockd.net.connection.life import LIFE, Life
from sockd.net.connection.write_buffer import WriteBuffer, as_bytes
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockd.net.connection.codec import Codec
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.tls.starttls import StartTlsUpgrade

NEW, OPEN, FINISHING, CLOSING, ENDED = Life


class WriteTransport:
    """Gathers what is written, until the table sends it at the end of the turn.

    Attributes:
        id: the connection's number while it lives.
        outbox: what was written in this turn.
        has_more: something is to be done behind it.
        reply_ending: what a reply to the frame that is handed out now ends with, where replies end in kind.
    """

    __slots__ = (
        "_codec", "_high", "_is_high", "_life", "_low", "_reason", "_starting", "_table",
        "has_more", "id", "outbox", "reply_ending",
    )  # fmt: skip

    def __init__(self, id: int, connections: ConnectionTable, codec: Codec, high_water: int) -> None:
        self.id = id
        self._table = connections
        self._codec = codec
        self.reply_ending: bytes | None = None
        self._life = Life.NEW
        self._reason = CloseReason.NONE
        self.outbox = WriteBuffer()
        self._high = high_water
        self._low = high_water // 4
        self.has_more = self._is_high = False
        self._starting: StartTlsUpgrade | None = None

    @property
    def _ended(self) -> bool:
        return self._life is NEW or self._life is ENDED

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, after everything written before; they are dropped if the connection is closing.

        Raises:
            TypeError: data is not bytes-like.
            RuntimeError: write_eof() was called.
        """
        outbox = self.outbox
        if type(data) is bytes and (room := outbox.room - len(data)) >= 0:
            outbox.room = room
            outbox.pieces.append(data)
            if not outbox.is_listed:
                outbox.is_listed = True
                self._table.will_write(self)
        else:
            self.write_checked(data)

    def write_checked(self, data: bytes | bytearray | memoryview) -> None:
        """Do the same, where it is too much, too early, too late or not bytes."""
        if type(data) is not bytes:
            data = as_bytes(data)
        if self._life is not OPEN:
            if self._life is FINISHING:
                raise RuntimeError("write() after write_eof()")
            if self._life is not NEW:
                return
        outbox = self.outbox
        outbox.pieces.append(data)
        outbox.room = room = self._high - (len(data) if len(outbox.pieces) == 1 else outbox.size)
        if not outbox.is_listed:
            outbox.is_listed = True
            self._table.will_write(self)
        if room < 0:
            self._write_now()

    def _write_now(self) -> None:
        if self._starting is not None and self._starting.is_held:
            self._report_high()
            return
        self._table.write(self.id, self.outbox.pop_all())
        self.outbox.is_listed = True  # still
        if self._table.output_pending_bytes(self.id) > self._high:
            self.pause()  # at once, as asyncio: its receiver may be writing in a loop until it is told

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write all of them, or none if one is not bytes-like, as asyncio does."""
        for data in [as_bytes(data) for data in list_of_data]:
            self.write(data)

    def reply(self, frame: object) -> None:
        """Send a payload as one frame: bytes, str if the service has a text encoding, or a tuple for records.

        Raises:
            TypeError: it is none of these.
            sockd.buffer.PayloadError: the framing cannot represent it, or it is too long.
        """
        ending = self.reply_ending
        self.write(self._codec.encode(frame) if ending is None else reply_bytes(frame) + ending)

    def can_write_eof(self) -> bool:
        """Return True."""
        return True

    def write_eof(self) -> None:
        """Send FIN after everything written; input is still received (FAQ II.6)."""
        if self._life is OPEN:
            self._life = LIFE.step(self._life, FINISHING)
            self.outbox.shut()
            self._list()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that were written and that the kernel has not accepted yet."""
        return self.outbox.size + (0 if self._ended else self._table.output_pending_bytes(self.id))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the water marks, in bytes; the defaults are asyncio's.

        Raises:
            ValueError: unless 0 <= low <= high.
        """
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not 0 <= low <= high:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        if self._life is OPEN:
            self.outbox.open(high)
        self.apply_water()

    def apply_water(self) -> None:
        """Have the table report by the water marks of this connection."""
        if not self._ended:
            self._table.set_water(self.id, self._high, self._low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the water marks (low, high), in bytes."""
        return self._low, self._high

    def _list(self) -> None:
        self.has_more = True
        if not self.outbox.is_listed:
            self.outbox.is_listed = True
            self._table.will_write(self)

    def flushed(self) -> None:
        """Do what was to come behind the output (for the table)."""
        self.has_more = False
        if self._life is CLOSING:
            self._table.shut(self.id, self._reason)
        elif self._starting is not None:  # and its end, if any, comes encrypted
            self.outbox.is_listed = True  # what is written from now on is not for everybody
            self._starting.try_start()
        elif self._life is FINISHING:
            self._table.shutdown(self.id)
        elif self._table.output_pending_bytes(self.id) <= self._high:
            self.resume()  # what a handshake has held has left; where more than that is unsent, the table tells later

    def pause(self) -> None:
        """Tell that high water is passed, once."""
        raise NotImplementedError

    def resume(self) -> None:
        """Tell that low water is reached."""
        raise NotImplementedError

    def _report_high(self) -> None:
        raise NotImplementedError


__all__ = ["WriteTransport"]
