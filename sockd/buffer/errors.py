# SPDX-License-Identifier: MIT
"""What can be wrong with a stream, and with what our caller does.

`FrameError` and its kinds are the peer's doing; `BufferFull` and
`PayloadError` are our caller's.
"""

from __future__ import annotations


class FrameError(Exception):
    """The stream cannot be cut into frames any further.

    Attributes:
        offset: bytes from the beginning of the stream; of what is said by each kind.
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
    """Bytes that are no frame; offset is that of the first one that cannot be."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"byte {offset} cannot be where it is", offset)


class Truncated(FrameError):
    """The stream ended within a frame.

    Attributes:
        offset: where the frame begins.
        size: bytes of it that came; `ReceiveBuffer.unread` has them.
    """

    def __init__(self, offset: int, size: int) -> None:
        super().__init__(f"the stream ended {size} bytes after byte {offset}, within a frame", offset)
        self.size = size


class BufferFull(Exception):
    """More than the buffer's limit; nothing of it was taken.

    Attributes:
        limit: in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"the buffer would hold more than {limit} bytes")
        self.limit = limit


class PayloadError(ValueError):
    """A payload that would not come back from its framing as it is: too long, or it holds a delimiter."""
