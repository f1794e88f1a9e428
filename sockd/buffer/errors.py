# SPDX-License-Identifier: MIT
"""Errors of a stream, and errors of the caller.

`FrameError` and its subclasses are caused by the peer; `BufferFull` and `PayloadError` by the caller.
"""

from __future__ import annotations


class FrameError(Exception):
    """The stream cannot be framed any further.

    Attributes:
        offset: bytes from the beginning of the stream; each subclass says of what.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class TooLong(FrameError):
    """A frame is, or must become, longer than the limit.

    Attributes:
        offset: where the frame begins, header included.
        limit: the framing's, in bytes.
    """

    def __init__(self, offset: int, limit: int) -> None:
        super().__init__(f"the frame at byte {offset} is longer than {limit} bytes", offset)
        self.limit = limit


class Malformed(FrameError):
    """Bytes that are not a frame; offset is that of the first invalid one."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"unexpected byte at offset {offset}", offset)


class Truncated(FrameError):
    """The stream ended within a frame.

    Attributes:
        offset: where the frame begins.
        size: bytes of it that were received; `ReceiveBuffer.unread` has them.
    """

    def __init__(self, offset: int, size: int) -> None:
        super().__init__(f"end of stream within a frame, {size} bytes after offset {offset}", offset)
        self.size = size


class BufferFull(Exception):
    """The data exceeds the buffer's limit; none of it was added.

    Attributes:
        limit: in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"the buffer would hold more than {limit} bytes")
        self.limit = limit


class PayloadError(ValueError):
    """A payload that cannot be encoded in its framing: it is too long, or contains a delimiter."""
