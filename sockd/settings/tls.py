# SPDX-License-Identifier: MIT
"""What can be set of TLS."""

from __future__ import annotations

from typing import Literal

from sockd.settings.field import setting, textual
from sockd.units import Duration
from sockd.values import dataclass

TlsVersion = Literal["1.2", "1.3"]


NO_HOST_CERTIFICATE = 'is not NAME=/path, such as "www.example.com=/etc/ssl/www.pem"'


@dataclass(frozen=True)
class HostCertificate:
    """A host name, and the file with its certificate and key."""

    name: str
    path: str

    def __str__(self) -> str:
        return f"{self.name}={self.path}"


def read_host_certificate(text: str) -> HostCertificate:
    """Read NAME=/path; a path that is relative to the configuration file is made absolute after that.

    Raises:
        ValueError: it is not one; the message follows the text.
    """
    name, _, path = text.partition("=")
    if not name or not path:
        raise ValueError(NO_HOST_CERTIFICATE)
    return HostCertificate(name, path)


@dataclass(frozen=True, kw_only=True)
class TlsSettings:
    """tls = { ... } of a listener."""

    certificate: str = setting(
        "",
        help="PEM file with the certificate chain, the server's own certificate first; TLS files may be given relative "
        "to the directory of sockd.toml",
        source="RFC 8446, 4.4.2",
    )
    key: str | None = setting(
        None, help="PEM file with the private key; unset: read it from the certificate file", source=""
    )
    others: tuple[HostCertificate, ...] = setting(
        (),
        help="for other host names: NAME=/path.pem, a file with certificate and key; NAME is a host or *.example.com",
        source="RFC 6066, 3: the host name that the client requests (SNI)",
        parse=textual(read_host_certificate),
    )
    client_ca: str | None = setting(
        None,
        help="PEM file with CA certificates; every client must present a certificate issued by one of them",
        source="RFC 8446, 4.3.2",
    )
    client_names: tuple[str, ...] = setting(
        (),
        help="accept only client certificates with one of these names: DNS name, address or common name; *.example.com",
        source="RFC 9525",
    )
    alpn: tuple[str, ...] = setting(
        (), help="protocols to negotiate, in order of preference; unset: no negotiation", source="RFC 7301"
    )
    minimum: TlsVersion = setting("1.2", help="minimum TLS version", source="RFC 8996")
    starttls: bool = setting(
        False,
        help="connections begin in plain text; the handler calls start_tls() to encrypt one",
        source="RFC 3207",
    )
    session_tickets: int = setting(
        0,
        help="session tickets sent to a TLS 1.3 client after the handshake, to shorten its next one; any value but 0 "
        "also enables tickets for TLS 1.2, where they are part of the handshake",
        source="RFC 8446, 4.6.1; RFC 2525, 2.17: closing with an unread ticket sends RST and discards data in flight",
        unit="tickets",
        low=0,
        high=16,
    )
    handshake_timeout: Duration = setting(
        Duration(10),
        help="time limit for the whole handshake",
        source="a handshake takes two round trips; OpenSSH LoginGraceTime and nginx ssl_handshake_timeout allow more",
        unit="seconds",
        low=0.1,
        high=600,
    )
    max_handshakes: int = setting(
        1024,
        help="concurrent handshakes; one source may use as many as remain free, then its oldest silent one is closed",
        source="about one second of handshakes on a busy server",
        unit="handshakes",
        low=1,
        high=1_000_000,
    )
