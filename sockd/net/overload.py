"""How many connections may be open at once, and what those are told that are not let in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockd.net.connection_sink import log_end
from sockd.net.sink import Sink
from sockd.wire.state import CloseReason

if TYPE_CHECKING:
    import socket

    from sockd.net.connection_set import ConnectionSet
    from sockd.net.group import Group
    from sockd.net.socket_address import SocketAddress


@dataclass
class Quota:
    """Connections open at once, and how many may be; shared by the listeners of a service."""

    most: int | None
    count: int = 0

    @property
    def room(self) -> int:
        """How many more may come."""
        return 2**31 - 1 if self.most is None else self.most - self.count


class Refusals(Sink):
    """Connections that were not let in, while they are told so; what they say is discarded.

    Args:
        limits: of the group that they go into.
        most: how many may be told at once, so that they leave room for those that are let in.
    """

    def __init__(self, connections: ConnectionSet, limits: Group, most: int) -> None:
        self._set = connections
        self._quota = Quota(most)
        self._group = connections.add_group(limits, self)

    def take(self, sock: socket.socket, peer: SocketAddress, banner: bytes) -> None:
        """Say the banner, then close in order; past `most` of them, at once."""
        id = self._set.add(sock, self._group, peer) if self._quota.room > 0 else None
        if id is None:
            sock.close()
            return
        self._quota.count += 1
        self._set.write(id, banner)
        self._set.shut(id, CloseReason.REFUSED)

    def closed(self, id: int, reason: CloseReason) -> None:
        """Log the end."""
        self._quota.count -= 1
        log_end("", self._set, id, reason)


__all__ = ["Quota", "Refusals"]
