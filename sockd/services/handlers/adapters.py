# SPDX-License-Identifier: MIT
"""Receivers: how a protocol object, or a function of two arguments, is spoken to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection.connection import Connection
    from sockd.services.api import BatchReply, Reply
    from sockd.wire.framing import Frame


def _nothing(*_: object) -> None:
    return None


def _filler(protocol: object) -> Callable[[bytes], None]:
    """Return what puts data into the buffers of an asyncio.BufferedProtocol."""
    get_buffer, updated = getattr(protocol, "get_buffer", None), getattr(protocol, "buffer_updated", None)
    if get_buffer is None or updated is None:
        raise TypeError(f"{type(protocol).__name__} has no frame_received, line_received or data_received")

    def fill(data: bytes) -> None:
        at = 0
        while at < len(data):
            with memoryview(get_buffer(len(data) - at)) as given, given.cast("B") as buffer:
                size = min(len(buffer), len(data) - at)
                if not size:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                buffer[:size] = data[at : at + size]
            updated(size)
            at += size

    return fill


class ProtocolAdapter:
    """Speaks to an object with asyncio's method names; what it lacks is not called.

    Args:
        protocol: has one of frame_received, line_received and data_received,
            looked for in this order, or is an asyncio.BufferedProtocol.

    Raises:
        TypeError: it has none of them.
    """

    __slots__ = ("_protocol", "frame")

    def __init__(self, protocol: object) -> None:
        self._protocol = protocol
        for name in ("frame_received", "line_received", "data_received"):
            frame = getattr(protocol, name, None)
            if frame is not None:
                break
        else:
            frame = _filler(protocol)
        self.frame: Callable[[Any], None] = frame  # the others are called once or seldom, and looked up then

    def connection_made(self, transport: Connection) -> None:
        """Pass on."""
        getattr(self._protocol, "connection_made", _nothing)(transport)

    def eof_received(self) -> bool | None:
        """Pass on."""
        is_kept: bool | None = getattr(self._protocol, "eof_received", _nothing)()
        return is_kept

    def pause_writing(self) -> None:
        """Pass on."""
        getattr(self._protocol, "pause_writing", _nothing)()

    def resume_writing(self) -> None:
        """Pass on."""
        getattr(self._protocol, "resume_writing", _nothing)()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on."""
        getattr(self._protocol, "connection_lost", _nothing)(exc)


class FunctionAdapter:
    """Hands each frame with its connection to a function, and writes what it returns."""

    __slots__ = ("_connection", "_function")

    def __init__(self, text_function: Callable[[Any, Connection], Any]) -> None:
        self._function = text_function

    def connection_made(self, transport: Connection) -> None:
        """Keep the transport."""
        self._connection = transport

    def frame(self, frame: Frame) -> None:
        """Answer a frame."""
        reply = self._function(frame, self._connection)
        if reply is not None:
            self._connection.reply(reply)

    def eof_received(self) -> bool | None:
        """Let the connection be closed."""
        return None

    def pause_writing(self) -> None:
        """Nothing: the set stops reading by itself."""

    def resume_writing(self) -> None:
        """Nothing: the set goes on reading by itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to tell."""


def _encoded(reply: Reply | str, encoding: str) -> Reply:
    """Return bytes for text; what is none goes on as it is, and is judged where bytes are."""
    return reply.encode(encoding) if isinstance(reply, str) else reply


def text_function(of_text: Callable[..., Any], encoding: str) -> Callable[..., Reply]:
    """Wrap a function that answers a frame of text; what follows the frame is passed on."""

    def of_bytes(frame: bytes, *more: object) -> Reply:
        return _encoded(of_text(frame.decode(encoding), *more), encoding)

    return of_bytes


def text_batch(of_texts: Callable[..., Any], encoding: str) -> Callable[[list[bytes]], BatchReply]:
    """Wrap a function that answers a list of frames of text."""

    def of_bytes(frames: list[bytes]) -> BatchReply:
        replies = of_texts([frame.decode(encoding) for frame in frames])
        if isinstance(replies, list):
            return [_encoded(one, encoding) for one in replies]
        return _encoded(replies, encoding)

    return of_bytes


__all__ = ["text_batch", "text_function"]
