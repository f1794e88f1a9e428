# SPDX-License-Identifier: MIT
"""Accepts: a listening socket whose connections go into one group of the connection table.

A listener without rules accepts in C, a batch per turn.  One with rules (`sockd.net.listen.admission`, or a limit at
which it refuses), or of vsock (whose peers lose their names as we close), accepts one by one by the steps of
sockd.net.listen.pipeline. Above a limit `at_limit` decides: left in the backlog, closed after the banner, or reset.

Out of descriptors or memory the listener pauses, each time longer, until
accept works again; at every try that gets nobody in, one connection is shed with
the spare descriptor.

A listener whose service takes connections over (a program for each) accepts one by one
as well, and hands them on in place of the table, or has the service accept: see sockd.net.listen.handoff.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections import Counter
from typing import TYPE_CHECKING

from sockd.lazy import lazily
from sockd.log.rate_limit import LogLimit
from sockd.net.address.sockaddr import AF_VSOCK, SocketAddress
from sockd.net.connection.silent import EVERY_GROUP, has_silent, shed_silent
from sockd.net.kernel import DEAD, SHORTAGES, accept_queue, is_hung_up
from sockd.net.listen.admission import Admission
from sockd.net.listen.client_steps import ClientRules, GreetingStep
from sockd.net.listen.conditions import TotalRate, renew_total_rate
from sockd.net.listen.listener import ListenerCounts
from sockd.net.listen.listener_state import GONE, LISTENER, ListenerState
from sockd.net.listen.overload import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Quota, Refusing
from sockd.net.listen.pipeline import AcceptedConnection, AcceptPipeline, Places
from sockd.net.listen.proxy_protocol import ProxyHeaders
from sockd.net.listen.refusal import RefusalReason, Refusals, RefusedClient
from sockd.net.listen.steps import HeaderStep, OwnerStep, RoomStep, TableStep, TlsStep
from sockd.net.listen.syn_filter import HANDSHAKE_SECONDS, refuse_new_clients
from sockd.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.net.kernel import AcceptQueue
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.listen.delivery import AcceptTools, Delivery
    from sockd.net.listen.pipeline import AcceptStep
    from sockd.net.tls import handshake
    from sockd.settings.listen import ListenSettings
else:
    handshake = lazily("sockd.net.tls.handshake")

logger = logging.getLogger("sockd.listener")

SILENT_SECONDS = 0.5
"""Who has sent nothing for so long makes room when there is none (as nginx's reusable connections do)."""
SHED = 16
"""So many at a time."""
MOMENT_SECONDS = 0.002
"""For other processes to accept; one that is busy for longer would not have been faster."""


@dataclass
class _Tally:
    """What is counted on one socket, by whichever settings."""

    quota: Quota
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    accepting: StreamListener | None = None
    """Who accepts now; none of those that have done so keeps another."""
    total_rate: TotalRate | None = None


class StreamListener:
    """One listening socket.

    Args:
        listening: bound, non-blocking; closed by close().
        settings: its rules and limits.
        delivery, tools: see there.
        former: who accepted from the same socket until now, by other settings; what it counted is counted on.
        died: called when the socket has been shut down by whoever passed it, and is closed.
    """

    def __init__(
        self,
        listening: ServerSocket,
        settings: ListenSettings,
        delivery: Delivery,
        tools: AcceptTools,
        *,
        former: StreamListener | None = None,
        died: Callable[[], None] = lambda: None,
    ) -> None:
        self._listening, self._socket = listening, listening.socket
        self._fd = listening.socket.fileno()
        self._tools, self._delivery = tools, delivery
        self._table, self._loop = tools.connections, tools.loop
        self._died, self._settings = died, settings
        self._is_unix = listening.endpoint.family == socket.AF_UNIX
        self._state = ListenerState.NEW
        self._is_deferred = False  # nobody is accepted until there is room
        self._tally: _Tally = former._tally if former else _Tally(Quota(settings.max_connections))
        before = former._admission if former else None
        self._admission: Admission = Admission(settings, self._loop.clock, before, tools, delivery.service)
        self._places = Places((delivery.quota, self._tally.quota), self._admission)
        self._refusals = Refusals(
            self._tally.refused, delivery.refused, str(listening), delivery.service, self._loop.call_later
        )
        self._refusing = Refusing(settings, tools.refusals, self._refusals, delivery.texts.farewell)
        self._tally.total_rate = renew_total_rate(self._tally.total_rate, settings.total_rate, self._loop.clock)
        self._rules = ClientRules(settings, self._admission, tools, self._tally.total_rate, delivery.service)
        proxies, tls = settings.proxy_protocol, delivery.tls
        self._headers = ProxyHeaders(proxies, str(listening), self._loop) if proxies else None
        handshakes = handshake.Handshakes(tls, str(listening), self._loop) if tls else None
        is_encrypted = tls is not None and not tls.settings.starttls
        self._handshakes = handshakes if is_encrypted else None  # those of STARTTLS end with their connections
        self._pipeline = AcceptPipeline(
            self._steps(),
            self._places,
            self._loop,
            refuse=self._refusing.refuse,
            count=self._refusing.count,
            free=self._wake,
            address=str(listening),
        )
        is_plain = settings.at_limit == "defer" and self._headers is None and listening.endpoint.family != AF_VSOCK
        is_plain = is_plain and not (is_encrypted or self._admission.looks_at_each or settings.names or settings.banner)
        is_plain = is_plain and not (settings.is_conditional or settings.banner_files or delivery.texts.greeting)
        self._accept_batch = self._batches() if is_plain else None
        self._pause = FIRST_PAUSE_SECONDS
        self._log_limit = LogLimit(self._loop.clock)
        if delivery.handover is None:
            self._table.groups.when_ended(delivery.group, self._ended)
            self._table.groups.count_sources(delivery.group, self._admission.sources)
        if not is_encrypted:
            self._table.tls.offer(delivery.group, handshakes)

    def _steps(self) -> list[AcceptStep]:
        """Return the steps that connections of this listener have to take."""
        steps: list[AcceptStep] = [RoomStep()]
        if self._headers is not None:
            steps.append(HeaderStep(self._headers))
        steps += self._rules.steps()
        if self._handshakes is not None:
            steps.append(TlsStep(self._handshakes))
        if greeting := self._delivery.texts.greeting:
            steps.append(GreetingStep(greeting))
        group, handover = self._delivery.group, self._delivery.handover
        if handover is not None:
            return [*steps, OwnerStep(handover, self._let_in, lambda wire: handshake.carry(wire, self._loop))]
        ask = self._ask if self._settings.names else None
        return [*steps, TableStep(self._table, group, self._admission, self._let_in, ask)]

    def _batches(self) -> Callable[[int, int], tuple[int, int]] | None:
        """Return what accepts many at once, without a look at each; None where each is to be handed over."""
        connections, group, handover = self._table, self._delivery.group, self._delivery.handover
        if handover is None:
            return lambda fd, max_count: connections.accept(fd, group, max_count)
        door = handover.door(self._passed, self._admission.sources)
        return door.accept if door is not None else None

    def __str__(self) -> str:
        return str(self._listening)

    # ---- accepting

    def start(self) -> None:
        """Accept from now on."""
        self._tally.quota.limit = self._tools.listener_limits.get(str(self), self._settings.max_connections)
        self._tally.accepting = self
        if self._state is ListenerState.NEW:
            self._state = LISTENER.step(self._state, ListenerState.OPEN)
        self._resume_accepting()

    def detach(self) -> None:
        """Accept no more, for another listener or process does; connections that wait for their header still come."""
        self._leave(ListenerState.LEFT)

    def _leave(self, then: ListenerState) -> None:
        """Accept no more; again does nothing."""
        if self._state not in GONE:
            self._loop.remove_reader(self._fd)
            self._state = LISTENER.step(self._state, then)

    @property
    def is_idle(self) -> bool:
        """Return whether no accepted connection is still on its way to the group."""
        return not (self._headers or self._handshakes or self._rules)

    @property
    def groups(self) -> Sequence[int]:
        """The group of the table that its connections are in."""
        return (self._delivery.group,)

    @property
    def counts(self) -> ListenerCounts:
        """Counts of its socket, also with former settings."""
        quota = self._tally.quota
        return ListenerCounts(self._tally.accepted, quota.count, self._tally.refused, peak=quota.peak)

    @property
    def queues(self) -> Sequence[AcceptQueue]:
        """The kernel's accept queue; none if it is not available."""
        queue = accept_queue(self._socket) if self._state not in GONE else None
        return () if queue is None else (queue,)

    def _accept(self) -> None:
        if self._state in GONE:  # a reload in this very turn has put another in its place
            return
        is_ahead = self._tools.is_ahead
        if is_ahead is not None and is_ahead():
            self._loop.remove_reader(self._fd)
            self._loop.call_later(MOMENT_SECONDS, self._after_others)
        else:
            self._accept_some()

    def _after_others(self) -> None:
        """Resume, and accept what the others have left."""
        self._resume_accepting()
        if self._state not in GONE:
            self._accept_some()

    def _accept_some(self) -> bool:
        """Accept up to a turn's worth; False when there is no more, or no more is wanted now."""
        if self._accept_batch is None or self._tools.has_overrides:
            return self._accept_each()
        room = self._places.room
        if room <= 0:
            self._defer(RefusalReason.FULL)
            return False
        accepted, stopped = self._accept_batch(self._fd, min(room, self._tools.accepts_a_turn))
        self._count(accepted)
        return self._after(stopped, accepted) and accepted == self._tools.accepts_a_turn

    def _accept_each(self) -> bool:
        for accepted in range(self._tools.accepts_a_turn):
            full = self._full
            if full and self._defer(full, always=self._settings.at_limit == "defer"):
                return False
            try:
                sock, name = self._socket.accept()
            except BlockingIOError:
                self._after(0, accepted)
                return False
            except OSError as error:
                if error.errno in SHORTAGES or error.errno in DEAD:
                    return self._after(error.errno or 0, accepted)
                continue  # that connection's own: ECONNABORTED, EPROTO, EPERM and kin (accept(2))
            self._pause = FIRST_PAUSE_SECONDS
            sock.setblocking(False)
            address = SocketAddress.from_sockaddr(name)
            self._pipeline.advance(AcceptedConnection(sock, address, address))
        return True

    # ---- pausing

    def _after(self, stopped: int, accepted: int) -> bool:
        """Pause if accept said so; True when it did not.

        The client that came last has the last descriptor.  When the next try gets none either, the first in the queue
        is shed: if others are closing, one that came in the meantime is served.
        """
        if accepted or not stopped:
            self._pause = FIRST_PAUSE_SECONDS
        if not stopped and not accepted and self._is_unix and is_hung_up(self._socket):
            stopped = errno.EINVAL  # which accept(2) of a Unix socket says only where it may wait
        if not stopped:
            return True
        if stopped in DEAD:
            self._die(stopped)
            return False
        if stopped < 0:
            self._defer(RefusalReason.DAEMON_FULL)
            return False
        if not accepted:
            if self._tools.reserve.shed(self._socket.accept):
                self._refusals.count(RefusalReason.NO_DESCRIPTOR, RefusedClient(error=os.strerror(stopped)))
            event = {"address": str(self), "error": os.strerror(stopped), "pause_seconds": self._pause}
            self._log_limit.log_limited(
                logger, logging.ERROR, "accept paused, one connection shed", event, key="shortage"
            )
        self._loop.remove_reader(self._fd)
        self._loop.call_later(self._pause, self._resume_accepting)
        self._table.when_room(self._resume_accepting)  # a descriptor is free sooner when one of ours has ended
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return False

    def _die(self, error: int) -> None:
        """Give up a socket that is always ready and accepts nothing: shut down by another process, or to empty its
        queue.
        """
        if self._state is ListenerState.CLOSING:
            self._loop.remove_reader(self._fd)
            return
        self._leave(ListenerState.DEAD)
        self._listening.close()
        if self._tools.is_ahead is None:
            event = {"address": str(self), "service": self._delivery.service, "error": os.strerror(error)}
            logger.error("listening socket shut down by another process, no longer listening", extra={"event": event})
            self._died()

    def accept_rest(self) -> None:
        """Accept who waits in the queue."""
        while self._state not in GONE and self._accept_some():
            pass

    @property
    def _full(self) -> RefusalReason | None:
        """Why there is no room for another one; None if there is."""
        if self._places.room <= 0:
            return RefusalReason.FULL
        has_rows = self._delivery.handover is None and not self._delivery.is_urgent
        return RefusalReason.DAEMON_FULL if has_rows and self._table.is_full else None

    def _defer(self, what: RefusalReason, *, always: bool = True) -> bool:
        """Have the next ones wait until there is room, which silent ones make that have been there for a while.

        Args:
            what: is full.
            always: whether they also wait where nobody is silent.

        Returns:
            Whether they wait.
        """
        has_unreaped = self._table.has_unreaped  # what closed in this turn has made room, which is there in the next
        group = self._delivery.group if what is RefusalReason.FULL else EVERY_GROUP
        shed = 0 if has_unreaped else shed_silent(self._table, group, SILENT_SECONDS, SHED)
        if not (always or shed or has_unreaped or has_silent(self._table, group)):
            return False
        closed = {"silent_closed": shed} if shed else {}
        event = {"address": str(self), "limit": what.limit, "at_limit": self._settings.at_limit, **closed}
        text = "limit reached, new clients wait in the backlog"
        self._log_limit.log_limited(logger, logging.WARNING, text, event, key=what)
        self._loop.remove_reader(self._fd)
        self._is_deferred = True
        if has_unreaped:
            self._loop.call_soon(self._resume_accepting)
            return True
        self._table.when_room(self._resume_accepting)
        if not shed:
            self._loop.call_later(SILENT_SECONDS, self._wake)  # some may be silent for long enough by then
        return True

    def _wake(self) -> None:
        """Have the listener that accepts from the socket, this one or a successor, resume if it waits for a place."""
        accepting = self._tally.accepting
        if accepting is not None and accepting._is_deferred:
            accepting._resume_accepting()

    def _resume_accepting(self) -> None:
        if self._state in GONE:
            return
        self._is_deferred = False
        self._loop.remove_reader(self._fd)
        try:
            self._loop.add_reader(self._fd, self._accept, urgent=self._delivery.is_urgent)
        except OSError as error:  # epoll_ctl(2): ENOMEM, ENOSPC
            event = {"address": str(self), "error": str(error)}
            self._log_limit.log_limited(logger, logging.ERROR, "accept paused", event, key="watch")
            self._loop.call_later(LONGEST_PAUSE_SECONDS, self._resume_accepting)

    # ---- counting

    def _count(self, accepted: int) -> None:
        self._tally.accepted += max(0, accepted)
        self._places.count(accepted)
        if found := self._admission.refused_in_c():
            self._refusing.refused_by_source(*found)

    def _let_in(self) -> None:
        self._tally.accepted += 1

    def _ask(self, host: str) -> None:
        self._tools.resolver.ask(host, lambda name: None)  # remembered until somebody wants it

    def _passed(self) -> None:
        """Count a connection as closed that the service has accepted itself."""
        self._places.count(-1)
        self._wake()

    def _ended(self, id: int) -> None:
        self._places.count(-1)
        self._admission.ended(id)

    def count_on(self, counts: ListenerCounts) -> None:
        """Go on from what another process has counted."""
        self._tally.accepted = counts.accepted
        self._tally.refused.update(counts.refused)
        self._delivery.refused.update(counts.refused)

    def adopt(self, id: int) -> None:
        """Count a connection that another process accepted."""
        self._places.count(1)
        self._admission.adopt(id, self._table.peers.source_host(id))
        if self._settings.names and (client := self._table.peers.find(id).host):
            self._ask(client)

    def running(self) -> list[int]:
        """None: no program has its socket."""
        return []

    def await_programs(self, descriptors: Sequence[int]) -> None:
        """Nothing: no program has its socket."""

    # ---- the end

    def refuse_new_clients(self) -> float:
        """Refuse new clients, and remove the Unix path; those already connecting are accepted until close().

        A socket that another process holds, too, stays open for the clients of its next listener.

        Returns:
            Seconds after which no handshake is in progress.
        """
        if self._state in GONE:
            return HANDSHAKE_SECONDS
        if self._listening.path is not None:
            self._listening.path.unlink_if_ours()
        if self._listening.is_ours and self._state is not ListenerState.CLOSING:
            self._state = LISTENER.step(self._state, ListenerState.CLOSING)
            refuse_new_clients(self._socket)
        return HANDSHAKE_SECONDS

    def hand_over(self) -> None:
        """Stop accepting and close this descriptor only: another process has the socket, and keeps using it."""
        self._leave(ListenerState.LEFT)
        self._refusals.flush()
        self._listening.socket.close()

    def close(self) -> None:
        """Refuse new clients, accept the completed ones, and close the socket."""
        if self._state in (ListenerState.LEFT, ListenerState.CLOSED):
            return
        self.refuse_new_clients()
        self.accept_rest()
        for waiting in (self._headers, self._rules, self._handshakes, self._delivery.handover):
            if waiting is not None:
                waiting.close()
        self._refusals.flush()
        if self._state is not ListenerState.DEAD:  # whose socket is closed
            self._loop.remove_reader(self._fd)
            self._listening.close()
        self._state = LISTENER.step(self._state, ListenerState.CLOSED)


__all__ = ["StreamListener"]
