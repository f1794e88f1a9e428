# SPDX-License-Identifier: MIT
"""Receivers: how a protocol object, or a function of two arguments, is spoken to."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection.connection import Connection
    from sockd.wire.framing import Frame


def _nothing(*_: object) -> None:
    return None


def _is_asyncio(protocol: object, kind: str) -> bool:
    """Tell whether an object, or a class, is one of asyncio's: where that was never imported, nothing is."""
    wanted = getattr(sys.modules.get("asyncio"), kind, ())
    return issubclass(protocol, wanted) if isinstance(protocol, type) else isinstance(protocol, wanted)


def frame_method(protocol: object) -> str:
    """Return the name of the input method of a protocol object, or class; empty if there is none.

    A subclass of asyncio's own classes gets bytes as received, whatever other methods it has; but if it does not
    override data_received, it gets frames.
    """
    if _is_asyncio(protocol, "BufferedProtocol"):
        return "get_buffer"
    if _is_asyncio(protocol, "Protocol"):
        kind: Any = protocol if isinstance(protocol, type) else type(protocol)
        if kind.data_received is not sys.modules["asyncio"].Protocol.data_received:
            return "data_received"
    for name in ("frame_received", "line_received", "data_received"):
        if getattr(protocol, name, None) is not None:
            return name
    is_buffered = hasattr(protocol, "get_buffer") and hasattr(protocol, "buffer_updated")
    return "get_buffer" if is_buffered else ""


def wants_bytes(protocol: object) -> bool:
    """Return whether a protocol object, or class, gets bytes as received."""
    return frame_method(protocol) in ("data_received", "get_buffer")


class ProtocolFactory:
    """Makes protocol objects that are not known yet to take bytes or frames.

    Args:
        make: called once for each connection, without arguments.
    """

    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make

    def __call__(self) -> object:
        """Make one."""
        return self.make()


def wants_datagrams(protocol: object) -> bool:
    """Tell whether what makes protocol objects can make one that takes datagrams: a class tells, a factory does not."""
    if isinstance(protocol, ProtocolFactory):
        protocol = protocol.make
    while isinstance(protocol, functools.partial):
        protocol = protocol.func
    return not isinstance(protocol, type) or hasattr(protocol, "datagram_received")


class ProtocolAdapter:
    """Calls an object with asyncio's method names; missing methods are skipped.

    Args:
        protocol: has one of frame_received, line_received and data_received (see frame_method).

    Raises:
        TypeError: it has none of them.
    """

    __slots__ = ("_protocol", "frame")

    def __init__(self, protocol: object) -> None:
        self._protocol = protocol
        name = frame_method(protocol)
        if not name:
            kind = type(protocol).__name__
            raise TypeError(
                f"a handler without a parameter makes objects with frame_received, line_received or data_received, and "
                f"this one returned {kind}; to answer a line, write def f(line)"
            )
        self.frame: Callable[..., None] = self._fill if name == "get_buffer" else getattr(protocol, name)
        # the others are called once or seldom, and looked up then

    def _fill(self, data: bytes) -> None:
        """Put data into the buffers of an asyncio.BufferedProtocol."""
        protocol: Any = self._protocol
        at = 0
        while at < len(data):
            with memoryview(protocol.get_buffer(-1)) as given, given.cast("B") as buffer:
                size = min(len(buffer), len(data) - at)
                if not size:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                buffer[:size] = data[at : at + size]
            protocol.buffer_updated(size)
            at += size

    def connection_made(self, transport: Connection) -> None:
        """Pass on."""
        getattr(self._protocol, "connection_made", _nothing)(transport)

    def eof_received(self) -> bool | None:
        """Pass on; asyncio has asked a BufferedProtocol for a buffer before it knows that there is no more."""
        protocol: Any = self._protocol
        if self.frame == self._fill and not len(protocol.get_buffer(-1)):
            raise RuntimeError("get_buffer() returned an empty buffer")
        is_kept: bool | None = getattr(protocol, "eof_received", _nothing)()
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
    """Passes each frame with its connection to a function, and writes the result."""

    __slots__ = ("_connection", "_function")

    _connection: Connection

    def __init__(self, text_function: Callable[..., object]) -> None:
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
        """Nothing: the table stops reading by itself."""

    def resume_writing(self) -> None:
        """Nothing: the table keeps reading by itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to tell."""


__all__ = ["FunctionAdapter", "ProtocolAdapter", "ProtocolFactory", "frame_method", "wants_bytes", "wants_datagrams"]
