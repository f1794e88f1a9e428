"""What can be set of TLS."""

# ruff: noqa: RUF009 - setting() is a field specifier, typed and used like dataclasses.field

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sockd.setting import Duration, setting

TlsVersion = Literal["1.2", "1.3"]


@dataclass(frozen=True, kw_only=True)
class TlsSettings:
    """tls = { ... } of a listener."""

    certificate: str = setting(
        "",
        help="PEM file with the certificate and those that lead to its root, its own first",
        source="RFC 8446, 4.4.2",
    )
    key: str | None = setting(None, help="PEM file with its private key; unset: in the same file", source="")
    others: tuple[str, ...] = setting(
        (),
        help="for other names, NAME=/path.pem each, certificate and key in one file; NAME a host, or *.example.com",
        source="RFC 6066, 3: the name that the client asks for",
    )
    client_ca: str | None = setting(
        None,
        help="PEM file of authorities; every client must show a certificate of one of them",
        source="RFC 8446, 4.3.2",
    )
    client_names: tuple[str, ...] = setting(
        (),
        help="of these alone: a DNS name, an address or the common name of the client's certificate; *.example.com",
        source="RFC 9525",
    )
    alpn: tuple[str, ...] = setting(
        (), help="protocols, the best first, of which the client's are chosen; unset: none is", source="RFC 7301"
    )
    minimum: TlsVersion = setting("1.2", help="the oldest version that is spoken", source="RFC 8996")
    starttls: bool = setting(
        False,
        help="connections begin in plain text, and a handler that calls start_tls() has them encrypted",
        source="RFC 3207",
    )
    session_tickets: int = setting(
        0,
        help="that a client of TLS 1.3 is sent behind its handshake, so that its next one is shorter; any but 0 also "
        "gives clients of TLS 1.2 theirs, which is part of the handshake",
        source="RFC 8446, 4.6.1; RFC 2525, 2.17: a client that closes with a ticket unread resets what it has sent",
        unit="tickets",
        low=0,
        high=16,
    )
    handshake_timeout: Duration = setting(
        Duration(10),
        help="for the whole handshake",
        source="OpenSSH LoginGraceTime and nginx ssl_handshake_timeout allow more; a handshake is two round trips",
        unit="seconds",
        low=0.1,
        high=600,
    )
    max_handshakes: int = setting(
        1024,
        help="handshakes under way at once; a source may have as many as are free, its oldest silent one makes room",
        source="what a second of a busy server has",
        unit="handshakes",
        low=1,
        high=1_000_000,
    )
