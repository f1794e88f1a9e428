# SPDX-License-Identifier: MIT
"""What a connection is beside its bytes, for a handler's own tests: TLS, a proxy's header, an Internet address.

Nothing is encrypted in memory: a handler sees a connection only behind the handshake, so that what it can learn of TLS
is what `get_extra_info` returns.
"""

from __future__ import annotations

import ssl
import struct
from collections.abc import Mapping  # noqa: TC003 - of a dataclass
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.listen.proxy_protocol import client_address
from sockd.net.tls.socket_pair import Input
from sockd.wire import proxy

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.loop.loop import EventLoop
    from sockd.net.tls.wire import TlsWire


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


class PlainStream:
    """Stands for the stream of an encrypted connection: bytes are what they are.

    Args:
        tls: what a handler learns.
    """

    input, failure, is_cut = Input.OPEN, None, False

    def __init__(self, tls: Tls) -> None:
        self.ssl_object = tls
        self._received, self._output = bytearray(), bytearray()

    def receive(self, data: bytes) -> None:
        """Note what has come."""
        self._received += data

    def read_into(self, room: memoryview, size: int) -> int:
        """Copy what has come."""
        piece = self._received[:size]
        del self._received[:size]
        memoryview(room)[: len(piece)] = piece
        return len(piece)

    @property
    def has_more(self) -> bool:
        """Whether there was no room for all of it."""
        return bool(self._received)

    @property
    def has_output(self) -> bool:
        """Whether something is to be sent."""
        return bool(self._output)

    def write(self, data: bytes) -> None:
        """Note what is to be sent."""
        self._output += data

    def end(self) -> None:
        """Say nothing at the end."""

    def pop_output(self) -> bytes:
        """Return what is to be sent."""
        output, self._output = bytes(self._output), bytearray()
        return output


class _Started:
    """A handshake that is done (sockd.net.tls.wire.TlsWire)."""

    def __init__(self, sock: socket.socket, tls: Tls) -> None:
        self.socket = sock
        self._tls = tls

    def stream(self) -> PlainStream:
        """Return what the connection goes through."""
        return PlainStream(self._tls)


class StartedTls:
    """Stands for the handshakes of a listener with `starttls`: each is done at once.

    Args:
        tls: what the handler learns then.
    """

    def __init__(self, tls: Tls, loop: EventLoop) -> None:
        self._tls = tls
        self._loop = loop

    def start(self, sock: socket.socket, peer: SocketAddress, done: Callable[[TlsWire | None], None]) -> None:
        """Be done in the next turn."""
        self._loop.call_soon(lambda: done(cast("TlsWire", _Started(sock, self._tls))))

    def cancel(self, sock: socket.socket) -> None:
        """Close a connection whose owner has closed it."""
        sock.close()


def parse_client(client: tuple[str, int]) -> SocketAddress:
    """Return the address that a test gives its client.

    Raises:
        ValueError: it is no numeric address and port.
    """
    try:
        host, port = client
        address = SocketAddress.parse(host, port)
        address.packed()
    except (AttributeError, OSError, TypeError, ValueError, struct.error):
        raise ValueError(
            f'client is a numeric address and a port, such as ("192.0.2.7", 40000), not {client!r}'
        ) from None
    return address


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


__all__ = ["PlainStream", "StartedTls", "Tls", "parse_client", "parse_header"]
