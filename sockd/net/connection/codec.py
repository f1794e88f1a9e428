# SPDX-License-Identifier: MIT
"""Frames in Python: cut from what the connection table hands out, made of what handlers return.

A codec is what a service has of its framing; connections share it, for it keeps
nothing between two calls.  Where frames begin and end the C core alone decides:
what is cut here are frames that it has found.
"""

from __future__ import annotations

from array import array
from functools import cached_property
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from sockd._sockbuf import ffi, lib
from sockd.buffer.core import FrameExchange
from sockd.buffer.encoder import PayloadEncoder
from sockd.net.connection.group import describe
from sockd.wire.framing import Delimiter, Line, Packet, Raw, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.net.connection.table import ConnectionTable
    from sockd.wire.framing import Frame, Framing

LF, CRLF = b"\n", b"\r\n"


def reply_bytes(reply: object) -> bytes:
    """Return a reply as bytes: what lies in its memory, whatever methods its class may have of its own.

    Raises:
        TypeError: it is not bytes-like.
    """
    if type(reply) is bytes:
        return reply
    if isinstance(reply, (bytes, bytearray, memoryview)):
        return bytes(memoryview(reply))
    raise wrong_reply(reply)


def wrong_reply(reply: object, *, is_text: bool = False) -> TypeError:
    """Return the error of a reply of a wrong type, with its remedy; is_text: of a service with a text encoding.

    It may have been returned, given to reply(), or be the last words of a Close.
    """
    wanted = "str" if is_text else "bytes"
    if reply is None:  # which is a return value, and nothing that reply() can send
        return TypeError(f"the reply is None, not {wanted}; to send none, do not call reply()")
    return TypeError(f"the reply is {type(reply).__name__}, not {wanted} or None{_suggest_remedy(reply, is_text)}")


def wrong_count(replies: int, frames: int) -> ValueError:
    """Return the error of a batch that has not one reply for each frame."""
    return ValueError(f"the handler returned {replies} replies to {frames} frames; return one for each, None for none")


def _suggest_remedy(reply: object, is_text: bool) -> str:
    """Say what is meant, most likely."""
    if isinstance(reply, str):
        return '; encode it, or have str everywhere: sockd.Service(text="utf-8")'
    if isinstance(reply, CoroutineType):
        reply.close()  # or Python warns that nobody has awaited it
    if hasattr(reply, "__await__"):
        return "; it is to be awaited: write async def, or have a decorator use functools.wraps"
    if isinstance(reply, (list, tuple)):
        return '; join it: "\\n".join(...)' if is_text else '; join it: b"\\n".join(...)'
    if isinstance(reply, int):
        return "; make text of it: str(number)" if is_text else '; make bytes of it: b"%d" % number'
    if isinstance(reply, BaseException):
        return "; raise it"
    return ""


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

    ending = b""
    """What is written behind a reply as it is; none: the framing makes a frame of it."""

    is_in_kind = False
    """Whether a reply ends as the frame that it answers; `endings` tells how."""

    def __init__(self, framing: Framing, connections: ConnectionTable) -> None:
        self.framing = framing
        self._table = connections
        self._description = describe(framing)
        self._encode = None if isinstance(framing, Record) else ReplyEncoder(framing).encode

    @cached_property
    def exchange(self) -> FrameExchange:
        """What cuts an event's frames, and has a function answer them in one call (sockd/net/connection/exchange.c)."""
        made = FrameExchange()
        made._use(int(ffi.cast("uintptr_t", self._table.handle)), bytes(ffi.buffer(self._description)), self.ending)
        return made

    def cut(self, offset: int, size: int, count: int) -> list[Any]:
        """Return the payloads of an event's frames."""
        return self.exchange.cut(offset, size, count)

    def prefix_size(self, offset: int, size: int, count: int) -> int:
        """Return how many bytes of an event the first frames take."""
        spans, end = ffi.new("sb_span[]", count), ffi.new("size_t *")
        lib.sb_frames_find(
            self._description, self._table.pointer(offset), size, ffi.new("sb_scan *"), spans, count, end
        )
        return int(end[0])

    def payload_size(self, frame: Frame) -> int:
        """Return the bytes of a payload."""
        return len(frame)

    def give_back(self, id: int, offset: int, size: int, handed: int, count: int) -> None:
        """Give the frames of an event back but for the first, which were handed out."""
        start = self.prefix_size(offset, size, handed) if handed else 0
        self._table.unread(id, self._table.pointer(offset) + start, size - start, count - handed)

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

    def block(self, replies: object) -> bytes:
        """Return bytes that a handler has made of its replies itself; raises as encode()."""
        return reply_bytes(replies)

    def encode_each(self, replies: Sequence[object]) -> bytes:
        """Make a frame for each reply that is not None."""
        return b"".join(self.encode(reply) for reply in replies if reply is not None)


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
        self.ending = framing.ending if isinstance(framing.ending, bytes) else LF
        if not wire:  # a CR that is there still belongs to its line
            self._description = describe(Delimiter(framing.max_bytes, LF))

    def endings(self, offset: int, size: int) -> list[bytes] | None:
        """Return LF or CR LF for each line of an event; None when replies do not end in kind, or all lines in LF."""
        if not self.is_in_kind:
            return None
        block = self._table.block(offset, size - 1)
        if b"\r" not in block:
            return None
        return [CRLF if line.endswith(b"\r") else LF for line in block.split(LF)]

    def encode(self, reply: object) -> bytes:
        """Put the ending behind a reply."""
        return reply_bytes(reply) + self.ending

    def encode_each(self, replies: Sequence[object]) -> bytes:
        """Put it behind each; all at once where none is None."""
        try:
            return self.ending.join([*replies, b""])  # type: ignore[list-item] # what is no bytes: below
        except BaseException:
            return super().encode_each(replies)


class RawCodec(Codec):
    """What has arrived, and what is sent as it is."""

    def encode(self, reply: object) -> bytes:
        """Return the reply."""
        return reply_bytes(reply)


class PacketCodec(Codec):
    """Packets, which their socket keeps apart: whatever is written at once is one."""

    def block(self, replies: object) -> bytes:
        """Make one packet of it; of nothing, none."""
        return self.encode(replies) if replies else b""


class RecordCodec(Codec):
    """Records of a struct format: tuples."""

    def __init__(self, framing: Record, connections: ConnectionTable) -> None:
        super().__init__(framing, connections)
        self._record = framing

    def cut(self, offset: int, size: int, count: int) -> list[Any]:
        """Return a tuple for each record."""
        return list(self._record.packer.iter_unpack(self._table.block(offset, size)))

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
        self._table.reply_lengths(index, block, array("I", (self._record.size,)) * len(replies))
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
    if isinstance(framing, Packet):
        return PacketCodec(framing, connections)
    return Codec(framing, connections)
