# SPDX-License-Identifier: MIT
"""Frames in Python: cut from what the set hands out, made of what handlers return.

A codec is what a service has of its framing; connections share it, for it keeps
nothing between two calls.  Where frames begin and end the C core alone decides:
what is cut here are frames that it has found.
"""

from __future__ import annotations

from array import array
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sockd._sockbuf import ffi, lib
from sockd.buffer.encoder import PayloadEncoder
from sockd.lazy import pickle
from sockd.net.connection.group import describe
from sockd.wire.framing import Delimiter, DotBlock, Line, Raw, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.net.connection.table import ConnectionTable
    from sockd.wire.framing import Frame, Framing

KEPT_BYTES = 256 * 1024
"""Of the buffer in which replies become frames; one that grew past this is not kept for the next turn."""
KEPT_REPLY_BYTES = 2**31 - 1

BATCH_ONCE_BYTES = 3_000
BATCH_LINE_BYTES = 48
"""bytes.split looks at each byte (0.4 ns), the C core at 32 at once (0.1 ns), but then a list has to be loaded from
what it writes: 1.1 us once, and 15 ns more a line. It is worth it past so many bytes, and so many for each line."""

LF, CRLF = b"\n", b"\r\n"

_room_for = ffi.new_allocator(should_clear_after_alloc=False)


def reply_bytes(reply: object) -> bytes:
    """Return a reply as bytes: what lies in its memory, whatever methods its class may have of its own.

    Raises:
        TypeError: it is not bytes-like.
    """
    if type(reply) is bytes:
        return reply
    if isinstance(reply, (bytes, bytearray, memoryview)):
        return bytes(memoryview(reply))
    raise TypeError(f"the handler returned {type(reply).__name__}, not bytes or None{_suggest_remedy(reply)}")


def _suggest_remedy(reply: object) -> str:
    """Say what is meant, most likely."""
    if isinstance(reply, str):
        return '; encode it, or have str everywhere: sockd.Service(text="utf-8")'
    if hasattr(reply, "__await__"):
        return "; it is to be awaited: write async def, or have a decorator use functools.wraps"
    if isinstance(reply, (list, tuple)):
        return '; join it: b"\\n".join(...)'
    return '; make bytes of it: b"%d" % number' if isinstance(reply, int) else ""


class ReplyEncoder(PayloadEncoder):
    """Makes frames of replies: what is not bytes-like is a mistake of the handler."""

    __slots__ = ()

    def _as_bytes(self, payload: object) -> bytes:
        return reply_bytes(payload)


class Codec:
    """Frames that begin or end with something that is not their payload.

    Args:
        framing: of a service, or of one connection.
        connections: where frames lie, and replies go.
    """

    is_in_kind = False
    """Whether a reply ends as the frame that it answers; `endings` tells how."""

    def __init__(self, framing: Framing, connections: ConnectionTable) -> None:
        self.framing = framing
        self._set = connections
        self._description = describe(framing)
        self._scan = ffi.new("sb_scan *")
        self._frame = ffi.new("sb_frame *")
        self._batch = ffi.new("sockd_batch *")
        self._out: Any = None
        self._encode = None if isinstance(framing, Record) else ReplyEncoder(framing).encode

    @cached_property
    def _loads(self) -> Callable[[Any], list[Any]]:
        return pickle.loads  # an attribute of a module that is imported late costs 45 ns each time

    def cut(self, offset: int, size: int, count: int) -> list[Any]:
        """Return the payloads of an event's frames."""
        source = self._set.pointer(offset)
        if count == 1 and not isinstance(self.framing, DotBlock):
            found = lib.sb_frame_find(self._description, source, size, self._scan, self._frame)
            assert found == 1
            return [ffi.unpack(source + self._frame.start, self._frame.end - self._frame.start)]
        out = _room_for("char[]", size + count * lib.SOCKD_BATCH_A_FRAME + lib.SOCKD_BATCH_ONCE)
        found = lib.sockd_batch_cut(self._description, source, size, self._scan, out, count, self._batch)
        assert found == count
        return self._loads(ffi.buffer(out, self._batch.used))

    def prefix_size(self, offset: int, size: int, count: int) -> int:
        """Return how many bytes of an event the first frames take."""
        spans, end = ffi.new("sb_span[]", count), ffi.new("size_t *")
        lib.sb_frames_find(self._description, self._set.pointer(offset), size, ffi.new("sb_scan *"), spans, count, end)
        return int(end[0])

    def payload_size(self, frame: Frame) -> int:
        """Return the bytes of a payload."""
        return len(frame)

    def give_back(self, id: int, offset: int, size: int, handed: int, count: int) -> None:
        """Give the frames of an event back but for the first, which were handed out."""
        start = self.prefix_size(offset, size, handed) if handed else 0
        self._set.unread(id, self._set.pointer(offset) + start, size - start, count - handed)

    def endings(self, offset: int, size: int) -> list[bytes] | None:
        """Return what ended each frame of an event, where replies end in kind."""
        return None

    def encode(self, reply: object) -> bytes:
        """Make the frame of a reply.

        Raises:
            TypeError: it is not bytes-like.
            sockd.buffer.PayloadError: it cannot be a frame.
        """
        assert self._encode
        return self._encode(reply)

    def encode_each(self, replies: Sequence[object]) -> bytes:
        """Make a frame for each reply that is not None."""
        return b"".join(self.encode(reply) for reply in replies if reply is not None)

    def reply(self, index: int, replies: list[Any]) -> bool:
        """Answer an event with a frame for each of its own; False when one of them is none, and nothing was sent."""
        try:
            block = b"".join(replies)
            lengths = array("I", map(len, replies))
        except BaseException:  # None; or what a reply's own class does, which is found out one by one
            return False
        if sum(lengths) != len(block):
            return False
        if self._out is None:
            self._out = ffi.gc(lib.sb_buffer_new(KEPT_REPLY_BYTES), lib.sb_buffer_free)
        out = self._out
        made = lib.sockd_encode(
            self._description, block, len(block), ffi.from_buffer("uint32_t[]", lengths), len(replies), out
        )
        size = lib.sb_buffer_size(out)
        if made == len(replies):
            self._set.reply_from(index, lib.sb_buffer_data(out) if size else b"", size, lengths)
        lib.sb_buffer_consume(out, size)
        if lib.sb_buffer_capacity(out) > KEPT_BYTES:
            self._out = None
        return bool(made == len(replies))


class LineCodec(Codec):
    """Lines; a reply may be several of them.

    Args:
        framing: with what replies end in.
        connections: as for every codec.
        wire: whether lines come with their CR.
    """

    def __init__(self, framing: Line, connections: ConnectionTable, *, wire: bool) -> None:
        super().__init__(framing, connections)
        self.is_in_kind = framing.ending == "same"
        self._ending = framing.ending if isinstance(framing.ending, bytes) else LF
        self._wire = wire
        if not wire:  # a CR that is there still belongs to its line
            self._description = describe(Delimiter(framing.max_bytes, LF))

    def cut(self, offset: int, size: int, count: int) -> list[Any]:
        """Return the lines of an event, without what ends them."""
        if size > BATCH_ONCE_BYTES + BATCH_LINE_BYTES * count and count > 1:
            return super().cut(offset, size, count)
        block = self._set.block(offset, size - 1)
        lines = [block] if count == 1 else block.split(LF)
        if self._wire and b"\r" in block:
            return [line[:-1] if line.endswith(b"\r") else line for line in lines]
        return lines

    def endings(self, offset: int, size: int) -> list[bytes] | None:
        """Return LF or CR LF for each line of an event; None when replies do not end in kind, or all lines in LF."""
        if not self.is_in_kind:
            return None
        block = self._set.block(offset, size - 1)
        if b"\r" not in block:
            return None
        return [CRLF if line.endswith(b"\r") else LF for line in block.split(LF)]

    def encode(self, reply: object) -> bytes:
        """Put the ending behind a reply."""
        return reply_bytes(reply) + self._ending

    def encode_each(self, replies: Sequence[object]) -> bytes:
        """Put it behind each; all at once where none is None."""
        try:
            return self._ending.join([*replies, b""])  # type: ignore[list-item] # what is no bytes: below
        except BaseException:
            return super().encode_each(replies)


class RawCodec(Codec):
    """What has arrived, and what is sent as it is."""

    def cut(self, offset: int, size: int, count: int) -> list[Any]:
        """Return the pieces of an event."""
        block = self._set.block(offset, size)
        if count == 1:
            return [block]
        limit = self._description.limit
        return [block[at : at + limit] for at in range(0, size, limit)]

    def encode(self, reply: object) -> bytes:
        """Return the reply."""
        return reply_bytes(reply)

    def reply(self, index: int, replies: list[Any]) -> bool:
        """Answer one piece with bytes as they are; more than one is not the plain case."""
        if len(replies) != 1 or type(replies[0]) is not bytes:
            return False
        self._set.reply_lengths(index, replies[0], array("I", (len(replies[0]),)))
        return True


class RecordCodec(Codec):
    """Records of a struct format: tuples."""

    def __init__(self, framing: Record, connections: ConnectionTable) -> None:
        super().__init__(framing, connections)
        self._record = framing

    def cut(self, offset: int, size: int, count: int) -> list[Any]:
        """Return a tuple for each record."""
        return list(self._record.packer.iter_unpack(self._set.block(offset, size)))

    def payload_size(self, frame: Frame) -> int:
        """Return the bytes of any record."""
        return self._record.size

    def encode(self, reply: object) -> bytes:
        """Pack a tuple.

        Raises:
            TypeError, struct.error: it is none, or not as the format says.
        """
        return self._record.pack(reply)

    def reply(self, index: int, replies: list[Any]) -> bool:
        """Answer with a record for each."""
        try:
            block = b"".join(map(self._record.pack, replies))
        except BaseException:  # no tuple; or what a reply's own class does
            return False
        self._set.reply_lengths(index, block, array("I", (self._record.size,)) * len(replies))
        return True


def make_codec(framing: Framing, connections: ConnectionTable, *, wire: bool) -> Codec:
    """Return the codec of a framing.

    Args:
        framing: any that a service can have.
        connections: where its frames lie.
        wire: whether lines come with their CR (Group.wire).
    """
    if isinstance(framing, Line):
        return LineCodec(framing, connections, wire=wire)
    if isinstance(framing, Raw):
        return RawCodec(framing, connections)
    if isinstance(framing, Record):
        return RecordCodec(framing, connections)
    return Codec(framing, connections)
