# SPDX-License-Identifier: MIT
"""Peers of a stream, in plain text and encrypted, that end it in each of the ways that there are.

`end("notified")` is a close_notify (RFC 8446, 6.1) and TCP's FIN, `end("alone")` the FIN alone, `end("reset")` RST,
sent once the other host's kernel has acknowledged all that went before.  In plain text the first two are one.
"""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
import termios
from contextlib import suppress

from watching import RESET, _until

ENDS = ("notified", "alone", "reset")
PIECE = 1 << 16


def unacknowledged(sock) -> int:
    """Bytes that the other kernel has not got yet (SIOCOUTQ, tcp(7))."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


class Plain:
    """A peer in plain text.

    Attributes:
        sock: the connection.
    """

    def __init__(self, sock) -> None:
        self.sock = sock

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> bytes:
        """Some bytes; none at the end of file."""
        return self.sock.recv(PIECE)

    def to_end(self) -> bytes:
        return b"".join(iter(self.read, b""))

    def end(self, how: str) -> None:
        if how == "reset":
            self.settle()
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.sock.close()
        else:
            self.sock.shutdown(socket.SHUT_WR)

    def settle(self) -> None:
        """Wait until the other kernel has got all."""
        _until(lambda: unacknowledged(self.sock) == 0)


class Encrypted(Plain):
    """A peer behind TLS, which is done in memory, so that each end can be told from the others.

    Attributes:
        tls: of ssl.
        was_notified: the other side's close_notify has come.
    """

    def __init__(self, sock, context, name: str = "localhost") -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.was_notified = False
        self._read = b""
        while not self._shaken():
            self._incoming.write(self._received())

    def _shaken(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self.flush()
        return True

    def _received(self) -> bytes:
        piece = self.sock.recv(PIECE)
        if not piece:
            raise ConnectionAbortedError
        return piece

    def flush(self) -> None:
        if self._outgoing.pending:
            self.sock.sendall(self._outgoing.read())

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.flush()

    def read(self) -> bytes:
        self._decrypt()
        while not self._read and not self.was_notified and (accepted := self.sock.recv(PIECE)):
            self._incoming.write(accepted)
            self._decrypt()
        piece, self._read = self._read, b""
        return piece

    def _decrypt(self) -> None:
        with suppress(ssl.SSLWantReadError):
            while not self.was_notified:
                try:
                    piece = self.tls.read(PIECE)
                except ssl.SSLZeroReturnError:
                    piece = b""
                self.was_notified = not piece
                self._read += piece

    def end(self, how: str) -> None:
        if how == "notified":
            self._decrypt()  # SSL_shutdown(3) takes what it finds unread for a mistake
            with suppress(ssl.SSLWantReadError):
                self.tls.unwrap()
            self.flush()
        super().end(how)


def context_of(ca, version=None) -> ssl.SSLContext:
    """What such a peer's handshake is made with; of one version alone, if it is given."""
    made = ssl.create_default_context(cafile=ca)
    if version is not None:
        made.minimum_version = made.maximum_version = version
    return made
