# SPDX-License-Identifier: MIT
"""Accepts: a listening socket whose connections go into one group of the set.

A listener without rules accepts in C, a batch a turn.  One with rules
(`sockd.net.listen.admission`, or a limit at which it refuses) accepts one by one.
Whoever is not let in is told so as `at_limit` says: left in the backlog,
closed in order after the banner, or reset.

Out of descriptors or memory the listener pauses, each time longer, until
accept works again; at every try that gets nobody in, one connection is shed with
the spare descriptor.

Where proxies are believed, a connection of theirs waits for its PROXY header first (sockd.net.listen.proxy_protocol),
and the rules are then held against the client that it names.

A listener whose service takes connections over (a program for each) accepts one by one
as well, and hands them on in place of the set, or has the service accept: see sockd.net.listen.handoff.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from sockd.log.rate_limit import LogLimit
from sockd.net.address.sockaddr import SocketAddress
from sockd.net.connection.peer_gone import is_gone
from sockd.net.kernel import DEAD, SHORTAGES, accept_queue, is_hung_up
from sockd.net.listen.accepted import AcceptedConnection, handshakes
from sockd.net.listen.admission import SOURCE_LIMIT, Admission, Verdict
from sockd.net.listen.overload import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Accepting, Quota
from sockd.net.listen.proxy_protocol import ProxyHeaders
from sockd.net.listen.syn_filter import take_no_more
from sockd.net.tls.socket_pair import close_with_reset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sockd.net.connect.reverse_dns import ReverseDns
    from sockd.net.connection.peers import ProxyInfo
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.kernel import AcceptQueue
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.listen.handoff import Handoff
    from sockd.net.listen.overload import RejectedConnections, SpareDescriptor
    from sockd.net.loop.loop import EventLoop
    from sockd.net.tls.context import TlsContext
    from sockd.net.tls.socket_pair import TlsSocket
    from sockd.settings.listen import ListenSettings

logger = logging.getLogger("sockd.listener")

ACCEPTS_A_TURN = 128
"""So that one listener's rush does not hold up the connections that are there."""


class Listener:
    """One listening socket.

    Args:
        listening: bound, non-blocking; closed by close().
        settings: its rules and limits.
        group: of the set, for what is accepted; this listener's own.
        handover: takes what is accepted in place of the set.
        refusals: takes those that are not let in.
        quota: of the service.
        reserve: the spare descriptor.
        resolver: asked for the names of clients where `names` is on.
        service: its name, for the log.
        urgent, accepts_a_turn: it accepts in each turn, whoever else is ready; so many before others have theirs.
        is_ahead: whether other processes had better accept now; None where there are none.
        died: called when the socket has been shut down by whoever passed it, and is closed.
        tls: what handshakes are made with; None where connections are not encrypted.
        former: who accepted from the same socket until now, by other settings; what it counted is counted on.

    Attributes:
        group: see above.
        came: connections that were let in, since the start.
        refused: those that were not, by the reason.
    """

    def __init__(
        self,
        listening: ServerSocket,
        settings: ListenSettings,
        *,
        connections: ConnectionTable,
        group: int,
        refusals: RejectedConnections,
        quota: Quota,
        reserve: SpareDescriptor,
        loop: EventLoop,
        resolver: ReverseDns,
        service: str,
        handover: Handoff | None = None,
        former: Listener | None = None,
        urgent: bool = False,
        accepts_a_turn: int = ACCEPTS_A_TURN,
        is_ahead: Callable[[], bool] | None = None,
        tls: TlsContext | None = None,
        died: Callable[[], None] = lambda: None,
    ) -> None:
        self._listening, self._socket = listening, listening.socket
        self._fd = listening.socket.fileno()
        self._accepts_a_turn, self._urgent = accepts_a_turn, urgent
        self._is_ahead = is_ahead
        self._died = died
        self._is_unix = listening.endpoint.family == socket.AF_UNIX
        self._is_shut = self._is_dead = False
        self._settings = settings
        self._handover = handover
        self._set = connections
        self.group = group
        self._refusals = refusals
        self._own: Quota = former._own if former else Quota(settings.max_connections)
        self._quotas = (quota, self._own)
        self._reserve = reserve
        self._loop = loop
        self._resolver = resolver
        self._admission: Admission = Admission(settings, loop.clock, former._admission if former else None)
        proxies = settings.proxy_protocol
        self._headers = ProxyHeaders(proxies, str(listening), loop) if proxies else None
        self._handshakes = handshakes(tls, str(listening), loop) if tls else None
        self._is_encrypted = tls is not None and not tls.settings.starttls
        is_plain = settings.at_limit == "defer" and self._headers is None and not self._is_encrypted
        is_plain = is_plain and not (self._admission.looks_at_each or settings.names or settings.banner)
        self._accept_batch: Callable[[int, int], tuple[int, int]] | None = None
        if is_plain and handover is None:
            self._accept_batch = lambda fd, most: connections.accept(fd, group, most)
        elif is_plain and handover is not None:
            door = handover.door(self._passed, self._admission.sources)
            self._accept_batch = door.accept if door is not None else None
        self._pause = FIRST_PAUSE_SECONDS
        self._log_limit = LogLimit(loop.clock)
        self._deferred = False
        self._accepting: Accepting = former._accepting if former else Accepting()
        self.service = service
        self.accepted: int = former.accepted if former else 0
        self.refused: Counter[str] = former.refused if former else Counter()
        if handover is None:
            connections.when_ended(group, self._ended)
            connections.count_sources(group, self._admission.sources)
        if not self._is_encrypted:
            connections.tls.offer(group, self._handshakes)

    def __str__(self) -> str:
        return str(self._listening)

    @property
    def counts(self) -> None:
        """There are no datagrams."""

    # ---- accepting

    def start(self) -> None:
        """Accept from now on."""
        self._own.most = self._settings.max_connections
        self._accepting.listener = self
        self._go_on()

    def detach(self) -> None:
        """Accept no more, for another listener or process does; connections that wait for their header still come."""
        self._loop.remove_reader(self._fd)
        self._fd = -1

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing that was accepted is on its way to the group any more."""
        return not self._headers and not self._handshakes

    @property
    def open(self) -> int:
        """Connections that came through its socket, also by former settings, and have not ended."""
        return self._own.count

    @property
    def queue(self) -> AcceptQueue | None:
        """The kernel's accept queue; None where it does not tell."""
        return accept_queue(self._socket) if self._fd >= 0 else None

    def _accept(self) -> None:
        if self._fd < 0:  # a reload in this very turn has put another in its place
            return
        if self._is_ahead is not None and self._is_ahead():
            self._loop.remove_reader(self._fd)
            self._loop.call_later(MOMENT_SECONDS, self._after_others)
        else:
            self._accept_some()

    def _after_others(self) -> None:
        """Go on, and take what the others have left."""
        self._go_on()
        if self._fd >= 0:
            self._accept_some()

    def _accept_some(self) -> bool:
        """Accept up to a turn's worth; False when there is no more, or no more is wanted now."""
        if self._accept_batch is None:
            return self._accept_each()
        room = min(one.room for one in self._quotas)
        if room <= 0:
            self._defer("max_connections")
            return False
        accepted, stopped = self._accept_batch(self._fd, min(room, self._accepts_a_turn))
        self._count(accepted)
        return self._after(stopped, accepted) and accepted == self._accepts_a_turn

    def _accept_each(self) -> bool:
        for accepted in range(self._accepts_a_turn):
            full = min(one.room for one in self._quotas) <= 0
            if full and self._settings.at_limit == "defer":
                self._defer("max_connections")
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
            address = SocketAddress.of(name)
            self._take(AcceptedConnection(sock, address, address), partial(self._introduce, full=full))
        return True

    # ---- on the way: PROXY header, rules, handshake, service

    def _take(self, one: AcceptedConnection, step: Callable[[AcceptedConnection], None]) -> None:
        """Take a connection a step further; whatever fails costs it alone."""
        try:
            step(one)
        except OSError as error:
            self._log(logging.ERROR, "take", "connection dropped", {"address": str(self), "error": str(error)})
            self._drop(one)
        except BaseException as error:
            self._loop.defects.report(error)
            self._drop(one)

    def _drop(self, one: AcceptedConnection) -> None:
        """Close a connection that is not served, if it is not closed, and go on if a place is what is waited for."""
        one.sock.close()
        self._served(one)

    def _give_back(self, one: AcceptedConnection) -> None:
        """Give back what a connection holds; again does nothing."""
        if one.has_place:
            one.has_place = False
            self._hold(-1)
        self._admission.release(one.source)
        one.source = ""

    def _hold_place(self, one: AcceptedConnection) -> None:
        if not one.has_place:
            one.has_place = True
            self._hold(1)

    def _introduce(self, one: AcceptedConnection, full: bool) -> None:
        if self._headers is not None and not full and self._headers.expects(one.accepted):
            self._hold_place(one)  # while its header is waited for
            self._headers.take(one.sock, one.accepted, partial(self._introduced, one))
        else:
            self._judge(one, full)

    def _introduced(self, one: AcceptedConnection, client: SocketAddress | None, proxied: ProxyInfo | None) -> None:
        """Go on with a connection whose PROXY header has come; no client: it has not, and the socket is closed."""
        if client is None:
            self._drop(one)
            return
        one.client, one.proxied = client, proxied
        self._take(one, self._judge)

    def _wake(self) -> None:
        """Resume accepting on the socket if its listener, this one or a successor, waits for a place."""
        accepting = self._accepting.listener
        if accepting is not None and accepting._deferred:
            accepting._go_on()

    def _judge(self, one: AcceptedConnection, full: bool = False) -> None:
        verdict = Verdict.ADMITTED
        if not full:
            # What a header names without an address (a Unix socket) is judged by the proxy's own.
            host = one.client.host or one.accepted.host
            verdict = self._admission.judge(host)
            one.source = host if verdict is Verdict.ADMITTED else ""
        if full or verdict is not Verdict.ADMITTED:
            self._refuse(one, "max_connections" if full else verdict.value)
        elif self._is_encrypted and is_gone(one.sock):
            self._log(logging.INFO, "gone", "gone before it was served", {"peer": str(one.client)})
            self._drop(one)
        elif self._handshakes is not None and self._is_encrypted:
            self._hold_place(one)  # while its handshake goes on
            self._handshakes.take(one.sock, one.client, partial(self._secured, one))
        else:
            self._admit(one)

    def _secured(self, one: AcceptedConnection, near: TlsSocket | None) -> None:
        """Go on with a connection whose handshake is done, by its service's end; None: it is not, and is closed."""
        if near is None:
            self._drop(one)
            return
        one.sock = one.secured = near
        self._take(one, self._admit)

    def _admit(self, one: AcceptedConnection) -> None:
        """Hand a connection to whoever serves it."""
        if self._handover is not None:
            self._let_in(one)
            self._handover.give(one.sock, one.client, partial(self._served, one))
        elif (id := self._set.add(one.sock, self.group, one.client, one.proxied)) is None:
            self._refuse(one, "max_connections of the daemon")
        else:
            self._let_in(one)
            self._admission.note(id, one.source)
            if one.secured is not None:
                self._set.tls.note(id, one.secured)
            if self._settings.names and one.client.host:
                self._resolver.ask(one.client.host, lambda name: None)  # remembered until somebody wants it

    def _let_in(self, one: AcceptedConnection) -> None:
        self.accepted += 1
        self._hold_place(one)

    def _refuse(self, one: AcceptedConnection, why: str) -> None:
        self._give_back(one)
        self._say_refused(why, {"peer": str(one.client)})
        if self._settings.at_limit == "reset":
            close_with_reset(one.sock)
            return
        banner = self._settings.banner.encode() + b"\n" if self._settings.banner else b""
        self._refusals.take(one.sock, one.client, banner)

    def _say_refused(self, why: str, event: Mapping[str, object], count: int = 1) -> None:
        self.refused[why] += count
        self._log(logging.WARNING, f"refused: {why}", "refused", {"address": str(self), **event, "why": why})

    # ---- pausing

    def _after(self, stopped: int, accepted: int) -> bool:
        """Pause if accept said so; True when it did not.

        Whoever came last has the last descriptor.  When the next try gets none either, the one in front is shed:
        where others are ending, one that came in the meantime is served.
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
            self._defer("max_connections of the daemon")
            return False
        if not accepted:
            self._reserve.shed(self._socket.accept)
            event = {"address": str(self), "error": os.strerror(stopped), "pause_seconds": self._pause}
            self._log(logging.ERROR, "shortage", "accept paused, one connection shed", event)
        self._loop.remove_reader(self._fd)
        self._loop.call_later(self._pause, self._go_on)
        self._set.when_room(self._go_on)  # a descriptor is free sooner when one of ours has ended
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return False

    def _die(self, error: int) -> None:
        """Let go of a socket that is ready for ever and lets nobody in: shut down by others, or to empty its queue."""
        self._loop.remove_reader(self._fd)
        if self._is_shut:
            return
        self._fd, self._is_dead = -1, True
        self._listening.close()
        if self._is_ahead is None:
            event = {"address": str(self), "service": self.service, "error": os.strerror(error)}
            logger.error("shut down by somebody else, no longer listening", extra={"event": event})
            self._died()

    def accept_rest(self) -> None:
        """Accept who waits in the queue."""
        while self._fd >= 0 and self._accept_some():
            pass

    def _defer(self, what: str) -> None:
        event = {"address": str(self), "limit": what}
        self._log(logging.WARNING, what, "limit reached, the next ones wait in the backlog", event)
        self._loop.remove_reader(self._fd)
        self._deferred = True
        if self._set.is_settling:  # one that ended in this very turn has made room, which is there in the next
            self._loop.call_soon(self._go_on)
        else:
            self._set.when_room(self._go_on)

    def _go_on(self) -> None:
        if self._fd < 0:
            return
        self._deferred = False
        self._loop.remove_reader(self._fd)
        try:
            self._loop.add_reader(self._fd, self._accept, urgent=self._urgent)
        except OSError as error:  # epoll_ctl(2): ENOMEM, ENOSPC
            self._log(logging.ERROR, "watch", "accept paused", {"address": str(self), "error": str(error)})
            self._loop.call_later(LONGEST_PAUSE_SECONDS, self._go_on)

    def _log(self, level: int, key: str, message: str, event: Mapping[str, object]) -> None:
        held_back = self._log_limit.admit(key)
        if held_back is not None:
            about = {**event, "held_back": held_back} if held_back else event
            logger.log(level, message, extra={"event": about})

    # ---- counting

    def _count(self, accepted: int) -> None:
        self.accepted += max(0, accepted)
        self._hold(accepted)
        if found := self._admission.refused_in_c():
            self._say_refused(Verdict.TOO_MANY.value, {"source": found[0], "limit": SOURCE_LIMIT}, found[1])

    def _hold(self, places: int) -> None:
        for quota in self._quotas:
            quota.count += places

    def _served(self, one: AcceptedConnection) -> None:
        """Count a connection that was handed over as ended, and go on if that is what was waited for."""
        self._give_back(one)
        self._wake()

    def _passed(self) -> None:
        """Count a connection as ended that the service has accepted itself."""
        self._hold(-1)
        self._wake()

    def _ended(self, id: int) -> None:
        self._hold(-1)
        self._admission.ended(id)

    def adopt(self, id: int) -> None:
        """Count a connection that another process let in."""
        self._hold(1)
        self._admission.adopt(id, self._set.peers.source_host(id))
        if self._settings.names and (client := self._set.peers.of(id).host):
            self._resolver.ask(client, lambda name: None)

    # ---- the end

    def take_no_more(self) -> None:
        """Let no new client in, and remove its Unix path; those on their way in are accepted until close().

        A socket that somebody else holds, too, stays open for the clients of whoever is next.
        """
        if self._fd < 0:
            return
        if self._listening.path is not None:
            self._listening.path.unlink_if_ours()
        if self._listening.is_ours:
            self._is_shut = True
            take_no_more(self._socket)

    def hand_over(self) -> None:
        """Accept no more and close the socket, and nothing else: another process has it, and goes on with it."""
        self._loop.remove_reader(self._fd)
        self._fd = -1
        self._listening.socket.close()

    def close(self) -> None:
        """Take no more, accept what has completed already, and listen no more."""
        if self._fd < 0 and not self._is_dead:
            return
        self.take_no_more()
        self._loop.remove_reader(self._fd)
        self.accept_rest()
        if self._headers is not None:
            self._headers.close()
        if self._handshakes is not None:
            self._handshakes.close()
        if self._handover is not None:
            self._handover.close()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._listening.close()
        self._fd, self._is_dead = -1, False


MOMENT_SECONDS = 0.002
"""For the others to take it; one that is busy for longer would not have been faster."""


__all__ = ["MOMENT_SECONDS"]
