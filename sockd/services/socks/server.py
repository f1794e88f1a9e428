# SPDX-License-Identifier: MIT
"""What the sessions of one SOCKS service share: its rules, its users, its way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.connection.info import Totals
from sockd.net.loop.blocking_calls import BlockingCalls
from sockd.net.relay.relay_table import RelayTable
from sockd.net.relay.tally import ConnectionCounts
from sockd.services.socks.client import SocksSession
from sockd.services.socks.egress import Egress, look_up
from sockd.services.socks.fast_path import FastConnection, SocksAcceptor
from sockd.services.socks.rules import Rules

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connection.sources import Sources
    from sockd.net.loop.loop import EventLoop
    from sockd.net.relay.tally import PairedClient
    from sockd.services.socks.egress import LookUp
    from sockd.services.socks.users import Users, UsersFile
    from sockd.settings import SocksSettings
    from sockd.wire.close_reason import CloseReason

LOOK_UPS, LOOK_UPS_WAITING = 16, 1024
"""Names under way at once; a resolver that hangs holds up these and nothing else."""
HASHES, HASHES_WAITING = 2, 64
"""Each takes a processor and some tens of MiB; one source gets one at a time, and half of the waiting places."""


class SocksService:
    """Serves the connections of one service.

    Args:
        name: of the service, for the log.
        file: of the users; None where nobody logs in.
        names: from a name to its addresses.
    """

    def __init__(
        self,
        name: str,
        settings: SocksSettings,
        loop: EventLoop,
        *,
        file: UsersFile | None = None,
        names: LookUp = look_up,
    ) -> None:
        self.name = name
        self.settings = settings
        self.hashers = BlockingCalls(loop, "hash", threads=HASHES, waiting=HASHES_WAITING)
        self._resolvers = BlockingCalls(loop, "look-up", threads=LOOK_UPS, waiting=LOOK_UPS_WAITING)
        self._file = file
        self._sessions: ConnectionCounts[SocksSession | FastConnection] = ConnectionCounts()
        self._doors: set[SocksAcceptor] = set()
        self.gate = Egress(
            Rules(settings.allow, settings.deny),
            self._resolvers,
            loop,
            source=settings.source,
            timeout=float(settings.connect_timeout),
            names=names,
        )

    def __len__(self) -> int:
        """Return how many clients there are."""
        return len(self._sessions) + self._waiting

    @property
    def _waiting(self) -> int:
        """Clients that have not come to a request yet."""
        return sum(door.waiting for door in self._doors)

    @property
    def users(self) -> Users | None:
        """Who may log in; None: everybody is served."""
        return None if self._file is None else self._file.users

    def serve(self, sock: socket.socket, peer: SocketAddress, done: Callable[[], None]) -> None:
        """Serve a connected, non-blocking socket, which is the server's from now on; done() is called at its end."""
        session = SocksSession(self, sock, peer, done)
        self._sessions.add(session)
        session.start()

    def door(self, done: Callable[[], None], sources: Sources | None) -> SocksAcceptor | None:
        """Return what accepts clients that need nothing of a session's; None where every client does.

        Args:
            done: is called at the end of each.
            sources: where they count until their end.
        """
        if self._file is not None or self.settings.source is not None:
            return None
        try:
            return SocksAcceptor(self, self.gate.loop.instance(RelayTable), done, sources)
        except OSError:  # ENOSYS: there is no epoll
            return None

    def begin(self, client: SocksSession | FastConnection) -> None:
        """Count a client."""
        self._sessions.add(client)

    def drop(self, passage: FastConnection) -> None:
        """Drop a client that a session continues with."""
        self._sessions.drop(passage)

    def opened(self, door: SocksAcceptor) -> None:
        """Know a door that has clients."""
        self._doors.add(door)

    def closed(self, door: SocksAcceptor) -> None:
        """Forget a door, for it has no clients any more."""
        self._doors.discard(door)

    def ended(self, session: SocksSession | FastConnection, reason: CloseReason) -> None:
        """Forget a client that is served."""
        self._sessions.end(session, reason)

    def clients(self) -> Iterator[PairedClient]:
        """Yield what is shown of its clients of now, those excepted that have not come to a request."""
        return (
            one.shown if isinstance(one, FastConnection) else one.report.shown(one.began, one.moved)
            for one in list(self._sessions)
        )

    def totals(self) -> Totals:
        """Return what its clients have done."""
        return self._sessions.totals() + Totals(accepted=self._waiting, open=self._waiting)

    def abort(self) -> None:
        """Close what is left."""
        for door in tuple(self._doors):
            door.return_clients()
        for session in self._sessions:
            session.abort()

    def retire(self) -> None:
        """Do what has to be done when no new client comes: nothing."""

    def close(self) -> None:
        """Let the threads end."""
        self.hashers.close()
        self._resolvers.close()


__all__ = ["SocksService"]
