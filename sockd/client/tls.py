# SPDX-License-Identifier: MIT
"""TLS for the client tool: a handshake, then a thread between the connection and a socket pair.  BLOCKS."""

from __future__ import annotations

import errno
import logging
import selectors
import ssl
import threading
import time
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, SystemFault, TemporaryFault, UsageError, fault
from sockd.net.loop.loop import EventLoop
from sockd.net.tls.failures import words
from sockd.net.tls.socket_pair import Input, pair
from sockd.net.tls.tunnel import TlsTunnel
from sockd.net.tls.wire import TlsWire

if TYPE_CHECKING:
    import socket

logger = logging.getLogger("sockd.tls")

CLOSING_SECONDS = 10.0
"""Time for the last bytes to be sent when the copy loop has ended."""
OTHER_NAME = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH of openssl/x509_vfy.h."""
OTHER_TIME = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED."""


def context(*, ca: str | None, certificate: str | None, key: str | None, insecure: bool) -> ssl.SSLContext:
    """Make the TLS context of a client.

    Args:
        ca: PEM file of CA certificates instead of the system's.
        certificate: PEM file of the client certificate.
        key: of its key, if in a separate file.
        insecure: do not verify the server's certificate.

    Raises:
        ConfigurationError: a file cannot be read, or does not have the expected content.
    """
    made = ssl.create_default_context()
    try:
        if ca is not None:
            made = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            made.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        words = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"{certificate or ca}: {words or error}") from None
    if insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def _suggest_remedy(verify_code: int) -> str:
    """Say what makes a certificate valid, or accepted."""
    if verify_code in OTHER_NAME:
        return "give a name that it has: --server-name NAME"
    if verify_code in OTHER_TIME:
        return "renew it on the server, or set the clock of this host"
    return "use --ca FILE to trust it"


class TlsConnection:
    """An encrypted connection.

    Args:
        sock: connected; owned from now on.
        context: of context().
        name: expected in the server's certificate.
        subject: for messages.
        timeout: seconds for the handshake.

    Attributes:
        socket: replaces the connection's own, non-blocking; the caller closes it.

    Raises:
        UsageError: the name is not valid.
        SystemFault: the server's certificate cannot be verified, or the server rejects ours; names the reason.
        TemporaryFault: the server does not reply, or does not speak TLS.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str, subject: str, timeout: float) -> None:
        self._subject = subject
        try:
            wire = TlsWire(sock, lambda one, other: context.wrap_bio(one, other, server_hostname=name or None))
        except ValueError as error:  # a dot in front, a label that is too long
            sock.close()
            raise UsageError(f"{subject}: {name!r} is not a valid name in a certificate: {error}") from None
        try:
            _shake(wire, time.monotonic() + timeout)
        except ssl.SSLCertVerificationError as error:
            text = f"{subject}: certificate verification failed: {error.verify_message.rstrip('.')}"
            raise SystemFault(f"{text} ({_suggest_remedy(error.verify_code)})") from None
        except ssl.SSLError as error:
            raise TemporaryFault(f"{subject}: no TLS: {words(error)}") from None
        except TimeoutError:
            raise TemporaryFault(f"timed out after {timeout:g} s: {subject}: TLS handshake") from None
        except OSError as error:
            raise fault(error, subject) from None
        finally:
            if not wire.is_done:
                sock.close()
        sock.setblocking(False)
        ends = pair(sock)
        self.socket = ends.near
        self._loop = EventLoop(selectors.DefaultSelector(), time.monotonic)
        TlsTunnel(wire, ends, self._loop, self._loop.stop).start()
        self._thread = threading.Thread(target=self._loop.run, name="tls", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until all data is sent.

        Raises:
            TemporaryFault: the server closed the connection without saying that this is the end (RFC 8446, 6.1).
        """
        self._thread.join(CLOSING_SECONDS)
        if self.socket.input in (Input.CUT, Input.LOST):
            raise TemporaryFault(
                f"connection cut: {self._subject} (end of file without close_notify; data may be missing)"
            )


def _shake(wire: TlsWire, deadline: float) -> None:
    while not wire.step():
        wire.socket.settimeout(max(0.001, deadline - time.monotonic()))
        wire.receive()
        if wire.error or wire.has_ended:
            raise wire.error or ConnectionResetError(errno.ECONNRESET, "the server closed the connection")


__all__ = ["TlsConnection", "context"]
