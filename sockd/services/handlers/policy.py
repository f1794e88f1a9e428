# SPDX-License-Identifier: MIT
"""What becomes of a frame that is too long, and of a last one that has no end, where that is not the connection's end.

The core finds the frame too long, and would close the connection.  Instead its bytes are looked through as they come,
without framing, until the frame's end is there; from behind that the stream goes on as it was cut before.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sockd.services.handlers.connection import PerConnectionHandler
from sockd.values import dataclass, field
from sockd.wire.close_reason import CloseReason
from sockd.wire.framing import BlankLine, Delimiter, DotBlock, Line, Nul, Raw, StrictLine

if TYPE_CHECKING:
    from sockd.services.handlers.connection import ConnectionFactory
    from sockd.services.spec import SinkTools
    from sockd.settings.service import TooLong, Unfinished
    from sockd.wire.framing import Framing


Ended = Line | StrictLine | Delimiter | Nul | BlankLine | DotBlock
"""Framings whose frames end with something to look for."""


@dataclass(frozen=True)
class FramePolicy:
    """What a service does about frames that are none.

    Attributes:
        too_long: close the connection, skip the frame, or hand out what it begins with, up to the limit.
        unfinished: of a last frame whose end has not come before the end of file.
    """

    too_long: TooLong = "close"
    unfinished: Unfinished = "drop"


STUFFED = re.compile(rb"(?:\A|(?<=\r\n))\.")
"""The dot that a line of a dot block has in front, if it begins with one (RFC 5321, 4.5.2)."""


def frame_terminator(framing: Framing) -> bytes | None:
    """Return what a frame ends with, in its longest form; None where it has no end to look for."""
    if isinstance(framing, Delimiter):
        return framing.delimiter
    ends: dict[type, bytes] = {
        Line: b"\n", StrictLine: b"\r\n", Nul: b"\0", BlankLine: b"\n\r\n", DotBlock: b"\r\n.\r\n"
    }  # fmt: skip
    return ends.get(type(framing))


def _terminator_pattern(framing: Framing, terminator: bytes) -> re.Pattern[bytes]:
    """Return what finds it: lines of a block that ends with an empty one end in LF or CR LF."""
    return re.compile(rb"\n\r?\n" if isinstance(framing, BlankLine) else re.escape(terminator))


def _beginning(framing: Framing, kept: bytes) -> bytes:
    """Return the frame that a longer one is cut to: of a block, the lines that are whole."""
    if not isinstance(framing, BlankLine | DotBlock):
        return kept
    end = b"\n" if isinstance(framing, BlankLine) else b"\r\n"
    lines, found, _ = kept.rpartition(end)
    return _payload(framing, lines + found if found else kept[: -len(end)])


def _payload(framing: Framing, rest: bytes) -> bytes:
    """Return the payload of what came of a frame without its end."""
    if isinstance(framing, Line):
        return rest.removesuffix(b"\r")
    return STUFFED.sub(b"", rest) if isinstance(framing, DotBlock) else rest


@dataclass
class _Skipped:
    """A frame that is too long, as far as it has come: what it begins with, and what may begin its end."""

    kept: bytearray = field(default_factory=bytearray)
    tail: bytes = b""


class PolicyHandler(PerConnectionHandler):
    """Does what a policy says, for services that have one.

    Args:
        service: its name, for the log.
        factory: of its connections.
        tools: connections are made with these.
        policy: not the common one.
        cut_by: the framing of the service.
    """

    def __init__(
        self, service: str, factory: ConnectionFactory, tools: SinkTools, policy: FramePolicy, cut_by: Ended
    ) -> None:
        super().__init__(service, factory, tools)
        self.policy = policy
        self.cut_by = cut_by
        end = frame_terminator(cut_by) or b""
        self._find_end = _terminator_pattern(cut_by, end).search
        self._tail_size = len(end) - 1
        self._skipped: dict[int, _Skipped] = {}

    def wrong(self, id: int, reason: CloseReason) -> None:
        """Go on without framing, up to the end of what is too long."""
        if reason is CloseReason.FRAME_TOO_LONG and self.policy.too_long != "close":
            self._skipped[id] = _Skipped()
            self._table.set_framing(id, Raw())

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Pass on, but what is too long."""
        skipped = self._skipped.get(id)
        if skipped is None:
            super().frames(index, id, part, offset, size, count)
            return
        data = self._table.block(offset, size)
        joined = skipped.tail + data
        found = self._find_end(joined)
        consumed = size if found is None else found.end() - len(skipped.tail)
        room = self.cut_by.max_bytes - len(skipped.kept) if self.policy.too_long == "cut" else 0
        skipped.kept += data[: min(room, consumed)]
        skipped.tail = joined[max(len(joined) - self._tail_size, 0) :]
        if found is not None:
            self._resume_framing(id, offset, consumed, size)

    def _resume_framing(self, id: int, offset: int, consumed: int, size: int) -> None:
        """Cut frames again, from behind the end."""
        kept = bytes(self._skipped.pop(id).kept)
        if consumed < size:
            self._table.unread(id, self._table.pointer(offset) + consumed, size - consumed, 1)
        self._table.set_framing(id, self.cut_by)
        if self.policy.too_long == "cut":
            self._live[id].hand(_beginning(self.cut_by, kept))

    def ended(self, id: int) -> None:
        """Take the last frame without its end, if that is wanted."""
        rest = b"" if id in self._skipped or self.policy.unfinished == "drop" else self._table.unfinished(id)
        if not rest:
            super().ended(id)
            return
        connection = self._live[id]
        connection.hand(_payload(self.cut_by, rest))
        connection.deliver_eof()

    def closed(self, id: int, reason: CloseReason) -> None:
        """Forget what was skipped."""
        self._skipped.pop(id, None)
        super().closed(id, reason)


__all__ = ["Ended", "FramePolicy", "PolicyHandler", "frame_terminator"]
