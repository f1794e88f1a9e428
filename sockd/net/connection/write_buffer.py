# SPDX-License-Identifier: MIT
"""Output written to a connection in this turn."""

from __future__ import annotations


class WriteBuffer:
    """Pieces of output, gathered until the end of the turn.

    Attributes:
        pieces: in their order.
        room: bytes that may be added without further checks; -1: none.
        is_listed: the table knows that there are some.
    """

    __slots__ = ("is_listed", "pieces", "room")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.room = -1
        self.is_listed = False

    @property
    def size(self) -> int:
        """Number of bytes."""
        return sum(map(len, self.pieces))

    def pop_all(self) -> bytes:
        """Return the pieces, and empty it."""
        pieces = self.pieces
        self.room = -1
        self.is_listed = False
        if len(pieces) == 1:
            return pieces.pop()
        block = b"".join(pieces)
        pieces.clear()
        return block

    def clear(self) -> None:
        """Drop the pieces."""
        self.pieces.clear()
        self.room = -1


def as_bytes(data: object) -> bytes:
    """Return data to be written as bytes.

    Raises:
        TypeError: it is not bytes-like.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data: expected a bytes-like object, not {type(data).__name__}")
    return bytes(data)
