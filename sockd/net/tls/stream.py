# SPDX-License-Identifier: MIT
"""An encrypted connection of the table: what turns its bytes into plain text, and back.

The peer's data ends in one of three ways, told behind its last byte:

    close_notify        end of file                                                       Input.ENDED
    TCP's FIN alone     end of file; who knows of frames leaves an unfinished one out     Input.OPEN still
    invalid record      a reset                                                           `failure`

Source: RFC 8446, 6.1; ssl(3), SSL_shutdown(3).
"""

from __future__ import annotations

import logging
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.net.tls.failures import FAILURES, words
from sockd.net.tls.socket_pair import INPUT, Input

if TYPE_CHECKING:
    Buffer = bytes | bytearray | memoryview

logger = logging.getLogger("sockd.tls")

RECORDS_A_TURN = 128
"""Of one connection: each costs about 1 us, however little is in it, and 48 KiB hold 2,000 of one byte."""


class TlsStream:
    """One connection, its handshake done.

    Args:
        tls: with its two memories.
        incoming, outgoing: bytes in the form of the network, as ssl.SSLContext.wrap_bio has them.
        pending: what goes out before anything else.

    Attributes:
        ssl_object: for what it tells of the connection.
        input: how the peer's data has ended.
        failure: why it is wrong; None as long as it is not.
    """

    __slots__ = ("_incoming", "_outgoing", "_pending", "failure", "input", "ssl_object")

    def __init__(
        self, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, pending: bytes = b""
    ) -> None:
        self.ssl_object = tls
        self._incoming, self._outgoing, self._pending = incoming, outgoing, pending
        self.input = Input.OPEN
        self.failure: Exception | None = None

    def receive(self, sealed: Buffer) -> None:
        """Note what has come from the network."""
        self._incoming.write(sealed)

    def read_into(self, room: memoryview | Buffer, size: int) -> int:
        """Decrypt up to `size` bytes of up to RECORDS_A_TURN records into `room`; return how many bytes.

        A failure is recorded, and raised by no call: what came before it is read first.
        """
        tls, incoming = self.ssl_object, self._incoming
        count, left = 0, RECORDS_A_TURN
        try:
            count = tls.read(size, room)  # type: ignore[assignment]  # with a buffer it returns a count
            while count and (incoming.pending or tls.pending()) and count < size and (left := left - 1):
                more: int = tls.read(size - count, memoryview(room)[count:size])  # type: ignore[assignment]  # likewise
                if not more:
                    self.input = INPUT.step(self.input, Input.ENDED)
                    return count
                count += more
            if not count:
                self.input = INPUT.step(self.input, Input.ENDED)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.input = INPUT.step(self.input, Input.ENDED)
        except FAILURES as error:
            self.failure = error.with_traceback(None)  # whose frames have this stream
            logger.info("TLS failed", extra={"event": {"why": words(error)}})
        return count

    @property
    def is_cut(self) -> bool:
        """Whether an end of file means that data may be missing."""
        return self.input is not Input.ENDED

    @property
    def has_more(self) -> bool:
        """Whether what has come is not all read, or what it ended by is not told."""
        return bool(
            self.failure is not None
            or self.input is not Input.OPEN
            or self._incoming.pending
            or self.ssl_object.pending()
        )

    @property
    def has_output(self) -> bool:
        """Whether something is to be sent that no write() has brought: an alert, a new key, the handshake's rest."""
        return bool(self._pending or self._outgoing.pending)

    def write(self, plain: Buffer) -> None:
        """Encrypt.

        Raises: as ssl, of `failures.FAILURES`.
        """
        size, done = len(plain), self.ssl_object.write(plain)
        while done < size:
            done += self.ssl_object.write(memoryview(plain)[done:])

    def end(self) -> None:
        """Say that nothing more is written (close_notify)."""
        with suppress(ssl.SSLError):  # the peer's may come later, or never
            self.ssl_object.unwrap()

    def pop_output(self) -> bytes:
        """Return what is to be sent."""
        sealed = self._outgoing.read()
        if self._pending:
            sealed, self._pending = self._pending + sealed, b""
        return sealed


__all__ = ["TlsStream"]
