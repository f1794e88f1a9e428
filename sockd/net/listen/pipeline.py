# SPDX-License-Identifier: MIT
"""The way of a connection from accept() to whoever serves it: steps in a row, each of which decides about one thing.

    room -> PROXY header -> conditions -> CID -> name -> admission -> hosts access -> rate of all -> ident
         -> TLS -> greeting -> delivery

The steps are in sockd.net.listen.steps and client_steps.  A step answers with a `Passage`.  One that has to wait (for a
header, for a name, for a handshake) answers WAIT, and calls advance() or lose() later, once.  Whatever a step raises
costs this connection alone: its socket is closed, and what it held of the listener's is given back.  In the pipeline a
connection holds at most a place among those that are open, and one among those of its source; refused, dropped and
ended connections give both back, and that twice does nothing.
"""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, Protocol

from sockd.log.rate_limit import LogLimit
from sockd.net.listen.refusal import RefusalReason
from sockd.values import dataclass

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connection.peers import ProxyInfo
    from sockd.net.listen.admission import Admission
    from sockd.net.listen.overload import Quota
    from sockd.net.loop.loop import EventLoop
    from sockd.net.tls.wire import TlsWire

logger = logging.getLogger("sockd.listener")


@dataclass(eq=False)
class AcceptedConnection:
    """A connection on its way from accept() to its service, and what it holds of the listener.

    Attributes:
        sock: the connection; of an encrypted one the service's end, where it has to be a socket.
        accepted: the address that accept() gave.
        client: who it is: the same, or what a PROXY header has named.
        secured: what encrypts it; None where nothing does.
        has_place: it counts among the connections that are open.
        name: its confirmed name, where it was asked for.
        source: the host that it counts for among the connections of one source; empty for none.
        refusal: why it is not let in; None for no reason.
        step: how many steps it has behind it.
    """

    sock: socket.socket
    accepted: SocketAddress
    client: SocketAddress
    proxied: ProxyInfo | None = None
    secured: TlsWire | None = None
    has_place: bool = False
    name: str | None = None
    source: str = ""
    refusal: RefusalReason | None = None
    step: int = 0


class Passage(enum.Enum):
    """What a step has decided about a connection."""

    NEXT = "to the next step"
    WAIT = "the step has it, and calls advance() or lose()"
    REFUSED = "it is not let in, and told so"
    GONE = "it is closed: its peer is gone, or it was not what it has to be"
    SERVED = "somebody serves it: the way is at its end"


class AcceptStep(Protocol):
    """Decides about one thing."""

    def run(self, one: AcceptedConnection, way: AcceptPipeline) -> Passage:
        """Decide about a connection; behind Passage.WAIT, `way` is told how it goes on."""


class Places:
    """Places among the connections that may be open at once: of a listener, of its service, and of each source.

    Args:
        quotas: of which each has to have room.
        admission: counts by source.
    """

    def __init__(self, quotas: Sequence[Quota], admission: Admission) -> None:
        self._quotas = quotas
        self._admission = admission

    @property
    def room(self) -> int:
        """How many more may be open."""
        return min(one.room for one in self._quotas)

    def count(self, places: int) -> None:
        """Count so many more, or less."""
        for quota in self._quotas:
            quota.add(places)

    def hold(self, one: AcceptedConnection) -> None:
        """Have a connection count as open; again does nothing."""
        if not one.has_place:
            one.has_place = True
            self.count(1)

    def give_back(self, one: AcceptedConnection) -> None:
        """Release what a connection holds; again does nothing."""
        if one.has_place:
            one.has_place = False
            self.count(-1)
        self._admission.release(one.source)
        one.source = ""


class AcceptPipeline:
    """Leads the connections of one listener through its steps.

    Args:
        steps: in their order; the last one serves.
        places: see there.
        refuse: tells a connection that it is not let in, and closes it.
        count: counts a connection that is not served, by the reason.
        free: called when a connection has given its place back.
        address: the listener's, for the log.
    """

    def __init__(
        self,
        steps: Sequence[AcceptStep],
        places: Places,
        loop: EventLoop,
        *,
        refuse: Callable[[AcceptedConnection], None],
        count: Callable[[AcceptedConnection, RefusalReason], None],
        free: Callable[[], None],
        address: str,
    ) -> None:
        self._steps = steps
        self.places = places
        self._loop = loop
        self._refuse = refuse
        self._count = count
        self._free = free
        self._address = address
        self._log_limit = LogLimit(loop.clock)

    def advance(self, one: AcceptedConnection) -> None:
        """Lead a connection through the steps that it has before it."""
        try:
            passage = Passage.NEXT
            while passage is Passage.NEXT:
                step = self._steps[one.step]
                one.step += 1
                passage = step.run(one, self)
            if passage is Passage.REFUSED:
                self.places.give_back(one)
                self._refuse(one)
            elif passage is Passage.GONE:
                self.lose(one, RefusalReason.GONE)
        except OSError as error:
            event = {"address": self._address, "error": str(error)}
            self._log_limit.log_limited(logger, logging.ERROR, "connection dropped", event, key="step")
            self.lose(one, RefusalReason.ERROR)
        except BaseException as error:
            self._loop.defects.report(error)
            self.lose(one, RefusalReason.ERROR)

    def refuse(self, one: AcceptedConnection, reason: RefusalReason) -> None:
        """Refuse a connection that a step had."""
        one.refusal = reason
        self.places.give_back(one)
        self._refuse(one)
        self._free()

    def gone(self, one: AcceptedConnection) -> Passage:
        """Tell of a connection whose peer did not wait."""
        event = {"peer": str(one.client)}
        self._log_limit.log_limited(logger, logging.INFO, "client left before it was served", event, key="gone")
        return Passage.GONE

    def lose(self, one: AcceptedConnection, reason: RefusalReason) -> None:
        """Close a connection that is not served, if it is not closed, and have who waits for a place go on."""
        one.sock.close()
        self.ended(one, reason)

    def ended(self, one: AcceptedConnection, reason: RefusalReason | None = None) -> None:
        """Count a connection as ended; by a reason why it was not served, if it was not."""
        if reason is not None:
            self._count(one, reason)
        self.places.give_back(one)
        self._free()


__all__ = ["AcceptPipeline", "AcceptStep", "AcceptedConnection", "Passage", "Places"]
