# SPDX-License-Identifier: MIT
"""Output written to a connection in this turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class WriteBuffer:
    """Pieces of output, gathered until the end of the turn.

    Attributes:
        pieces: in their order.
        room: bytes that may be added without further checks; -1: none.
        is_listed: the table knows that there are some.
    """

    __slots__ = ("_room_empty", "is_listed", "pieces", "room")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.room = self._room_empty = -1
        self.is_listed = False

    def open(self, room: int) -> None:
        """Have room for so many bytes in each turn."""
        self._room_empty = room
        self.room = -1 if self.pieces else room

    def shut(self) -> None:
        """Have none from now on: what is added has to be looked at."""
        self.room = self._room_empty = -1

    @property
    def size(self) -> int:
        """Number of bytes."""
        return sum(map(len, self.pieces))

    def pop_all(self) -> bytes:
        """Return the pieces, and empty it."""
        pieces = self.pieces
        self.room = self._room_empty
        self.is_listed = False
        if len(pieces) == 1:
            return pieces.pop()
        block = b"".join(pieces)
        pieces.clear()
        return block

    def clear(self) -> None:
        """Drop the pieces, of a connection that ends."""
        self.pieces.clear()
        self.shut()


def pop_each(buffers: Iterable[WriteBuffer]) -> list[bytes]:
    """Return what pop_all() returns for each, without its calls: most have one piece."""
    blocks = []
    for buffer in buffers:
        if len(buffer.pieces) == 1:
            buffer.room = buffer._room_empty
            buffer.is_listed = False
            blocks.append(buffer.pieces.pop())
        else:
            blocks.append(buffer.pop_all())
    return blocks


def as_bytes(data: object) -> bytes:
    """Return data to be written as bytes.

    Raises:
        TypeError: it is not bytes-like.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        remedy = "; encode it: data.encode()" if isinstance(data, str) else ""
        raise TypeError(f"data: expected a bytes-like object, not {type(data).__name__}{remedy}")
    return bytes(data)
