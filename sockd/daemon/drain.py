# SPDX-License-Identifier: MIT
"""An end in order for many connections: each finishes its frame, is told goodbye, and closes (FAQ II.5).

Two steps, each with half of the time (DrainState).  First who is in the middle of nothing is ended, again and again,
until nobody is left; whoever is not done by then is named and ended where it stands.  Then what was written leaves, and
peers close their side; whoever has not taken its output at the end is named and reset, for half an answer must
not look like a whole one.
"""

from __future__ import annotations

import logging
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sockd.net.connection.info import ConnectionFilter
from sockd.net.loop.state_table import StateTable
from sockd.net.loop.turns import TurnWatch
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sockd.net.connection.events import ConnectionEvents
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.loop import EventLoop, Timer

logger = logging.getLogger("sockd.daemon")

MAX_LOGGED = 20
"""Log lines of one step; one more line has the number of the rest."""


class DrainState(Enum):
    """How far a drain has come."""

    WAITING = "not begun"
    FINISHING = "frames are finished"
    FLUSHING = "output leaves, and peers close"
    DONE = "told"


NEXT = StateTable(
    {
        DrainState.WAITING: {DrainState.FINISHING},
        DrainState.FINISHING: {DrainState.FLUSHING, DrainState.DONE},
        DrainState.FLUSHING: {DrainState.DONE},
        DrainState.DONE: (),
    }
)
"""What may follow."""


class Behind(Protocol):
    """The service of a group of connections."""

    def goodbye(self, group: int) -> bytes:
        """Return the goodbye of the service."""

    def service(self, group: int) -> str:
        """Return its name."""


class Drain:
    """Drains connections.

    Args:
        groups: drain these; None: all.
        behind: knows the service of each group.
        seconds: for both steps together.
        done: called once, when none is left, or the time is over.

    Attributes:
        state: how far it has come.
        left: connections that were not done in time.
    """

    def __init__(
        self,
        connections: ConnectionTable,
        loop: EventLoop,
        groups: Collection[int] | None,
        behind: Behind,
        seconds: float,
        done: Callable[[], None],
    ) -> None:
        self._table = connections
        self._loop = loop
        self._groups = (-1,) if groups is None else tuple(groups)
        self._behind = behind
        self._seconds = seconds
        self._done = done
        self.state = DrainState.WAITING
        self._overdue: set[DrainState] = set()
        self._watch: TurnWatch | None = None
        self._ends: list[Timer] = []
        self.left = 0

    def start(self) -> None:
        """Start; done() may be called at once."""
        self.state = NEXT.step(self.state, DrainState.FINISHING)
        self._look()
        if self.state is DrainState.DONE:
            return
        self._watch = TurnWatch(self._loop, self._look)
        for step, share in ((DrainState.FINISHING, 0.5), (DrainState.FLUSHING, 1.0)):
            self._ends.append(self._loop.call_later(share * self._seconds, partial(self._be_late, step)))

    def _be_late(self, step: DrainState) -> None:
        self._overdue.add(step)
        self._look()

    def _look(self) -> None:
        """See whether the step is over; one that fails is the last one."""
        if self.state is not DrainState.DONE:
            step = self._finish if self.state is DrainState.FINISHING else self._leave
            self._loop.guarded(step, self._be_done)()

    def _be_done(self) -> None:
        """Finish, once."""
        self.state = NEXT.step(self.state, DrainState.DONE)
        if self._watch is not None:
            self._watch.cancel()
        for end in self._ends:
            end.cancel()
        self._done()

    def _ids(self, which: ConnectionFilter) -> list[int]:
        return [id for group in self._groups for id in self._table.groups.ids(which, group)]

    def _finish(self) -> None:
        """First step: frames are finished."""
        self._table.flush()
        shaking = self._table.tls.is_shaking  # until that is done, not even a goodbye can be said
        self._shut([id for id in self._ids(ConnectionFilter.QUIET) if not self._is_busy(id) and not shaking(id)])
        self._stop_busy(now=False)
        unfinished = self._ids(ConnectionFilter.OPEN)
        if unfinished and DrainState.FINISHING not in self._overdue:
            return
        self._name([id for id in unfinished if shaking(id)], "stop timeout: TLS handshake incomplete")
        self._name([id for id in unfinished if not shaking(id)], "stop timeout: frame or reply incomplete")
        self._shut([id for id in unfinished if not self._is_busy(id)])
        self._stop_busy(now=True)
        self.state = NEXT.step(self.state, DrainState.FLUSHING)
        self._leave()

    def _sink(self, id: int) -> ConnectionEvents:
        return self._table.groups.sink(self._table.info(id).group)

    def _is_busy(self, id: int) -> bool:
        return self._sink(id).is_busy(id)

    def _stop_busy(self, *, now: bool) -> None:
        for id in self._ids(ConnectionFilter.OPEN):
            if self._is_busy(id):
                self._sink(id).stop(id, now=now)

    def _shut(self, ids: list[int]) -> None:
        for id in ids:
            words = self._behind.goodbye(self._table.info(id).group)
            if words:
                self._table.write(id, words)
            self._table.shut(id, CloseReason.SHUTDOWN)

    def _leave(self) -> None:
        """Second step: output is sent, and peers close."""
        live = self._ids(ConnectionFilter.LIVE)
        if live and DrainState.FLUSHING not in self._overdue:
            return
        self.left = len(live)
        stuck = [id for id in live if self._table.output_pending_bytes(id) or self._is_busy(id)]
        self._name(stuck, "stop timeout: peer has not read its output")
        for id in stuck:
            self._table.abort(id, CloseReason.SHUTDOWN)
        self._be_done()

    def _name(self, ids: list[int], why: str) -> None:
        for id in ids[:MAX_LOGGED]:
            info = self._table.info(id)
            event: dict[str, object] = {
                "service": self._behind.service(info.group),
                "peer": str(self._table.peers.find(id, info)),
                "why": why,
                "input_pending_bytes": info.input_pending_bytes,
                "output_pending_bytes": info.output_pending_bytes,
                "seconds": round(info.elapsed, 3),
            }
            logger.warning("connection closed before it finished", extra={"event": event})
        if len(ids) > MAX_LOGGED:
            logger.warning(
                "more connections closed before they finished",
                extra={"event": {"more": len(ids) - MAX_LOGGED, "why": why}},
            )
