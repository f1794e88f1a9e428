# SPDX-License-Identifier: MIT
"""Clients that need nothing of a session: the C core hears them, connects them and moves their bytes.

Nearly all clients do the same: no login, an address, CONNECT, each message whole (csrc/relay_client.c).  This module
checks, for all requests of a turn, where they may connect, by the rules of the service; a client that does anything
else, or that is refused, or whose target does not answer, gets a session, which continues with the data read so far.
"""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.relay.tally import PairedClient
from sockd.services.socks.client import SocksSession
from sockd.services.socks.rules import AccessRequest, parse_ip
from sockd.wire.close_reason import CloseReason
from sockd.wire.socks_address import Destination

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection.sources import Sources
    from sockd.net.relay.relay_table import FallbackClient, RelayObserver, RelayTable
    from sockd.services.socks.server import SocksService

logger = logging.getLogger("sockd.socks")

REMEMBERED = 4096
"""Verdicts that hold as long as the rules do, by the addresses of client and target."""


class SocksAcceptor:
    """Accepts the clients of one listener.

    Args:
        done: is called at the end of each client.
        sources: where clients count until their end; None: nowhere.

    Attributes:
        waiting: clients that have not come to a request yet.
    """

    def __init__(
        self, server: SocksService, pairs: RelayTable, done: Callable[[], None], sources: Sources | None
    ) -> None:
        settings = server.settings
        self.server = server
        self.pairs = pairs
        self.waiting = 0
        self._open = 0
        self._done = done
        self._sources = sources
        self._allowed: set[bytes] = set()
        self._door = pairs.door(
            float(settings.negotiation_timeout),
            server.gate.timeout,
            float(settings.idle_timeout),
            float(settings.half_close_timeout),
            sources,
        )

    def accept(self, listener: int, max_count: int) -> tuple[int, int]:
        """Accept up to so many."""
        accepted, stopped = self.pairs.accept(listener, self._door, self, max_count)
        if accepted and not self.waiting:
            self.server.opened(self)
        self.waiting += accepted
        self._open += accepted
        return accepted, stopped

    def judge(self, number: int, peer: bytes, target: bytes, began_ms: int) -> FastConnection | None:
        """Let a client go to its target, or not."""
        key = peer[4:] + target
        if key not in self._allowed and not self._is_allowed(key, peer, target):
            return None
        self._one_less()
        passage = FastConnection(self, number, peer, target, began_ms)
        self.server.begin(passage)
        return passage

    def _is_allowed(self, key: bytes, peer: bytes, target: bytes) -> bool:
        rules = self.server.gate.rules
        where, host = SocketAddress.unpack(target), SocketAddress.unpack(peer).host
        address = parse_ip(where.host)
        if rules.forbids(AccessRequest(parse_ip(host) if host else None, None, None), address, where.port):
            return False
        if rules.is_permanent(address):
            if len(self._allowed) == REMEMBERED:
                self._allowed.clear()
            self._allowed.add(key)
        return True

    def resume(self, returned: FallbackClient, observer: RelayObserver | None) -> None:
        """Go on with a client by a session."""
        if isinstance(observer, FastConnection):
            self.server.drop(observer)
        else:
            self._one_less()
        self.left()
        peer = SocketAddress.unpack(returned.peer) if returned.peer else SocketAddress.query_peer(returned.fd)
        sock = socket.socket(fileno=returned.fd)
        done = partial(self._done_counted, returned.peer) if returned.counted else self._done
        session = SocksSession(self.server, sock, peer, done)
        self.server.begin(session)
        session.start(returned)

    def _done_counted(self, peer: bytes) -> None:
        if self._sources is not None:
            self._sources.leave_packed(peer)
        self._done()

    def _one_less(self) -> None:
        self.waiting -= 1
        if not self.waiting:
            self.server.closed(self)

    def left(self) -> None:
        """Count a client less."""
        self._open -= 1
        if not self._open:
            self.pairs.forget(self._door)

    def ended(self, passage: FastConnection, reason: CloseReason) -> None:
        """Notified when a client is served."""
        self.left()
        self.server.ended(passage, reason)
        self._done()

    def return_clients(self) -> None:
        """Give every client a session that waits for its request still."""
        self.pairs.return_clients(self._door)


class FastConnection:
    """A client and its target.

    Attributes:
        moved: bytes received from the client, and sent to it.
    """

    __slots__ = ("_began_ms", "_door", "_moved", "_number", "_peer", "_target")

    def __init__(self, door: SocksAcceptor, number: int, peer: bytes, target: bytes, began_ms: int) -> None:
        self._door = door
        self._number = number
        self._peer = peer
        self._target = target
        self._began_ms = began_ms
        self._moved: tuple[int, int] | None = None

    @property
    def moved(self) -> tuple[int, int]:
        """See above."""
        return self._door.pairs.moved(self._number) if self._moved is None else self._moved

    @property
    def shown(self) -> PairedClient:
        """What is shown of it."""
        peer, where = SocketAddress.unpack(self._peer), str(SocketAddress.unpack(self._target))
        return PairedClient(peer, self._began_ms / 1000, self.moved, where)

    def abort(self) -> None:
        """End both at once."""
        self._door.pairs.abort(self._number, CloseReason.SHUTDOWN)

    def ended(self, reason: CloseReason, error: int, side: int, moved: tuple[int, int]) -> None:
        """Be told by the relay."""
        self._moved = moved
        if logger.isEnabledFor(logging.INFO):
            logger.info("closed", extra={"event": self._closed_event(reason, moved)})
        self._door.ended(self, reason)

    def _closed_event(self, reason: CloseReason, moved: tuple[int, int]) -> dict[str, object]:
        """Say what a session says of such a client."""
        server = self._door.server
        where = SocketAddress.unpack(self._target)
        return {
            "service": server.name,
            "peer": str(SocketAddress.unpack(self._peer)),
            "version": 5,
            "command": "connect",
            "destination": str(Destination(where.host, where.port)),
            "address": str(where),
            "reason": str(reason),
            "received": moved[0],
            "sent": moved[1],
            "seconds": round(server.gate.loop.clock() - self._began_ms / 1000, 3),
        }


__all__ = ["FastConnection", "SocksAcceptor"]
