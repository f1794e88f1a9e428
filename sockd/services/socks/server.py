"""What the sessions of one SOCKS service share: its rules, its users, its way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.connection_info import Totals
from sockd.net.pump import Pairs
from sockd.net.tally import Tally
from sockd.net.workers import Workers
from sockd.services.socks.door import Door, Passage
from sockd.services.socks.gate import Gate, look_up
from sockd.services.socks.rules import Rules
from sockd.services.socks.session import Session

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.loop import EventLoop
    from sockd.net.socket_address import SocketAddress
    from sockd.net.sources import Sources
    from sockd.services.socks.gate import LookUp
    from sockd.services.socks.users import Users, UsersFile
    from sockd.settings import SocksSettings
    from sockd.wire.state import CloseReason

LOOK_UPS, LOOK_UPS_WAITING = 16, 1024
"""Names under way at once; a resolver that hangs holds up these and nothing else."""
HASHES, HASHES_WAITING = 2, 64
"""Each takes a processor and some tens of MiB; of these one source has one, and half of those that wait."""


class Server:
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
        self.hashers = Workers(loop, "hash", most=HASHES, waiting=HASHES_WAITING)
        self._resolvers = Workers(loop, "look-up", most=LOOK_UPS, waiting=LOOK_UPS_WAITING)
        self._file = file
        self._sessions: Tally[Session | Passage] = Tally()
        self._doors: set[Door] = set()
        self.gate = Gate(
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

    def take(self, sock: socket.socket, peer: SocketAddress, done: Callable[[], None]) -> None:
        """Serve a connected, non-blocking socket, which is the server's from now on; done() is called at its end."""
        session = Session(self, sock, peer, done)
        self._sessions.add(session)
        session.start()

    def door(self, done: Callable[[], None], sources: Sources | None) -> Door | None:
        """Return what accepts clients that need nothing of a session's; None where every client does.

        Args:
            done: is called at the end of each.
            sources: where they count until their end.
        """
        if self._file is not None or self.settings.source is not None:
            return None
        try:
            return Door(self, self.gate.loop.one_of(Pairs), done, sources)
        except OSError:  # ENOSYS: there is no epoll
            return None

    def begin(self, client: Session | Passage) -> None:
        """Count a client."""
        self._sessions.add(client)

    def drop(self, passage: Passage) -> None:
        """Forget a client that a session goes on with."""
        self._sessions.drop(passage)

    def opened(self, door: Door) -> None:
        """Know a door that has clients."""
        self._doors.add(door)

    def closed(self, door: Door) -> None:
        """Forget a door, for it has no clients any more."""
        self._doors.discard(door)

    def ended(self, session: Session | Passage, reason: CloseReason) -> None:
        """Forget a client that is served."""
        self._sessions.end(session, reason)

    def totals(self) -> Totals:
        """Return what its clients have done."""
        return self._sessions.totals() + Totals(came=self._waiting, open=self._waiting)

    def abort(self) -> None:
        """End what is left."""
        for door in tuple(self._doors):
            door.take_back()
        for session in self._sessions:
            session.abort()

    def retire(self) -> None:
        """Do what has to be done when no new client comes: nothing."""

    def close(self) -> None:
        """Let the threads end."""
        self.hashers.close()
        self._resolvers.close()


__all__ = ["Server"]
