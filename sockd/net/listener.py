"""Accepts: a listening socket whose connections go into one group of the set.

A listener without rules accepts in C, a batch a turn.  One with rules
(`sockd.net.admission`, or a limit at which it refuses) accepts one by one.
Whoever is not let in is told so as `at_limit` says: left in the backlog,
closed in order after the banner, or reset.

Out of descriptors or memory the listener pauses, each time longer, until
accept works again; at every try that gets nobody in, one connection is shed with
the spare descriptor.

Where proxies are believed, a connection of theirs waits for its PROXY header first (sockd.net.proxied),
and the rules are then held against the client that it names.

A listener whose service takes connections over (a program for each) accepts one by one
as well, and hands them on in place of the set, or has the service accept: see sockd.net.handover.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sockd.net import packed
from sockd.net.admission import Admission, Verdict
from sockd.net.balance import MOMENT_SECONDS
from sockd.net.connection_sink import log_end
from sockd.net.endpoint import format_peer
from sockd.net.kernel import accept_queue
from sockd.net.last_calls import take_no_more
from sockd.net.proxied import ProxyHeaders
from sockd.net.sink import Sink
from sockd.wire.state import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sockd.net.connection_set import ConnectionSet, Group
    from sockd.net.endpoint import SockAddr
    from sockd.net.handover import Handover
    from sockd.net.kernel import AcceptQueue
    from sockd.net.loop import EventLoop
    from sockd.net.proxied import Proxied
    from sockd.net.reserve import Reserve
    from sockd.net.resolver import Resolver
    from sockd.net.sockets import Listening
    from sockd.net.tls import Handshakes, Secured
    from sockd.net.tls_context import TlsContext
    from sockd.settings import ListenSettings

logger = logging.getLogger("sockd.listener")

ACCEPTS_A_TURN = 128
"""So that one listener's rush does not hold up the connections that are there."""
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.8
"""A shortage is over when others close, not by asking again; service is back within a second."""
LOG_INTERVAL_SECONDS = 5.0
"""A condition that lasts is one line in this time."""
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
RESET = struct.pack("ii", 1, 0)
"""struct linger, on and 0 seconds: close() sends RST (socket(7), FAQ IV.6)."""


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

    def take(self, sock: socket.socket, banner: bytes) -> None:
        """Say the banner, then close in order; past `most` of them, at once."""
        id = self._set.add(sock, self._group) if self._quota.room > 0 else None
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
        accepts_a_turn: before others have their turn.
        is_ahead: whether other processes had better accept now; None where there are none.
        tls: what handshakes are made with; None where connections are not encrypted.
        former: who accepted from the same socket until now, by other settings; what it counted is counted on.

    Attributes:
        group: see above.
        came: connections that were let in, since the start.
    """

    def __init__(
        self,
        listening: Listening,
        settings: ListenSettings,
        *,
        connections: ConnectionSet,
        group: int,
        refusals: Refusals,
        quota: Quota,
        reserve: Reserve,
        loop: EventLoop,
        resolver: Resolver,
        service: str,
        handover: Handover | None = None,
        former: Listener | None = None,
        accepts_a_turn: int = ACCEPTS_A_TURN,
        is_ahead: Callable[[], bool] | None = None,
        tls: TlsContext | None = None,
    ) -> None:
        self._listening = listening
        self._socket = listening.socket
        self._fd = listening.socket.fileno()
        self._accepts_a_turn = accepts_a_turn
        self._is_ahead = is_ahead
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
        self._admission = Admission(settings, loop.clock) if Admission.wanted(settings) else None
        proxies = settings.proxy_protocol
        self._headers = ProxyHeaders(proxies, str(listening), loop) if proxies else None
        self._handshakes = _handshakes(tls, str(listening), loop) if tls else None
        self._is_encrypted = tls is not None and not tls.settings.starttls
        steps = (self._admission, self._headers, tls if self._is_encrypted else None)
        is_plain = all(step is None for step in steps) and settings.at_limit == "defer" and not settings.names
        self._accept_batch: Callable[[int, int], tuple[int, int]] | None = None
        if is_plain and handover is None:
            self._accept_batch = lambda fd, most: connections.accept(fd, group, most)
        elif is_plain and handover is not None and (door := handover.door(self._passed)) is not None:
            self._accept_batch = door.accept
        self._pause = FIRST_PAUSE_SECONDS
        self._logged: dict[str, float] = {}
        self._deferred = False
        self._successor: Listener | None = None
        self.service = service
        self.came: int = former.came if former else 0
        if former is not None and former._admission is not None and self._admission is not None:
            self._admission.take_over(former._admission)
        if handover is None:
            connections.when_ended(group, self._ended)
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
        self._go_on()

    def detach(self, successor: Listener | None) -> None:
        """Accept no more, for another goes on with the socket; connections that wait for their header still come.

        Args:
            successor: None when it is in another process.
        """
        self._loop.remove_reader(self._fd)
        self._fd = -1
        self._successor = successor

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
        came, stopped = self._accept_batch(self._fd, min(room, self._accepts_a_turn))
        self._count(came)
        return self._after(stopped, came) and came == self._accepts_a_turn

    def _accept_each(self) -> bool:
        for came in range(self._accepts_a_turn):
            full = min(one.room for one in self._quotas) <= 0
            if full and self._settings.at_limit == "defer":
                self._defer("max_connections")
                return False
            try:
                sock, peer = self._socket.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in SHORTAGES:
                    return self._after(error.errno, came)
                continue  # that connection's own: ECONNABORTED, EPROTO, EPERM and kin (accept(2))
            self._pause = FIRST_PAUSE_SECONDS
            sock.setblocking(False)
            if self._headers is not None and not full and self._headers.expects(peer):
                self._hold(1)  # it has its place while its header is waited for
                self._headers.take(sock, peer, partial(self._introduced, sock))
            else:
                self._take(sock, peer, full, None)
        return True

    def _introduced(self, sock: socket.socket, peer: SockAddr | None, proxied: Proxied | None) -> None:
        """Go on with a connection whose PROXY header has come; no peer: it has not, and the socket is closed."""
        self._hold(-1)
        if peer is not None:
            self._take(sock, peer, False, proxied)
        else:
            self._wake()

    def _wake(self) -> None:
        """Go on, or have who goes on with the socket do it, if that waits for a place."""
        accepting = self
        while accepting._successor is not None:
            accepting = accepting._successor
        if accepting._deferred:
            accepting._go_on()

    def _take(self, sock: socket.socket, peer: SockAddr, full: bool, proxied: Proxied | None) -> None:
        try:
            self._judge(sock, peer, full, proxied)
        except OSError as error:
            self._log(logging.ERROR, "take", "connection dropped", {"address": str(self), "error": str(error)})
            sock.close()

    def _judge(self, sock: socket.socket, peer: SockAddr, full: bool, proxied: Proxied | None) -> None:
        verdict = Verdict.ADMITTED
        if self._admission is not None and not full:
            verdict = self._admission.judge("" if isinstance(peer, str) else peer[0])
        if full or verdict is not Verdict.ADMITTED:
            self._refuse(sock, peer, "max_connections" if full else verdict.value)
        elif self._handshakes is not None and self._is_encrypted:
            self._hold(1)  # it has its place while its handshake goes on
            self._handshakes.take(sock, peer, partial(self._secured, peer, proxied))
        else:
            self._admit(sock, peer, proxied)

    def _secured(self, peer: SockAddr, proxied: Proxied | None, near: Secured | None) -> None:
        """Go on with a connection whose handshake is done, by its service's end; None: it is not, and is closed."""
        self._hold(-1)
        if near is None:
            self._release(peer)
            self._wake()
            return
        try:
            self._admit(near, peer, proxied, near)
        except OSError as error:
            self._log(logging.ERROR, "take", "connection dropped", {"address": str(self), "error": str(error)})
            near.close()

    def _admit(self, sock: socket.socket, peer: SockAddr, proxied: Proxied | None, near: Secured | None = None) -> None:
        """Hand a connection to whoever serves it."""
        if self._handover is not None:
            self._count(1)
            self._handover.give(sock, peer, lambda: self._served(peer))
        elif (id := self._set.add(sock, self.group)) is None:
            self._release(peer)
            self._refuse(sock, peer, "max_connections of the daemon")
        else:
            self._count(1)
            if near is not None:
                self._set.tls.note(id, near)
            if proxied is not None or (near is not None and not isinstance(peer, str)):
                self._set.name_peer(id, packed.pack_peer(peer), proxied)
            if self._settings.names and not isinstance(peer, str):
                self._resolver.ask(peer[0], lambda name: None)  # remembered until somebody wants it

    def _refuse(self, sock: socket.socket, peer: SockAddr, why: str) -> None:
        event = {"address": str(self), "peer": format_peer(peer), "why": why}
        self._log(logging.WARNING, f"refused: {why}", "refused", event)
        if self._settings.at_limit == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()
            return
        self._refusals.take(sock, self._settings.banner.encode() + b"\n" if self._settings.banner else b"")

    # ---- pausing

    def _after(self, stopped: int, came: int) -> bool:
        """Pause if accept said so; True when it did not.

        Whoever came last has the last descriptor.  When the next try gets none either, the one in front is shed:
        where others are ending, one that came in the meantime is served.
        """
        if came or not stopped:
            self._pause = FIRST_PAUSE_SECONDS
        if not stopped:
            return True
        if stopped < 0:
            self._defer("max_connections of the daemon")
            return False
        if not came:
            self._reserve.shed(self._socket.accept)
            event = {"address": str(self), "error": os.strerror(stopped), "pause_seconds": self._pause}
            self._log(logging.ERROR, "shortage", "accept paused, one connection shed", event)
        self._loop.remove_reader(self._fd)
        self._loop.call_later(self._pause, self._go_on)
        self._set.when_room(self._go_on)  # a descriptor is free sooner when one of ours has ended
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return False

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
            self._loop.add_reader(self._fd, self._accept)
        except OSError as error:  # epoll_ctl(2): ENOMEM, ENOSPC
            self._log(logging.ERROR, "watch", "accept paused", {"address": str(self), "error": str(error)})
            self._loop.call_later(LONGEST_PAUSE_SECONDS, self._go_on)

    def _log(self, level: int, key: str, message: str, event: Mapping[str, object]) -> None:
        now = self._loop.clock()
        if now - self._logged.get(key, -LOG_INTERVAL_SECONDS) >= LOG_INTERVAL_SECONDS:
            self._logged[key] = now
            logger.log(level, message, extra={"event": event})

    # ---- counting

    def _count(self, came: int) -> None:
        self.came += max(0, came)
        self._hold(came)

    def _hold(self, places: int) -> None:
        for quota in self._quotas:
            quota.count += places

    def _served(self, peer: SockAddr) -> None:
        """Count a connection that was handed over as ended, and go on if that is what was waited for."""
        self._release(peer)
        self._passed()

    def _passed(self) -> None:
        self._count(-1)
        self._wake()

    def _ended(self, id: int) -> None:
        self._count(-1)
        if self._admission is not None:
            self._release(packed.unpack(self._set.info(id).peer)[1])

    def adopt(self, id: int) -> None:
        """Count a connection that another process let in."""
        self._hold(1)
        host = packed.host(self._set.info(id).peer)
        if self._admission is not None:
            self._admission.count(host)
        if self._settings.names and host:
            self._resolver.ask(host, lambda name: None)

    def _release(self, peer: SockAddr) -> None:
        if self._admission is not None and not isinstance(peer, str):
            self._admission.release(peer[0])

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
            take_no_more(self._socket)

    def hand_over(self) -> None:
        """Accept no more and close the socket, and nothing else: another process has it, and goes on with it."""
        self._loop.remove_reader(self._fd)
        self._fd = -1
        self._listening.socket.close()

    def close(self) -> None:
        """Take no more, accept what has completed already, and listen no more."""
        if self._fd < 0:
            return
        self.take_no_more()
        self._loop.remove_reader(self._fd)
        while self._accept_some():
            pass
        if self._headers is not None:
            self._headers.close()
        if self._handshakes is not None:
            self._handshakes.close()
        if self._handover is not None:
            self._handover.close()
        self._loop.remove_reader(self._fd)
        self._fd = -1
        self._listening.close()


def _handshakes(tls: TlsContext, address: str, loop: EventLoop) -> Handshakes:
    from sockd.net.tls import Handshakes  # here, for it takes OpenSSL along

    return Handshakes(tls, address, loop)
