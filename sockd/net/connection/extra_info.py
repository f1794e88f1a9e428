# SPDX-License-Identifier: MIT
"""What a transport tells of its connection by name, as those of asyncio do."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NoReturn

from sockd.net.kernel import peer_credentials

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from sockd.net.address.sockaddr import SockAddr
    from sockd.net.connection.connection import Connection
    from sockd.net.connection.peers import ProxyInfo
    from sockd.net.connection.table import ConnectionTable


class BorrowedSocket(socket.socket):
    """The socket of a connection, which alone closes it.

    Its descriptor is in a table: closed behind the back of that, it would be the next client's.
    """

    __slots__ = ()

    def close(self) -> NoReturn:
        """Refuse.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("the socket belongs to its connection: call connection.close() or connection.abort()")

    def detach(self) -> NoReturn:
        """Refuse, as close()."""
        self.close()

    def give_back(self) -> None:
        """Be closed, without the descriptor."""
        super().detach()


def extra_info(connection: Connection, connections: ConnectionTable, name: str) -> object:
    """Answer Connection.get_extra_info(); None for what there is not."""
    if name in _EXTRA:
        return _EXTRA[name](connection, connections)
    stream = connections.tls.find(connection.id)
    if name in _TLS_EXTRA and stream is not None:
        return _TLS_EXTRA[name](stream.ssl_object)
    return None


def _peername(connection: Connection, connections: ConnectionTable) -> SockAddr | bytes | None:
    return connections.peers.find(connection.id).sockaddr


def _peerhost(connection: Connection, connections: ConnectionTable) -> str | None:
    return connections.find_name(connections.peers.find(connection.id).host)


def _socket(connection: Connection, _connections: ConnectionTable) -> socket.socket:
    return connection.socket


def _sockname(connection: Connection, _connections: ConnectionTable) -> SockAddr | bytes | None:
    try:
        name: SockAddr | bytes = connection.socket.getsockname()
    except OSError:  # EINVAL on BSDs, once it was reset
        return None
    return name


def _peercred(connection: Connection, _connections: ConnectionTable) -> tuple[int, int, int] | None:
    sock = connection.socket
    credentials = peer_credentials(sock) if sock.family == socket.AF_UNIX else None
    return None if credentials is None else (credentials.pid, credentials.uid, credentials.gid)


def _proxied(connection: Connection, connections: ConnectionTable) -> ProxyInfo | None:
    return connections.peers.proxied(connection.id)


def _peercert(tls: ssl.SSLObject) -> object:
    try:
        return tls.getpeercert()
    except ValueError:  # "handshake not done yet": the peer has begun another one
        return None


_EXTRA: dict[str, Callable[[Connection, ConnectionTable], object]] = {
    "peername": _peername,
    "sockname": _sockname,
    "socket": _socket,
    "peercred": _peercred,
    "peerhost": _peerhost,
    "proxied": _proxied,
}
_TLS_EXTRA: dict[str, Callable[[ssl.SSLObject], object]] = {
    "ssl_object": lambda tls: tls,
    "sslcontext": lambda tls: tls.context,
    "peercert": _peercert,
    "cipher": lambda tls: tls.cipher(),
    "compression": lambda tls: tls.compression(),
}
