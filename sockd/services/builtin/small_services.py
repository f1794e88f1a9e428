# SPDX-License-Identifier: MIT
"""The small services of RFC 864 to 868, which send without a request.

Over a stream each sends its data when a client connects, discards what is received, and closes; chargen continues
until its peer closes.  As a datagram each answers any datagram. Echo (RFC 862) and discard (RFC 863) are served by the
C core.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sockd.lazy import psutil, random
from sockd.services.api import Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection.connection import Connection

SECONDS_BEFORE_1970 = 2_208_988_800  # RFC 868: since 1900-01-01 00:00 GMT
PRINTABLE = bytes(range(32, 127))
LINE_CHARACTERS = 72
LONGEST_DATAGRAM = 512  # RFC 864 and RFC 865
WRITE_BYTES = 64 * 1024
QUOTES = (
    "Be liberal in what you accept, and conservative in what you send. (RFC 1122)",
    "It is always possible to agglutinate multiple separate problems into a single complex interdependent solution. "
    "In most cases this is a bad idea. (RFC 1925)",
    "With sufficient thrust, pigs fly just fine. However, this is not necessarily a good idea. (RFC 1925)",
    "We reject kings, presidents and voting. We believe in rough consensus and running code. (RFC 7282)",
)


def daytime() -> bytes:
    """Say the time of day as ctime(3) does (RFC 867, which leaves the format open)."""
    return time.strftime("%a %b %e %H:%M:%S %Y\r\n").encode("ascii", "replace")


def seconds() -> bytes:
    """Say the seconds since 1900, 32 bits in network byte order, which begin anew in 2036 (RFC 868)."""
    return (int(time.time()) + SECONDS_BEFORE_1970 & 0xFFFFFFFF).to_bytes(4, "big")


def quote() -> bytes:
    """Say one quote of the day, one line of no more than 512 characters (RFC 865)."""
    return QUOTES[time.localtime().tm_yday % len(QUOTES)].encode() + b"\r\n"


def users() -> bytes:
    """List the logged-in users, one per line (RFC 866)."""
    return "".join(f"{name}\r\n" for name in sorted({user.name for user in psutil.users()})).encode()


def characters() -> bytes:
    """Say 0 to 512 characters, as many as chance has it (RFC 864)."""
    return _lines(random.randrange(len(PRINTABLE)))[: random.randrange(LONGEST_DATAGRAM + 1)]


def _lines(first: int) -> bytes:
    """Return lines of 72 characters that begin one character later each (RFC 864), about 64 KiB."""
    ring = PRINTABLE * 2
    count = WRITE_BYTES // (LINE_CHARACTERS + 2)
    starts = ((first + line) % len(PRINTABLE) for line in range(count))
    return b"".join(ring[start : start + LINE_CHARACTERS] + b"\r\n" for start in starts)


class OneShot(Protocol):
    """Says one thing and closes.

    Args:
        say: makes what is said.
    """

    def __init__(self, say: Callable[[], bytes]) -> None:
        self._say = say

    def connection_made(self, transport: Connection) -> None:
        """Say it."""
        transport.write(self._say())
        transport.close()

    def data_received(self, data: bytes) -> None:
        """Discard it."""


class Chargen(Protocol):
    """Sends lines without end, as fast as the peer reads (RFC 864)."""

    _transport: Connection

    def __init__(self) -> None:
        self._first = 0
        self._block = _lines(0)
        self._is_full = False

    def connection_made(self, transport: Connection) -> None:
        """Begin."""
        self._transport = transport
        self._write_block()

    def _write_block(self) -> None:
        """Write until it is told to pause; other work of the loop runs after each block."""
        if not self._is_full and not self._transport.is_closing():
            self._transport.write(self._block)
            self._first = (self._first + len(self._block) // (LINE_CHARACTERS + 2)) % len(PRINTABLE)
            self._block = _lines(self._first)
            self._transport.call_later(0, self._write_block)

    def pause_writing(self) -> None:
        """Wait for the peer."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Go on."""
        self._is_full = False
        self._write_block()

    def data_received(self, data: bytes) -> None:
        """Discard it."""
