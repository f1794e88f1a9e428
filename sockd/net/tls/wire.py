# SPDX-License-Identifier: MIT
"""An encrypted connection with its memory buffers: bytes in the form of the network go in and out here."""

from __future__ import annotations

import socket
import ssl
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    UnraisableHook = Callable[[sys.UnraisableHookArgs], object]

RECEIVE_BYTES = 65_536
MAX_PENDING_BYTES = 65_536
"""Limit of buffered bytes per direction that one side has not read; the other is not read meanwhile."""

FAILURES = (OSError, ValueError, MemoryError)
"""Exceptions that a peer, or a lack of memory, can cause in ssl: ssl.SSLError is an OSError, and ValueError is
raised if bytes of the peer are not text (UnicodeDecodeError).
"""


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
    """

    def __init__(self, sock: socket.socket, begin: Callable[[ssl.MemoryBIO, ssl.MemoryBIO], ssl.SSLObject]) -> None:
        self.socket = sock
        self.fd = sock.fileno()
        self.has_ended = self.is_done = False
        self.error: OSError | None = None
        self.sent = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._left = b""
        self.tls = begin(self._incoming, self._outgoing)

    @property
    def is_full(self) -> bool:
        """Whether the peer has not read what was sent."""
        return bool(self._left)

    def receive(self) -> bool:
        """Receive once; return whether something arrived."""
        try:
            piece = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            self.has_ended = self.error is not None  # a failure to send was noted, and all that had come is read
            return False
        except OSError as error:
            self.error = self.error or error
            piece = b""
        if piece:
            self._incoming.write(piece)
        else:
            self.has_ended = True  # not told to TLS, which would write no more
        return bool(piece)

    def step(self) -> bool:
        """Continue the handshake; return whether it is complete.

        Raises: ssl.SSLError, ValueError, MemoryError: it fails; an alert for the peer may be pending.
        """
        before, sys.unraisablehook = sys.unraisablehook, _past(sys.unraisablehook)
        try:
            self.tls.do_handshake()
            self.is_done = True
        except ssl.SSLWantReadError:
            pass
        finally:
            sys.unraisablehook = before
        self.send()
        return self.is_done

    def send(self) -> None:
        """Send pending TLS output, as far as the kernel accepts it; after a failure, nothing."""
        while self._left or self._outgoing.pending:
            self._left = self._left or self._outgoing.read(MAX_PENDING_BYTES)
            if self.error is not None:
                self._left = b""
                continue
            try:
                size = self.socket.send(self._left)
            except BlockingIOError:
                return
            except OSError as error:
                self.error = error
                continue
            self.sent += size
            self._left = self._left[size:]

    def acknowledge(self) -> None:
        """Have the kernel acknowledge at once, instead of waiting up to 40 ms for data to send with it.

        Many clients send their first line after their part of the handshake, in a piece of its own, which waits for
        that (Nagle's algorithm, FAQ II.17): without session tickets nothing else would be sent before.
        """
        if hasattr(socket, "TCP_QUICKACK"):
            with suppress(OSError):  # no TCP
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _past(hook: UnraisableHook) -> UnraisableHook:
    """Suppress an invalid server name of a client: the handshake fails, and that is reported.

    ssl calls sni_callback with it as ASCII, and has a failure of that printed to standard error, traceback and all.
    """

    def report_other(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is not UnicodeDecodeError:
            hook(unraisable)

    return report_other


def words(error: BaseException) -> str:
    """Describe a failure, for the log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verification failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason: str | None = getattr(error, "reason", None)
        return reason.replace("_", " ").lower() if reason else str(error)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) or type(error).__name__


__all__ = ["FAILURES", "TlsWire", "words"]
