# SPDX-License-Identifier: MIT
"""What the daemon under test serves: handlers that show one behaviour each."""

from __future__ import annotations

import json
import socket
import struct
from typing import TYPE_CHECKING

from sockd.errors import Close
from sockd.services.api import Protocol

if TYPE_CHECKING:
    from sockd.net.connection.connection import Connection

RECORD = struct.Struct("!IHd")
"""Network byte order, no padding: 14 bytes on every machine (FAQ II.15)."""
PATTERN = bytes(range(32, 127)) * 11
OPTIONS = {
    "nodelay": (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    "keepalive": (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    "interval": (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    "count": (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    "reuse_address": (socket.SOL_SOCKET, socket.SO_REUSEADDR),
}


def pattern(size: int) -> bytes:
    """Make bytes whose loss, doubling or change of order shows."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


def big(line: bytes) -> bytes:
    """Answer a number with so many bytes."""
    return pattern(int(line))


def big_and_close(line: bytes) -> bytes:
    """Answer a number with so many bytes, and close."""
    raise Close(pattern(int(line)))


def abort(_line: bytes, connection: Connection) -> None:
    """End with RST."""
    connection.abort()


def peer(_line: bytes, connection: Connection) -> bytes:
    """Say who asks (FAQ IV.9)."""
    return connection.peer.encode()


def options(_line: bytes, connection: Connection) -> bytes:
    """Say which options the accepted socket has (FAQ II.16, IV.5 to IV.7)."""
    sock = connection.socket
    found = {name: sock.getsockopt(level, number) for name, (level, number) in OPTIONS.items()}
    found["linger"], found["linger_seconds"] = struct.unpack(
        "ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.calcsize("ii"))
    )
    for name, number in (("idle", "TCP_KEEPIDLE"), ("user_timeout", "TCP_USER_TIMEOUT")):
        if hasattr(socket, number):  # not on every system
            found[name] = sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, number))
    return json.dumps(found).encode()


class Records(Protocol):
    """Fixed records through a struct format: the numbers come back, each one larger."""

    _transport: Connection
    _rest = b""

    def connection_made(self, transport: Connection) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the whole records."""
        data = self._rest + data
        whole = len(data) - len(data) % RECORD.size
        self._rest = data[whole:]
        for a, b, c in RECORD.iter_unpack(data[:whole]):
            self._transport.write(RECORD.pack(a + 1, b + 1, c + 1))


class Stay(Protocol):
    """Keeps its side open after the peer's end of file."""

    def data_received(self, data: bytes) -> None:
        """Nothing."""

    def eof_received(self) -> bool:
        """Stay."""
        return True
