# SPDX-License-Identifier: MIT
"""An encrypted connection with its memory buffers: bytes in the form of the network go in and out here."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.net.tls.failures import invalid_names_unreported
from sockd.net.tls.stream import TlsStream

if TYPE_CHECKING:
    from collections.abc import Callable

RECEIVE_BYTES = 65_536
RECORD_TYPES = range(20, 25)
"""First byte of what a client sends with TLS (RFC 8446, 5.1); the hello of SSLv2, which OpenSSL takes as well, begins
above 127.
"""
MAX_PENDING_BYTES = 65_536
"""Limit of buffered bytes per direction that one side has not read; the other is not read meanwhile."""


class TlsWire:
    """The connection, and what of it is in memory.

    Failures of the network are recorded here, and not raised: data received before them must still be read.

    Args:
        sock: connected, non-blocking.
        begin: makes the TLS side of two memories.

    Attributes:
        has_ended: nothing more comes.
        error: why, where that is no FIN of the peer; or why nothing can be sent any more.
        is_done: the handshake is.
        sent: bytes that the kernel has taken.
        incoming, outgoing: bytes in the form of the network that TLS has not read, and that were not sent.
    """

    def __init__(self, sock: socket.socket, begin: Callable[[ssl.MemoryBIO, ssl.MemoryBIO], ssl.SSLObject]) -> None:
        self.socket = sock
        self.fd = sock.fileno()
        self.has_ended = self.is_done = False
        self.error: OSError | None = None
        self.sent = 0
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._left = self._first = b""
        self.tls = begin(self.incoming, self.outgoing)

    @property
    def is_full(self) -> bool:
        """Whether the peer has not read what was sent."""
        return bool(self._left)

    @property
    def is_plain(self) -> bool:
        """Whether the peer has begun with something that is no TLS, such as plain text."""
        return b"" < self._first < b"\x80" and self._first[0] not in RECORD_TYPES

    def receive(self) -> bool:
        """Receive once; return whether something arrived."""
        try:
            piece = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            self.has_ended = self.error is not None  # a failure to send was noted, and all that had come is read
            return False
        except OSError as error:
            self.error = self.error or error.with_traceback(None)  # whose frames have this wire
            piece = b""
        if piece:
            self._first = self._first or piece[:1]
            self.incoming.write(piece)
        else:
            self.has_ended = True  # not told to TLS, which would write no more
        return bool(piece)

    def step(self) -> bool:
        """Continue the handshake; return whether it is complete.

        Raises: ssl.SSLError, ValueError, MemoryError: it fails; an alert for the peer may be pending.
        """
        with suppress(ssl.SSLWantReadError), invalid_names_unreported():
            self.tls.do_handshake()
            self.is_done = True
        self.send()
        return self.is_done

    def send(self) -> None:
        """Send pending TLS output, as far as the kernel accepts it; after a failure, nothing."""
        while self._left or self.outgoing.pending:
            self._left = self._left or self.outgoing.read(MAX_PENDING_BYTES)
            if self.error is not None:
                self._left = b""
                continue
            try:
                size = self.socket.send(self._left)
            except BlockingIOError:
                return
            except OSError as error:
                self.error = error.with_traceback(None)
                continue
            self.sent += size
            self._left = self._left[size:]

    def _pop_pending(self) -> bytes:
        """Return what the kernel has not taken, which whoever sends from now on sends first."""
        left, self._left = self._left, b""
        return left

    def encrypt(self, text: bytes, *, is_last: bool = False) -> bytes:
        """Return what is to be sent for a text, behind what is unsent; and behind the last one the end."""
        if text:
            self.tls.write(text)
        if is_last:
            with suppress(ssl.SSLError):  # the peer's may come later, or never
                self.tls.unwrap()
        return self._pop_pending() + self.outgoing.read()

    def stream(self) -> TlsStream:
        """Return what a connection of a table goes through from now on; its handshake is done."""
        return TlsStream(self.tls, self.incoming, self.outgoing, self._pop_pending())

    def acknowledge(self) -> None:
        """Have the kernel acknowledge at once, instead of waiting up to 40 ms for data to send with it.

        Many clients send their first line after their part of the handshake, in a piece of its own, which waits for
        that (Nagle's algorithm, FAQ II.17): without session tickets nothing else would be sent before.
        """
        if hasattr(socket, "TCP_QUICKACK"):
            with suppress(OSError):  # no TCP
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


__all__ = ["RECEIVE_BYTES", "TlsWire"]
