# SPDX-License-Identifier: MIT
"""TLS: the handshakes of a listener.

A handshake waits beside the listener, with a deadline of its own, and holds up nobody.  Once it is done, a connection
of the table goes through a filter of its own (sockd.net.tls.stream); a program, a relay or a SOCKS server gets one end
of a socket pair, as any accepted socket, with a tunnel at the other (sockd.net.tls.tunnel).  So no service sees a byte
that came before the handshake was done, or that was not protected by it.

What a peer can bring a handshake to is one line of the log and the end of its connection: nothing of it is raised.
"""

from __future__ import annotations

import logging
import selectors
from functools import partial
from typing import TYPE_CHECKING

from sockd.net.loop.deadline import Deadline
from sockd.net.loop.shares import Shares, source_key
from sockd.net.tls.context import CertificateError
from sockd.net.tls.failures import FAILURES, words
from sockd.net.tls.socket_pair import pair
from sockd.net.tls.tunnel import TlsTunnel
from sockd.net.tls.wire import TlsWire
from sockd.values import dataclass

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Hashable

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.loop.loop import EventLoop
    from sockd.net.tls.context import TlsContext
    from sockd.net.tls.socket_pair import TlsSocket

    WhenDone = Callable[[TlsWire | None], None]

logger = logging.getLogger("sockd.tls")

GRACE_SECONDS = 1.0
"""For a peer of which something has come so short a time before its deadline, or since: where we stood still it may be
answering what we have only just read and answered.  Once for each handshake."""
DEFECT = "internal error, see the log"
NOT_TLS = "not TLS: the client sent something else, such as plain text"
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@dataclass
class _Waiting:
    wire: TlsWire
    peer: SocketAddress
    done: WhenDone
    until: float
    deadline: Deadline
    heard: float
    """When something last came of it."""
    has_grace: bool = False
    is_silent: bool = True


class Handshakes:
    """The handshakes of one listener that are under way.

    Args:
        context: certificates and rules.
        address: the listener's, for the log.
        loop: in which all happens.
    """

    def __init__(self, context: TlsContext, address: str, loop: EventLoop) -> None:
        self._context = context
        self._address = address
        self._loop = loop
        self._waiting: dict[int, _Waiting] = {}
        self._shares = Shares(context.settings.max_handshakes)
        self._by_source: dict[Hashable, dict[int, None]] = {}  # the oldest first
        loop.keepers.add(self)

    def __len__(self) -> int:
        """Return how many are under way."""
        return len(self._waiting)

    def start(self, sock: socket.socket, peer: SocketAddress, done: WhenDone) -> None:
        """Own a connection until its handshake is complete.

        Args:
            sock: connected, non-blocking.
            done: called once: with the connection, or with None if the handshake failed; the socket is closed then.
        """
        source = source_key(peer.host)
        if not self._shares.may(source):
            self._make_room(source)
        try:
            self._begin(sock, peer, done)
        except FAILURES as error:  # no memory for it
            self._log_failure(logging.INFO, peer, words(error))
            sock.close()
            done(None)

    def _make_room(self, source: Hashable) -> None:
        """Close a handshake of a source that has used its share, else of the source with the most: the oldest
        silent one.
        """
        whose = source if self._shares.has(source) else self._shares.largest()
        fds = self._by_source[whose]
        fd = next((fd for fd in fds if self._waiting[fd].is_silent), next(iter(fds)))
        self._drop(fd, f"{len(self._waiting)} handshakes in progress, {len(fds)} of this source (tls.max_handshakes)")

    def _begin(self, sock: socket.socket, peer: SocketAddress, done: WhenDone) -> None:
        wire = TlsWire(sock, self._context.wrap)
        fd, seconds, now = wire.fd, self._context.settings.handshake_timeout, self._loop.clock()
        self._watch(fd, READ)
        deadline = self._deadline(fd, seconds)
        self._waiting[fd] = _Waiting(wire, peer, done, now + seconds, deadline, now - seconds)
        source = source_key(peer.host)
        self._shares.acquire(source)
        self._by_source.setdefault(source, {})[fd] = None

    def _watch(self, fd: int, events: int) -> None:
        self._loop.watch_fd(fd, events, self._loop.guarded(partial(self._ready, fd), partial(self._drop, fd, DEFECT)))

    def _deadline(self, fd: int, seconds: float) -> Deadline:
        return Deadline(self._loop, seconds, partial(self._late, fd), partial(self._drop, fd, DEFECT))

    def _ready(self, fd: int) -> None:
        one = self._waiting[fd]
        try:
            is_done = self._shake(one)
            if not is_done:
                self._watch(fd, READ | (WRITE if one.wire.is_full else 0))
        except FAILURES as error:
            one.wire.send()  # the alert
            why = words(error.with_traceback(None))  # it may be the wire's own, which its frames have
            self._drop(fd, NOT_TLS if one.wire.is_plain else why)  # OpenSSL: "wrong version number", "http request"
            return
        if is_done:
            self._secured(fd)

    def _shake(self, one: _Waiting) -> bool:
        wire = one.wire
        if not wire.is_full and wire.receive():
            one.heard, one.is_silent = self._loop.clock(), False
        is_done = wire.step()
        if not is_done and (wire.has_ended or wire.error or wire.is_plain):  # OpenSSL waits for 5 bytes of plain text
            raise wire.error or ConnectionAbortedError("the peer closed the connection during the handshake")
        return is_done

    def _late(self, fd: int) -> None:
        """Decide on a handshake whose time is over, after reading what has arrived."""
        one = self._waiting[fd]
        self._ready(fd)
        if self._waiting.get(fd) is not one:
            return
        if one.heard > one.until - GRACE_SECONDS and not one.has_grace:
            one.has_grace = True
            one.deadline = self._deadline(fd, GRACE_SECONDS)
        else:
            self._drop(fd, f"incomplete after {self._context.settings.handshake_timeout:g} s")

    def _secured(self, fd: int) -> None:
        one = self._leave(fd)
        one.wire.acknowledge()
        tls = one.wire.tls
        try:
            self._context.check(tls)
        except (CertificateError, *FAILURES) as error:  # the latter: no memory
            self._end(one, words(error))
            return
        event = {"address": self._address, "peer": str(one.peer), "version": tls.version()}
        logger.debug("secured", extra={"event": event | {"cipher": (tls.cipher() or ("",))[0]}})
        one.done(one.wire)

    def _leave(self, fd: int) -> _Waiting:
        one = self._waiting.pop(fd)
        source = source_key(one.peer.host)
        self._shares.give_back(source)
        self._by_source[source].pop(fd)
        if not self._by_source[source]:
            del self._by_source[source]
        one.deadline.cancel()
        self._loop.watch_fd(fd, 0, lambda: None)
        return one

    def _drop(self, fd: int, why: str) -> None:
        if fd in self._waiting:
            self._end(self._leave(fd), why)

    def _end(self, one: _Waiting, why: str) -> None:
        self._log_failure(logging.INFO, one.peer, why)
        one.wire.socket.close()
        one.done(None)

    def cancel(self, sock: socket.socket) -> None:
        """Give the handshake of a connection up that its owner has closed; done() is not called, whatever it was."""
        if sock.fileno() in self._waiting:
            self._leave(sock.fileno())
            sock.close()

    def _log_failure(self, level: int, peer: SocketAddress, why: str) -> None:
        event = {"address": self._address, "peer": str(peer), "why": why}
        logger.log(level, "no TLS", extra={"event": event})

    def close(self) -> None:
        """Stop all handshakes."""
        for fd in list(self._waiting):
            self._drop(fd, "stopping")

    def leave(self) -> None:
        """Close the sockets alone, in a forked process."""
        for one in self._waiting.values():
            one.wire.socket.close()


def carry(wire: TlsWire, loop: EventLoop) -> TlsSocket:
    """Return the service's end of a connection that has to be a socket; the connection is carried from now on.

    Raises:
        OSError: no descriptors, no memory, or the connection has no address any more.
    """
    ends = pair(wire.socket)
    TlsTunnel(wire, ends, loop).start()
    return ends.near


__all__ = ["Handshakes", "carry"]
