# SPDX-License-Identifier: MIT
"""What a connection is beside its bytes, for a handler's own tests: TLS, a proxy's header, an Internet address.

Nothing is encrypted in memory: a handler sees a connection only behind the handshake, so that what it can learn of TLS
is what `get_extra_info` returns.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping  # noqa: TC003 - of a dataclass
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockd.net.listen.proxy_protocol import client_address
from sockd.wire import proxy

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.loop.loop import EventLoop
    from sockd.net.tls.socket_pair import SocketPair, TlsSocket


@dataclass(frozen=True, kw_only=True)
class Tls:
    """What a handler learns of TLS; it stands for an `ssl.SSLObject`, whose methods of the same names it has.

    Args:
        certificate: of the client, as `ssl.SSLSocket.getpeercert()` returns it; None without one.
        certificate_der: the same in DER.
        protocol: the version.
        cipher_name: of the suite, with its number of secret bits.
        alpn: the protocol that was agreed on (RFC 7301).
    """

    certificate: Mapping[str, object] | None = None
    certificate_der: bytes | None = None
    protocol: str = "TLSv1.3"
    cipher_name: str = "TLS_AES_256_GCM_SHA384"
    bits: int = 256
    alpn: str | None = None

    @property
    def context(self) -> ssl.SSLContext:
        """A server's context, without a certificate."""
        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def getpeercert(self, binary_form: bool = False) -> dict[str, object] | bytes | None:
        """Return the client's certificate."""
        if binary_form:
            return self.certificate_der
        return None if self.certificate is None else dict(self.certificate)

    def cipher(self) -> tuple[str, str, int]:
        """Return the cipher suite, the protocol that defines it, and its secret bits."""
        return self.cipher_name, self.protocol, self.bits

    def version(self) -> str:
        """Return the version of the protocol."""
        return self.protocol

    def compression(self) -> None:
        """Return None: nothing is compressed."""

    def selected_alpn_protocol(self) -> str | None:
        """Return the protocol that was agreed on."""
        return self.alpn


class StartedTls:
    """Stands for the handshakes of a listener with `starttls`: each is done at once.

    Args:
        tls: what the handler learns then.
        switched: called with the server's old end, and the client's new one.
    """

    def __init__(self, tls: Tls, loop: EventLoop, switched: Callable[[socket.socket, socket.socket], None]) -> None:
        self._tls = tls
        self._loop = loop
        self._switched = switched

    def start(
        self, outer: socket.socket, peer: SocketAddress, done: Callable[[TlsSocket | None], None], ends: SocketPair
    ) -> None:
        """Have the client go on at the other end of the pair."""
        ends.near.ssl_object = self._tls  # type: ignore[assignment]  # it stands for one
        self._switched(outer, ends.far)
        self._loop.call_soon(lambda: done(ends.near))


def parse_header(header: bytes) -> tuple[SocketAddress | None, proxy.Header]:
    """Return the client's address that a PROXY header has, None where it has none, and all that it says.

    Args:
        header: as a proxy sends it, of version 1 or 2.

    Raises:
        ValueError: it is none, or not one alone.
    """
    found = proxy.parse(header)
    if found is None or found.size != len(header):
        raise ValueError(f"not one whole PROXY header: {header!r}")
    return client_address(found), found


__all__ = ["StartedTls", "Tls", "parse_header"]
