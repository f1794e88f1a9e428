# SPDX-License-Identifier: MIT
"""What passes, shown to an observer: the frames of a group on their way to its sink, and what is sent.

Nothing here is on the way of a frame while nobody looks: for the time of an observation the table is of another class,
and a group has another sink.  Where single connections are observed, their frames are events of their own: those of the
others are merged, and answered by the C core, as before.  Frames that a sink gives back come again, and are shown once.
What is sent is shown as it was written; what was received is shown frame by frame, without what frames it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sockd._sockbuf import ffi, lib
from sockd.net.connection.events import ConnectionEvents, PassedEvents
from sockd.net.connection.group import describe
from sockd.net.connection.table import ConnectionTable
from sockd.net.connection.turn import EVENT, EVENT_SIZE

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Sequence

    from sockd.net.connection.table import Writer
    from sockd.wire.framing import Framing

    Parts = list[tuple[int, int, int]]


class Observer(Protocol):
    """Who is shown what passes.

    Attributes:
        ignored: connections that it is known not to watch; the same set for as long as it is there.
        is_apart: it watches single connections, whose frames are not merged with those of others.
    """

    ignored: set[int]
    is_apart: bool

    def room(self, id: int) -> int:
        """Return how many frames of a connection it wants now; -1: it does not watch that connection."""

    def show(self, id: int, direction: str, data: bytes, size: int) -> None:
        """Show a frame: its first bytes, and how many it has."""

    def leave_out(self, id: int, frames: int) -> None:
        """Count frames that are not shown."""

    def rest(self, id: int, frames: int) -> None:
        """Have a connection be served with the others of its group for as long as there is no room for it.

        Args:
            frames: of this event, which are to be counted with those that come meanwhile, and a reply to each.
        """

    def forget(self, id: int) -> None:
        """A connection has ended."""


class TappedTable(ConnectionTable):
    """The table while an observer is there.

    Attributes:
        observer: who is shown what is sent.
        parts: (id, frames, bytes) of the event that is answered now.
    """

    observer: Observer
    parts: Parts
    given_back: dict[int, int]

    def _show(self, id: int, data: bytes) -> None:
        if id in self.observer.ignored:
            return
        packets = self.groups.packets.get(self.info(id).group) if self.groups.packets else None
        for one in [data] if packets is None else packets.split(data):
            room = self.observer.room(id)
            if room > 0:
                self.observer.show(id, "out", one, len(one))
            elif room == 0:
                self.observer.leave_out(id, 1)

    def reply_from(self, index: int, source: Any, size: int, lengths: array[int]) -> None:  # noqa: ANN401 - cffi's
        """Show the replies, too."""
        super().reply_from(index, source, size, lengths)
        if self.parts:
            block, at, replies = source if isinstance(source, bytes) else ffi.unpack(source, size), 0, []
            for length in lengths if self._room() > 0 else ():
                replies.append(block[at : at + length])
                at += length
            self._show_each(replies)

    def _room(self) -> int:
        return max(self.observer.room(id) for id, _, _ in self.parts)

    def _show_each(self, replies: Sequence[bytes]) -> None:
        """Show one reply for each frame of the event, each to its connection."""
        at = 0
        for id, count, _ in self.parts:
            own = [reply for reply in replies[at : at + count] if reply]
            if self.groups.packets and (packets := self.groups.packets.get(self.info(id).group)) is not None:
                own = [packet for reply in own for packet in packets.split(reply)]
            room = self.observer.room(id)
            for reply in own[: max(room, 0)]:
                self.observer.show(id, "out", reply, len(reply))
            if (left := count - len(own[: max(room, 0)])) and room >= 0:
                self.observer.leave_out(id, left)
            at += count

    def write(self, id: int, data: bytes) -> None:
        """Show it, too."""
        super().write(id, data)
        if data:
            self._show(id, data)

    def _send_dirty(self, dirty: Sequence[Writer]) -> None:
        ignored = self.observer.ignored
        for writer in dirty:
            if writer.outbox.pieces and writer.id not in ignored and self.observer.room(writer.id) >= 0:
                for piece in [one for one in writer.outbox.pieces if one]:
                    self._show(writer.id, piece)
        super()._send_dirty(dirty)

    def unread(self, id: int, source: Any, size: int, frames: int) -> None:  # noqa: ANN401 - cffi's
        """Note that they come again."""
        super().unread(id, source, size, frames)
        self.given_back[id] = self.given_back.get(id, 0) + frames

    def cut_parts(self, index: int, parts: Parts) -> list[tuple[int, int]]:
        """Note which frames of an event have been given back by Turn.cut(); return how many of each were kept."""
        _, id, _, first, _, _, count = EVENT.unpack_from(self._events, index * EVENT_SIZE)
        if count == sum(frames for _, frames, _ in parts):
            return [(one, frames) for one, frames, _ in parts]
        left = count
        kept = dict([(id, count)] if id >= 0 else self.turn.parts(first, count))
        counts = []
        for one, frames, _ in parts:
            handed = min(kept.get(one, 0), left)
            left -= handed
            counts.append((one, handed))
            if handed < frames:
                self.given_back[one] = self.given_back.get(one, 0) + frames - handed
        return counts

    def _forget(self, id: int) -> None:
        super()._forget(id)
        self.given_back.pop(id, None)
        self.observer.forget(id)


def tap(connections: ConnectionTable, observer: Observer) -> TappedTable:
    """Show what a table sends to an observer, until untap()."""
    connections.__class__ = TappedTable
    assert isinstance(connections, TappedTable)
    connections.observer, connections.parts, connections.given_back = observer, [], {}
    return connections


def untap(connections: ConnectionTable) -> None:
    """Show nothing any more, and have every group its own sink again."""
    for group, sink in enumerate(connections.groups.sinks):
        if isinstance(sink, TappedEvents):
            connections.groups.sinks[group] = sink.inner
            connections.groups.serve(group, sink.core)
    connections.__class__ = ConnectionTable


class TappedEvents(PassedEvents):
    """Shows frames, then passes them to another sink.

    Args:
        inner: the group's own sink.
        connections: tapped.
        framing: of the group.
        core: number of the service of the C core that answers otherwise; 0: none.
        answer: what it answers to a block of frames.
    """

    def __init__(
        self,
        inner: ConnectionEvents,
        connections: TappedTable,
        framing: Framing,
        core: int = 0,
        answer: Callable[[bytes], bytes | None] | None = None,
    ) -> None:
        super().__init__(inner)
        self.core = core
        self._connections = connections
        self._description = describe(framing)
        self._answer = answer
        self._frames = inner.frames
        self._turn = connections.turn
        self._rests = self.replies_each or answer is not None
        self._observer = connections.observer
        self._ignored = connections.observer.ignored

    def _is_ignored(self, part: int, count: int) -> bool:
        """Whether nobody watches a connection of a merged event."""
        ignored = self._ignored
        return self._observer.is_apart or ignored.issuperset([one for one, _ in self._turn.parts(part, count)])

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Show them, and pass them on; to those that nobody watches, the next lines are all that it costs."""
        if self._answer is None and (id in self._ignored if id >= 0 else self._is_ignored(part, count)):
            self._frames(index, id, part, offset, size, count)
            return
        table = self._connections
        if id >= 0 and self._observer.is_apart and self._rests and self._observer.room(id) == 0:
            self._observer.rest(id, count - min(table.given_back.pop(id, 0), count))
            if self._answer is None:
                self._frames(index, id, part, offset, size, count)
            else:
                table.write(id, self._answer(table.block(offset, size)) or b"")
            return
        parts = [(id, count, size)] if id >= 0 else list(table.turn.sized_parts(part, count))
        if self._answer is None and all(self._observer.room(one) <= 0 for one, _, _ in parts):
            again = [min(table.given_back.pop(one, 0), frames) for one, frames, _ in parts]
            self._frames(index, id, part, offset, size, count)
            self._leave_out(index, parts, again)
            return
        at = table.pointer(offset)
        for one, frames, length in parts:
            self._show(one, at, length, frames)
            at += length
        table.parts = parts
        try:
            if self._answer is None:
                self._frames(index, id, part, offset, size, count)
            else:
                table.write(id, self._answer(table.block(offset, size)) or b"")
        finally:
            table.parts = []
        table.cut_parts(index, parts)

    def _leave_out(self, index: int, parts: Parts, again: Sequence[int]) -> None:
        """Count the frames of an event, and its replies, which were passed on at the speed of those of the others.

        Args:
            again: of these frames, those that were counted before.
        """
        observer = self._observer
        kept = self._connections.cut_parts(index, parts)
        for (id, frames, _), known, (_, count) in zip(parts, again, kept, strict=True):
            if observer.room(id) == 0:
                observer.leave_out(id, frames - known + (count if self.replies_each else 0))

    def _show(self, id: int, source: Any, size: int, frames: int) -> None:  # noqa: ANN401 - a cffi pointer
        table = self._connections
        again = min(table.given_back.pop(id, 0), frames)
        observer, room = table.observer, table.observer.room(id)
        if room < 0:
            return
        shown = min(frames - again, room)
        if shown > 0:
            for data in self._cut(source, size, frames, again + shown)[again:]:
                observer.show(id, "in", data, len(data))
        if frames - again > shown:
            observer.leave_out(id, frames - again - shown)

    def _cut(self, source: Any, size: int, frames: int, wanted: int) -> list[bytes]:  # noqa: ANN401 - likewise
        """Return the first frames; or all in one piece where the connection has a framing of its own by now."""
        spans, end = ffi.new("sb_span[]", wanted), ffi.new("size_t *")
        found = lib.sb_frames_find(self._description, source, size, ffi.new("sb_scan *"), spans, wanted, end)
        if found != wanted or (wanted == frames and end[0] != size):
            return [ffi.unpack(source, size)] * min(wanted, 1)
        return [ffi.unpack(source + span.start, span.end - span.start) for span in spans]


__all__ = ["Observer", "TappedEvents", "TappedTable", "tap", "untap"]
