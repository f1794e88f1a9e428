# SPDX-License-Identifier: MIT
"""Certificates and keys, read and checked: what a listener's handshakes are made with.

They are read while a configuration is, at a start with the rights of whoever starts the daemon, so that a key
may be root's alone; at a reload with the daemon's own.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple

from sockd.errors import ConfigurationError, say_reader, under_key
from sockd.files.trusted import open_file
from sockd.text import dotted

if TYPE_CHECKING:
    from collections.abc import Container

    from sockd.settings.tls import TlsSettings
    from sockd.text import KeyPath

logger = logging.getLogger("sockd.tls")

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
HANDSHAKE_TURNS = 4
WARNED_SECONDS = 14 * 86_400
"""A certificate that ends so soon is worth a line; authorities renew a month before."""
MAX_NAMES = 1000
"""Of a client's certificate; those of hosts have some tens, and OpenSSL lets more than 10,000 through."""
SHOWN_NAMES, SHOWN_CHARACTERS = 5, 100
"""Of a certificate that is refused, in the log."""

_LOWER = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})
"""Of ASCII alone (RFC 4343): str.lower() has letters of other scripts become a, k and s."""


class CertificateError(Exception):
    """A client's certificate is not one that it is let in with."""


class Certificate(NamedTuple):
    """A certificate of a listener, and the file that it was read from.

    Attributes:
        path: of the file.
        until: when it expires, in seconds since 1970; 0 if it is not valid now.
        modified: time of the file's last change when it was read, in nanoseconds since 1970.
    """

    path: str
    until: float
    modified: int


class TlsContext:
    """What the handshakes of a listener are made with.

    Args:
        settings: checked.
        key: of the settings, as ("listen", 0, "tls").

    Raises:
        ConfigurationError: a file cannot be read, has no certificate or key, or these do not fit together.
    """

    def __init__(self, settings: TlsSettings, key: KeyPath) -> None:
        self.settings = settings
        self._key = key
        self.certificates: list[Certificate] = []
        self._others: dict[str, ssl.SSLContext] = {}
        self._main = self._context(("certificate",), settings.certificate, settings.key)
        for index, other in enumerate(settings.others):
            self._others[lower(other.name)] = self._context(("others", index), other.path, None)
        if self._others:
            self._main.sni_callback = self._choose
        self._wanted = {lower(name) for name in settings.client_names}

    def _context(self, key: KeyPath, certificate: str, private: str | None) -> ssl.SSLContext:
        settings = self.settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = VERSIONS[settings.minimum]
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        # A client of TLS 1.3 that only sends never reads its tickets, and what lies unread when it closes makes its
        # kernel send RST, which destroys what it had sent (RFC 2525, 2.17): tcp_close() of Linux.
        context.num_tickets = settings.session_tickets
        if not settings.session_tickets:
            context.options |= ssl.OP_NO_TICKET
        for path, name in ((certificate, key), (private, ("key",)), (settings.client_ca, ("client_ca",))):
            if path is not None:
                self._check_readable(path, name)
        modified = os.stat(certificate).st_mtime_ns  # before it is read: a change in between is one since
        try:
            context.load_cert_chain(certificate, private, self._ask)
        except ssl.SSLError as error:
            raise self._error(f"{certificate}: {_why(error, private)}", *key) from None
        self._check_time(key, certificate, context, modified)
        if settings.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(settings.client_ca)
            except ssl.SSLError:
                text = "contains no CA certificate (PEM, -----BEGIN CERTIFICATE-----)"
                raise self._error(f"{settings.client_ca}: {text}", "client_ca") from None
        if settings.alpn:
            context.set_alpn_protocols(list(settings.alpn))
        return context

    def _ask(self) -> str:
        """Have nobody asked for a password: OpenSSL would ask the terminal, and wait."""
        raise self._error("it is encrypted, and sockd cannot prompt for a password", "key")

    def _check_readable(self, path: str, key: KeyPath) -> None:
        try:
            with under_key(*self._key, *key):
                os.close(open_file(path, path))
        except OSError as error:
            user = f"; {say_reader()}" if isinstance(error, PermissionError) else ""
            raise self._error(f"{path}: {os.strerror(error.errno or 0)}{user}", *key) from None

    def _error(self, text: str, *key: str | int) -> ConfigurationError:
        return ConfigurationError(text, key=(*self._key, *key))

    def _check_time(self, key: KeyPath, path: str, context: ssl.SSLContext, modified: int) -> None:
        """Warn of a certificate that is over, or soon will be: to refuse it would end a service that still works."""
        try:
            until = _valid_until(path, context)
        except (UnicodeDecodeError, ssl.SSLError):
            return  # there is something in it that Python does not read; clients may
        seconds = ssl.cert_time_to_seconds(until) if until else 0
        self.certificates.append(Certificate(path, seconds, modified))
        if seconds - time.time() < WARNED_SECONDS:
            event = {"file": path, "key": dotted((*self._key, *key))} | ({"until": until} if until else {})
            logger.warning("certificate expires soon" if until else "certificate has expired", extra={"event": event})

    def _choose(self, sslobj: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        """Take the certificate of the name that the client asks for; the main one where there is none."""
        if name is not None and (other := self._others.get(best_match(lower(name), self._others))):
            sslobj.context = other
        return None

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Begin a handshake."""
        return self._main.wrap_bio(incoming, outgoing, server_side=True)

    def check(self, tls: ssl.SSLObject) -> None:
        """Judge the certificate of a client, once its handshake is done.

        Raises:
            CertificateError: it cannot be read, has too many names, or none of client_names.
        """
        if self.settings.client_ca is None:
            return  # none was asked for
        names = certificate_names(_certificate(tls))
        if len(names) > MAX_NAMES:
            raise CertificateError(f"its certificate has {len(names)} names, more than {MAX_NAMES}")
        if self._wanted and not any(best_match(name, self._wanted) for name in names):
            raise CertificateError(f"no name of its certificate is in tls.client_names: {_shortened(names)}")


def _certificate(tls: ssl.SSLObject) -> dict[str, object]:
    try:
        return tls.getpeercert() or {}  # type: ignore[return-value]  # the stub is narrower
    except UnicodeDecodeError:  # of a name, or of an address where an authority publishes something
        raise CertificateError("its certificate cannot be read: it contains bytes that are not UTF-8") from None
    except (ssl.SSLError, ValueError) as error:
        raise CertificateError(f"its certificate cannot be read: {error}") from None


def _shortened(names: list[str]) -> str:
    some = ", ".join(name[:SHOWN_CHARACTERS] for name in names[:SHOWN_NAMES])
    return f"{some}, and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else some or "it has none"


def _why(error: ssl.SSLError, private: str | None) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {private or 'it'} belongs to another certificate"
    if private is None:
        return 'contains no certificate and key (PEM); write key = "/path" if the key is in a separate file'
    reason = f" ({error.reason})" if error.reason else ""
    return f"it contains no certificate, or {private} no private key (PEM){reason}; is each in the place of the other?"


def _valid_until(path: str, context: ssl.SSLContext) -> str:
    """Return the last day of a certificate, as a client is told it; "" for one that is not valid now."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate is its own root here
    client.load_verify_locations(path)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(to_client, to_server), context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(HANDSHAKE_TURNS):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                return ""
    return str((ends[0].getpeercert() or {}).get("notAfter", ""))


def lower(name: str) -> str:
    """Return a name with the letters of ASCII in lower case."""
    return name.translate(_LOWER)


def certificate_names(certificate: dict[str, object]) -> list[str]:
    """Return the names of a certificate: DNS names and addresses, then the subject's common name; in lower case.

    What is not text that can be printed is none: a common name may be bytes, and any name have NUL in it.
    """
    found: list[object] = []
    alternative = certificate.get("subjectAltName", ())
    assert isinstance(alternative, tuple)
    found += [value for kind, value in alternative if kind in ("DNS", "IP Address")]
    subject = certificate.get("subject", ())
    assert isinstance(subject, tuple)
    found += [value for part in subject for key, value in part if key == "commonName"]
    return [lower(name) for name in found if isinstance(name, str) and name.isprintable()]


def best_match(name: str, patterns: Container[str]) -> str:
    """Return the pattern that a name is matched by, itself before *.domain; "" for none."""
    if name in patterns:
        return name
    label, _, domain = name.partition(".")
    wild = f"*.{domain}"
    return wild if label and domain and wild in patterns else ""


__all__ = ["Certificate", "CertificateError", "TlsContext", "best_match", "certificate_names", "lower"]
