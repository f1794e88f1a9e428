# SPDX-License-Identifier: MIT
"""Batch handlers: one call of a function for all frames of one connection that arrived together.

A batch never holds frames of two connections, so that an exception ends no other
connection than the one whose frames were handed out.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sockd.errors import Close
from sockd.log.failure import error_info, user_line
from sockd.net.connection.codec import reply_bytes, wrong_count
from sockd.net.connection.events import ConnectionEvents
from sockd.net.connection.info import log_end
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from sockd.net.connection.codec import Codec
    from sockd.net.connection.table import ConnectionTable
    from sockd.services.api import BatchFunction, BatchReply

logger = logging.getLogger("sockd.handler")


def encode(replies: BatchReply, codec: Codec, frames: int, endings: list[bytes] | None = None) -> bytes:
    """Return the bytes of a batch's replies.

    Args:
        replies: bytes are sent unchanged (or as one packet); a list has one reply for each frame, None for no reply.
        codec: encodes each reply of a list.
        frames: number of frames.
        endings: line ending of each frame, if replies repeat it.

    Raises:
        TypeError, ValueError: the replies are neither, or not as many.
    """
    if isinstance(replies, (bytes, bytearray, memoryview)):
        return codec.block(replies)
    if replies is None:
        return b""
    if not isinstance(replies, list):
        kind = type(replies).__name__
        raise TypeError(f"the handler returned {kind}, not bytes or a list; return a list of one reply for each frame")
    if len(replies) != frames:
        raise wrong_count(len(replies), frames)
    if endings is None:
        return codec.encode_each(replies)
    pairs = zip(replies, endings, strict=True)
    return b"".join(reply_bytes(one) + ending for one, ending in pairs if one is not None)


class BatchHandler(ConnectionEvents):
    """Passes the frames of a connection of one turn to a function, and sends the result.

    Args:
        service: its name, for the log.
        function: answers a list of frames.
        codec: cuts frames, and makes them of replies.
    """

    def __init__(self, service: str, function: BatchFunction, codec: Codec, connections: ConnectionTable) -> None:
        self._service = service
        self._function = function
        self._codec = codec
        self._table = connections

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Answer the frames of one connection."""
        frames, endings = self._codec.cut(offset, size, count), self._codec.endings(offset, size)
        try:
            try:
                reply = encode(self._function(frames), self._codec, count, endings)
            except Close as close:
                self._table.write(id, encode([close.last_words], self._codec, 1, endings and endings[-1:]))
                self._table.shut(id, CloseReason.CLOSED)
                return
        except BaseException as error:
            event: dict[str, object] = {"service": self._service, "peer": str(self._table.peers.find(id))}
            event |= {"at": user_line(error, self._function), "frame_bytes": size, "frames": count}
            logger.error("handler failed", exc_info=error_info(error), extra={"event": event})
            self._table.shut(id, CloseReason.HANDLER_ERROR)
        else:
            if reply:
                self._table.write(id, reply)

    def snapshot(self, id: int) -> object:
        """Let every connection go: a function keeps nothing of it."""
        return True

    def closed(self, id: int, reason: CloseReason) -> None:
        """Log the end."""
        log_end(self._service, self._table, id, reason)
