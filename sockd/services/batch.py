"""Serves all lines of one connection that came together by one call of a function.

A batch never holds lines of two connections, so that an exception ends no other
connection than the one whose lines were handed out.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sockd.errors import Close
from sockd.net import packed
from sockd.net.connection_set import Sink
from sockd.net.connection_sink import log_end
from sockd.wire.framing import Line
from sockd.wire.state import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection_set import ConnectionSet
    from sockd.services.service import BatchReply
    from sockd.wire.framing import Framing

logger = logging.getLogger("sockd.handler")


def encode(replies: BatchReply, ending: bytes, frames: int) -> bytes:
    """Return the bytes of a batch's replies.

    Args:
        replies: bytes are sent as they are; a list has one reply for each frame, None for nothing.
        ending: put behind each reply of a list.
        frames: how many were asked.

    Raises:
        TypeError, ValueError: the replies are neither, or not as many.
    """
    if isinstance(replies, (bytes, bytearray, memoryview)):
        return bytes(replies)
    if replies is None:
        return b""
    if not isinstance(replies, list):
        raise TypeError(f"the handler returned {type(replies).__name__}, not bytes or a list")
    if len(replies) != frames:
        raise ValueError(f"the handler returned {len(replies)} replies to {frames} frames")
    try:
        return ending.join(replies) + ending if replies else b""  # type: ignore[arg-type] # None: see below
    except TypeError:
        wrong = next((one for one in replies if not isinstance(one, (bytes, bytearray, memoryview, type(None)))), None)
        if wrong is not None:
            raise TypeError(f"the handler returned a list with {type(wrong).__name__}, not bytes or None") from None
    return b"".join(bytes(one) + ending for one in replies if one is not None)


class BatchSink(Sink):
    """Hands what came of a connection in one turn to a function, and sends what it returns.

    Args:
        service: its name, for the log.
        function: answers a list of frames.
    """

    def __init__(
        self,
        service: str,
        function: Callable[[list[bytes]], BatchReply],
        framing: Framing,
        connections: ConnectionSet,
    ) -> None:
        self._service = service
        self._function = function
        self._is_line = isinstance(framing, Line)
        self._ending = framing.ending if isinstance(framing, Line) else b""
        self._set = connections

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Answer the frames of one connection."""
        block = self._set.block(offset, size - self._is_line)
        frames = block.split(b"\n") if self._is_line else [block]
        try:
            reply = encode(self._function(frames), self._ending, count)
        except Close as close:
            self._set.write(id, b"" if close.last_words is None else close.last_words + self._ending)
            self._set.shut(id, CloseReason.CLOSED)
        except Exception as error:
            info = self._set.info(id)
            event = {"service": self._service, "peer": packed.text(info.peer, info.fd), "frame_bytes": size}
            logger.error("handler failed", exc_info=error, extra={"event": event | {"frames": count}})
            self._set.shut(id, CloseReason.HANDLER_ERROR)
        else:
            if reply:
                self._set.write(id, reply)

    def closed(self, id: int, reason: CloseReason) -> None:
        """Log the end."""
        log_end(self._service, self._set, id, reason)
