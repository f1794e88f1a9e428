# SPDX-License-Identifier: MIT
"""Serves frames by a function of one argument: a batch of many connections in, their replies out.

Frames that are ready in a turn are cut, handed to the function and answered in one call of C, however many connections
have sent them (sockd/net/connection/exchange.c).  A connection has no Python object here.  Whatever is not that plain
case - an exception, Close, a reply that is not bytes, or cannot be a frame - is answered here, connection by
connection, and no frame is ever handed to the function twice.
"""

from __future__ import annotations

import logging
from array import array
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from sockd.errors import is_close
from sockd.log.failure import error_info, user_line
from sockd.net.connection.codec import RecordCodec, reply_bytes
from sockd.net.connection.events import ConnectionEvents
from sockd.net.connection.info import log_end
from sockd.net.connection.turn import FIRST_CHECK, looks
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sockd.net.connection.codec import Codec
    from sockd.net.connection.table import ConnectionTable
    from sockd.services.api import LineFunction, Reply
    from sockd.wire.framing import Frame

logger = logging.getLogger("sockd.handler")
F = TypeVar("F", bound="Frame")


class FunctionHandler(ConnectionEvents):
    """Hands frames to a function and its replies to the table, which pauses and closes by itself.

    Args:
        service: its name, for the log.
        function: answers one frame; None answers nothing.
        codec: cuts frames, and makes them of replies.
    """

    replies_each = True

    def __init__(self, service: str, function: LineFunction, codec: Codec, connections: ConnectionTable) -> None:
        self._service = service
        self._function = function
        self._codec = codec
        self._table = connections

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Answer `count` frames, of one connection or of many."""
        if self._table.parts:
            self._answer_shown(index, id, part, self._codec.cut(offset, size, count))
            return
        left = self._codec.exchange.answer(index, offset, size, count, self._function, self._is_late)
        if left is not None:
            frames, done, error = left
            self._answer_connections(index, self._parts(id, part, len(frames)), frames, done, error)

    def _answer_shown(self, index: int, id: int, part: int, frames: list[Frame]) -> None:
        """Do the same by way of the table, which shows the replies to somebody (sockd.net.connection.tapped)."""
        done: list[Reply] = []
        error = self._answer(index, frames, done)
        self._answer_connections(index, self._parts(id, part, len(frames)), frames, done, error)

    def _is_late(self, index: int, frames: int) -> bool:
        """Whether the turn has taken too long: then only the first frames of the event are answered in it."""
        if not self._table.turn.is_late:
            return False
        self._table.turn.cut(index, frames)
        return True

    def _answer(self, index: int, frames: list[F], done: list[Reply]) -> BaseException | None:
        """Add the replies to `done`; return the exception of the frame after the last of them.

        Frames without time in this turn are removed from the event, and from `frames`.
        """
        if len(frames) <= FIRST_CHECK:
            return self._answer_some(frames, len(frames), done)
        left = iter(frames)
        for at, end in looks(len(frames)):
            if at and self._table.turn.is_late:
                self._table.turn.cut(index, at)
                del frames[at:]
                break
            some = (
                left if end == len(frames) else islice(left, end - at)
            )  # the last ones, nearly all, cost nothing more
            error = self._answer_some(some, end, done)
            if error is not None:
                return error
        return None

    def _answer_some(self, frames: Iterable[Frame], end: int, done: list[Reply]) -> BaseException | None:
        """Answer frames, until there are `end` replies."""
        try:
            done.extend(map(self._function, frames))  # keeps what came before an exception
        except BaseException as raised:
            return raised
        return None if len(done) == end else StopIteration()  # which map() takes for an end

    def _parts(self, id: int, part: int, count: int) -> list[tuple[int, int]]:
        return [(id, count)] if id >= 0 else list(self._table.turn.parts(part, count))

    def _answer_connections(
        self,
        index: int,
        parts: list[tuple[int, int]],
        frames: Sequence[Frame],
        done: list[Reply],
        error: BaseException | None,
        endings: list[bytes] | None = None,
    ) -> None:
        """Answer connection by connection.

        Args:
            parts: (id, number of frames) of each connection.
            done: the replies to the first frames that are known already.
            error: what the frame after these raised.
            endings: what ended each line, where it is answered in kind.
        """
        replies: list[bytes] = []
        ends: list[tuple[int, CloseReason]] = []
        at = 0
        for id, count in parts:
            for i in range(at, at + count):
                ending = endings[i] if endings else None
                try:
                    if i == len(done) and error is not None:
                        raise error
                    replies.append(self._encode(done[i] if i < len(done) else self._function(frames[i]), ending))
                except BaseException as raised:
                    words, reason = self._end(raised, id, frames[i], ending)
                    BaseException.with_traceback(raised, None)  # else a circle: frames of which one has it by name
                    replies.append(words)
                    ends.append((id, reason))
                    replies += [b""] * (at + count - i - 1)
                    break
            at += count
        self._table.reply_lengths(index, b"".join(replies), array("I", map(len, replies)))
        for id, reason in ends:
            self._table.shut(id, reason)

    def _encode(self, reply: Reply, ending: bytes | None) -> bytes:
        if reply is None:
            return b""
        return self._codec.encode(reply) if ending is None else reply_bytes(reply) + ending

    def _end(self, error: BaseException, id: int, frame: Frame, ending: bytes | None) -> tuple[bytes, CloseReason]:
        """Return the last words to a connection, and why it ends."""
        if is_close(error):
            try:
                return self._encode(error.last_words, ending), CloseReason.CLOSED
            except BaseException as raised:  # what they are is the handler's doing
                error = raised
        peer = str(self._table.peers.find(id))
        at = user_line(error, self._function)
        event = {"service": self._service, "peer": peer, "at": at, "frame_bytes": self._codec.payload_size(frame)}
        logger.error("handler failed", exc_info=error_info(error), extra={"event": event})
        return b"", CloseReason.HANDLER_ERROR

    def snapshot(self, id: int) -> object:
        """Let every connection go: a function keeps nothing of it."""
        return True

    def closed(self, id: int, reason: CloseReason) -> None:
        """Log the end."""
        log_end(self._service, self._table, id, reason)


class RecordHandler(FunctionHandler):
    """Does the same for records, which are tuples on both sides."""

    def __init__(self, service: str, function: LineFunction, codec: RecordCodec, connections: ConnectionTable) -> None:
        super().__init__(service, function, codec, connections)
        self._records = codec

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Answer `count` records."""
        frames = self._codec.cut(offset, size, count)
        done: list[Reply] = []
        error = self._answer(index, frames, done)
        if error is None and self._records.reply(index, done):
            return
        self._answer_connections(index, self._parts(id, part, len(frames)), frames, done, error)


class SameEndingHandler(FunctionHandler):
    """Ends each reply as the line was ended that it answers."""

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Answer `count` lines; where all end in LF, as for every line service."""
        endings = self._codec.endings(offset, size)
        if endings is None:
            super().frames(index, id, part, offset, size, count)
            return
        lines = self._codec.cut(offset, size, count)
        done: list[Reply] = []
        error = self._answer(index, lines, done)
        self._answer_connections(index, self._parts(id, part, len(lines)), lines, done, error, endings)


def function_sink(service: str, function: LineFunction, codec: Codec, connections: ConnectionTable) -> FunctionHandler:
    """Return the sink of a function.

    Args:
        service: its name, for the log.
        function: answers one frame; None answers nothing.
        codec: of the service's framing.
        connections: where frames come from.
    """
    if isinstance(codec, RecordCodec):
        return RecordHandler(service, function, codec, connections)
    kind = SameEndingHandler if codec.is_in_kind else FunctionHandler
    return kind(service, function, codec, connections)
