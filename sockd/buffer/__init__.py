# SPDX-License-Identifier: MIT
"""Framing without the daemon: bytes of a stream to frames, and frames to bytes.

`ReceiveBuffer` cuts, `SendBuffer` collects, the framings are values.  They work
under an event loop, a thread or nothing at all: no module here waits, opens a
socket, logs or reads a clock.  One object belongs to one thread at a time.

docs/embedding.md has a server for asyncio, Twisted and blocking sockets.
"""

from sockd.buffer.encoder import encode, encode_all
from sockd.buffer.errors import BufferFull, FrameError, Malformed, PayloadError, TooLong, Truncated
from sockd.buffer.receive import ReceiveBuffer
from sockd.buffer.send import SendBuffer
from sockd.wire.framing import (
    AnyFraming,
    BlankLine,
    Datagram,
    Delimiter,
    DotBlock,
    Fixed,
    Line,
    Netstring,
    Nul,
    OctetCount,
    Prefix,
    Raw,
    StreamFraming,
    StrictLine,
    Varint,
)

__all__ = [
    "AnyFraming",
    "BlankLine",
    "BufferFull",
    "Datagram",
    "Delimiter",
    "DotBlock",
    "Fixed",
    "FrameError",
    "Line",
    "Malformed",
    "Netstring",
    "Nul",
    "OctetCount",
    "PayloadError",
    "Prefix",
    "Raw",
    "ReceiveBuffer",
    "SendBuffer",
    "StreamFraming",
    "StrictLine",
    "TooLong",
    "Truncated",
    "Varint",
    "encode",
    "encode_all",
]
