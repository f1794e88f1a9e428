"""Serves lines by a function of one argument: a batch of many connections in, their replies out.

The whole of a turn's lines is one block of bytes: one split, one map, one join,
and one call that sends every connection its part.  A connection has no Python
object here.  Whatever is not that plain case - None, a reply of several lines,
an exception, Close - is settled connection by connection, and no line is ever
handed to the function twice.
"""

from __future__ import annotations

import logging
from array import array
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
    from sockd.services.service import Reply
    from sockd.wire.framing import Framing

logger = logging.getLogger("sockd.handler")


class FunctionSink(Sink):
    """Hands frames to a function and its replies to the set; pausing and closing the set does by itself.

    Args:
        service: its name, for the log.
        function: answers one frame; None answers nothing.
    """

    def __init__(
        self, service: str, function: Callable[[bytes], Reply], framing: Framing, connections: ConnectionSet
    ) -> None:
        self._service = service
        self._function = function
        self._is_line = isinstance(framing, Line)
        self._ending = framing.ending if isinstance(framing, Line) else b""
        self._set = connections

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Answer `count` frames, of one connection or of many."""
        if not self._is_line:
            self._settle(index, [(id, 1)], [self._set.block(offset, size)], [], None)
        elif count == 1:
            self._one(index, id, part, self._set.block(offset, size - 1))
        else:
            self._many(index, id, part, self._set.block(offset, size - 1).split(b"\n"))

    def _one(self, index: int, id: int, part: int, line: bytes) -> None:
        error: Exception | None = None
        done: list[Reply] = []
        try:
            reply = self._function(line)
        except Exception as raised:
            error = raised
        else:
            if type(reply) is bytes and self._set.reply_lines(index, reply + self._ending):
                return
            done.append(reply)
        self._settle(index, self._parts(id, part, 1), [line], done, error)

    def _many(self, index: int, id: int, part: int, lines: list[bytes]) -> None:
        error: Exception | None = None
        done: list[Reply] = []
        try:
            done.extend(map(self._function, lines))  # keeps what came before an exception
        except Exception as raised:
            error = raised
        else:
            try:
                block = self._ending.join(done) + self._ending  # type: ignore[arg-type] # None: settled below
            except TypeError:
                block = b""
            if self._set.reply_lines(index, block):
                return
        self._settle(index, self._parts(id, part, len(lines)), lines, done, error)

    def _parts(self, id: int, part: int, count: int) -> list[tuple[int, int]]:
        return [(id, count)] if id >= 0 else list(self._set.parts(part, count))

    def _settle(
        self,
        index: int,
        parts: list[tuple[int, int]],
        lines: list[bytes],
        done: list[Reply],
        error: Exception | None,
    ) -> None:
        """Answer connection by connection.

        Args:
            parts: (id, number of lines) of each connection.
            done: the replies to the first lines that are known already.
            error: what the line after these raised.
        """
        replies: list[bytes] = []
        ends: list[tuple[int, CloseReason]] = []
        at = 0
        for id, count in parts:
            for i in range(at, at + count):
                try:
                    if i == len(done) and error is not None:
                        raise error
                    replies.append(self._encode(done[i] if i < len(done) else self._function(lines[i])))
                except Exception as raised:
                    replies.append(self._last_words(raised))
                    ends.append((id, self._reason(raised, id, lines[i])))
                    replies += [b""] * (at + count - i - 1)
                    break
            at += count
        self._set.reply_lengths(index, b"".join(replies), array("I", map(len, replies)))
        for id, reason in ends:
            self._set.shut(id, reason)

    def _encode(self, reply: Reply) -> bytes:
        if reply is None:
            return b""
        if isinstance(reply, (bytes, bytearray, memoryview)):
            return bytes(reply) + self._ending
        raise TypeError(f"the handler of service {self._service} returned {type(reply).__name__}, not bytes or None")

    def _last_words(self, error: Exception) -> bytes:
        return self._encode(error.last_words) if isinstance(error, Close) else b""

    def _reason(self, error: Exception, id: int, line: bytes) -> CloseReason:
        if isinstance(error, Close):
            return CloseReason.CLOSED
        info = self._set.info(id)
        event = {"service": self._service, "peer": packed.text(info.peer, info.fd), "frame_bytes": len(line)}
        logger.error("handler failed", exc_info=error, extra={"event": event})
        return CloseReason.HANDLER_ERROR

    def closed(self, id: int, reason: CloseReason) -> None:
        """Log the end."""
        log_end(self._service, self._set, id, reason)
