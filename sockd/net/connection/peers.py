# SPDX-License-Identifier: MIT
"""Who the connections of a table are with: what their rows hold, what does not fit there, and what proxies told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd._sockbuf import lib
from sockd.lazy import lazily
from sockd.net.address.sockaddr import SocketAddress
from sockd.values import dataclass

if TYPE_CHECKING:
    from sockd.net.connection.info import ConnectionInfo
    from sockd.net.connection.table import ConnectionTable
    from sockd.wire import proxy as proxy_protocol
else:
    proxy_protocol = lazily("sockd.wire.proxy", resident=True)


class Peers:
    """The peers of a table's connections.

    Args:
        connections: the table; its rows hold Internet addresses.
    """

    def __init__(self, connections: ConnectionTable) -> None:
        self._table = connections
        self._named: dict[int, SocketAddress] = {}
        self._proxied: dict[int, ProxyInfo] = {}

    def name(self, id: int, peer: SocketAddress, proxied: ProxyInfo | None = None) -> None:
        """Say who a connection's peer is, and by which way it came, in place of what the kernel says."""
        packed = peer.packed()
        if lib.sb_mux_peer(self._table.handle, id, packed, len(packed)) < 0:
            raise LookupError(f"no connection {id}")
        if not packed:
            self._named[id] = peer
        if proxied is not None:
            self._proxied[id] = proxied

    def find(self, id: int, info: ConnectionInfo | None = None) -> SocketAddress:
        """Return who a connection's peer is, also when it has just ended.

        Args:
            info: of its row, where the caller has read it already.
        """
        named = self._named.get(id)
        if named is not None:
            return named
        row = info or self._table.info(id)
        return SocketAddress.unpack(row.peer) if row.peer else SocketAddress.query_peer(row.fd)

    def named(self, id: int) -> SocketAddress | None:
        """Return what name() said of a peer that its row has no room for; None where the row or the kernel knows."""
        return self._named.get(id)

    def proxied(self, id: int) -> ProxyInfo | None:
        """Return what a proxy told of a connection, None for one that came by itself."""
        return self._proxied.get(id)

    def source_host(self, id: int) -> str:
        """Return the address that a connection counts for: its client's, or where that has none its proxy's own."""
        proxied = self._proxied.get(id)
        return self.find(id).host or (proxied.proxy.host if proxied else "")

    def ended(self, id: int) -> None:
        """Forget a connection."""
        self._named.pop(id, None)
        self._proxied.pop(id, None)


@dataclass(frozen=True)
class ProxyInfo:
    """A connection that came through a proxy.

    Attributes:
        proxy: the proxy's own address, as accept() gave it.
        header: what it said.
    """

    proxy: SocketAddress
    header: proxy_protocol.Header

    @property
    def via(self) -> str:
        """The proxy's own address, as text."""
        return str(self.proxy)


__all__ = ["Peers", "ProxyInfo"]
