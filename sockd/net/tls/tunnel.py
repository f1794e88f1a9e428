# SPDX-License-Identifier: MIT
"""Forwards bytes between an encrypted connection and its service's end, until both have ended.

The end of the peer's data is reported to the service after its last byte, in the order of the stream:

    close_notify        end of file                                                       Input.ENDED
    TCP's FIN alone     end of file; who knows of frames leaves an unfinished one out     Input.CUT
    reset, bad record   end of file, which the service's row takes for a reset            Input.LOST

A failure to send also ends the peer's data, once what the kernel holds of it is read. Source: RFC 8446, 6.1; ssl(3),
SSL_shutdown(3); unix(7).
"""

from __future__ import annotations

import errno
import logging
import select
import selectors
import socket
import ssl
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from sockd.net.loop.state_table import StateTable
from sockd.net.tls.failures import FAILURES, words
from sockd.net.tls.socket_pair import INPUT, RESET, Input
from sockd.net.tls.wire import RECEIVE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop.loop import EventLoop, Timer
    from sockd.net.tls.socket_pair import SocketPair
    from sockd.net.tls.wire import TlsWire

logger = logging.getLogger("sockd.tls")

LINGER_SECONDS = 10.0
"""Time for a peer to read more, or to end its side, when the service has closed."""
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


def has_hung_up(sock: socket.socket) -> bool:
    """Return whether the other end is closed, also if it is not read up to that point (POLLHUP, poll(2))."""
    poll = select.poll()
    poll.register(sock, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


class TunnelState(Enum):
    """What is still carried; the peer's data has its own states (Input)."""

    CARRYING = "both ways"
    FINISHING = "the service has ended: the peer gets what is left, and may end its side"
    CLOSED = "nothing: both sockets are closed"


TUNNEL = StateTable(
    {
        TunnelState.CARRYING: (TunnelState.FINISHING, TunnelState.CLOSED),
        TunnelState.FINISHING: (TunnelState.CLOSED,),
        TunnelState.CLOSED: (),
    }
)


class TlsTunnel:
    """Forwards, beginning with what followed the handshake.

    Args:
        wire: the connection, its handshake done.
        ends: of the pair.
        loop: in which all happens.
        ended: called once, when all is carried.
    """

    def __init__(
        self, wire: TlsWire, ends: SocketPair, loop: EventLoop, ended: Callable[[], None] = lambda: None
    ) -> None:
        self._wire = wire
        self._near, self._far = ends.near, ends.far
        self._far_fd = self._far.fileno()
        self._loop = loop
        self._ended = ended
        self._seen = 0
        self._near.abort = lambda: self._close(abort=True)
        self._plain = b""
        self._input = Input.OPEN
        self._state = TunnelState.CARRYING
        self._is_reported = False
        self._timer: Timer | None = None
        self._watched_wire = self._watched_far = 0
        self._wire_ready = self._guarded(partial(self._step, self._from_wire))
        self._far_ready = self._guarded(partial(self._step, self._from_far))

    def _guarded(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._loop.guarded(callback, self._near.abort)

    def start(self) -> None:
        """Start forwarding; the loop does not end before it does."""
        self._loop.unfinished.add(self)
        self._loop.keepers.add(self)
        self._loop.call_soon(self._guarded(partial(self._step, self._decrypt)))

    # ---- what is ready

    def _watch(self) -> None:
        if self._state is TunnelState.CLOSED:
            return
        wants_wire = self._input is Input.OPEN and not self._plain
        wire = (READ if wants_wire else 0) | (WRITE if self._wire.is_full else 0)
        wants_far = self._state is TunnelState.CARRYING and not self._wire.is_full and self._wire.error is None
        far = (READ if wants_far else 0) | (WRITE if self._plain else 0)
        if wire != self._watched_wire:
            self._loop.watch_fd(self._wire.fd, wire, self._wire_ready)
            self._watched_wire = wire
        if far != self._watched_far:
            self._loop.watch_fd(self._far_fd, far, self._far_ready)
            self._watched_far = far

    def _step(self, move: Callable[[], None]) -> None:
        """Move, send, tell of what has ended, and wait for more; whatever fails is the end of this connection alone."""
        if self._state is TunnelState.CLOSED:
            return
        try:
            move()
            self._wire.send()
            if self._wire.error is not None:
                self._read_rest()
            self._deliver()
            self._finish()
            self._watch()
        except FAILURES as error:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        logger.info("TLS failed", extra={"event": {"why": words(error)}})
        self._wire.send()  # the alert
        self._lose(errno.ECONNRESET)
        try:
            self._deliver()
            self._finish()
            self._watch()
        except FAILURES:  # it cannot be watched: no memory
            self._close(abort=True)

    # ---- from the peer to the service

    def _from_wire(self) -> None:
        if not self._plain and self._input is Input.OPEN:
            self._wire.receive()
            self._decrypt()

    def _decrypt(self) -> None:
        pieces = []
        try:
            while piece := self._wire.tls.read(RECEIVE_BYTES):
                pieces.append(piece)
            self._input = INPUT.step(self._input, Input.ENDED)
        except ssl.SSLWantReadError:
            if self._wire.has_ended:
                self._input = INPUT.step(self._input, Input.CUT)
        except ssl.SSLZeroReturnError:
            self._input = INPUT.step(self._input, Input.ENDED)
        finally:  # in front of a record that is not in order as well
            self._plain += b"".join(pieces)

    def _read_rest(self) -> None:
        """Read what had arrived before the connection failed: the kernel keeps it."""
        with suppress(OSError):
            self._far.shutdown(socket.SHUT_RD)  # what the service writes from now on has nowhere to go: EPIPE
        while self._input is Input.OPEN:
            self._deliver()
            if self._plain:
                return
            self._from_wire()
        error = self._wire.error
        self._lose(error.errno if error is not None and error.errno else errno.ECONNRESET)

    def _lose(self, error: int) -> None:
        if self._input is Input.LOST:
            return
        self._input = INPUT.step(self._input, Input.LOST)
        if self._near.input is not Input.ENDED:  # then all of its data has come
            self._near.input = Input.LOST
        self._near.on_lost(error)

    def _deliver(self) -> None:
        try:
            while self._plain:
                self._plain = self._plain[self._far.send(self._plain) :]
        except BlockingIOError:
            return
        except OSError:  # the service takes no more; what it says still goes
            self._plain = b""
        if self._input is not Input.OPEN and not self._is_reported:
            self._is_reported = True
            if self._input is not Input.LOST:
                self._near.input = self._input
            with suppress(OSError):
                self._far.shutdown(socket.SHUT_WR)

    # ---- from the service to the peer

    def _from_far(self) -> None:
        if self._state is not TunnelState.CARRYING or self._wire.is_full or self._wire.error is not None:
            return
        try:
            piece = self._far.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:  # ECONNRESET: it has gone with something unread, and what it had said came before
            piece = b""
        if piece:
            self._wire.tls.write(piece)
        else:
            self._state = TUNNEL.step(self._state, TunnelState.FINISHING)
            with suppress(ssl.SSLError):  # the peer's may come later, or never
                self._wire.tls.unwrap()

    # ---- the end

    def _finish(self) -> None:
        """Close, once both sides have ended and all is sent; give the peer a time limit for its part."""
        if self._plain:
            return
        if self._input is Input.LOST:
            self._close(abort=True)
        elif self._state is TunnelState.FINISHING and self._input is not Input.OPEN and not self._wire.is_full:
            self._close()
        elif (self._state is TunnelState.FINISHING or self._wire.is_full) and self._timer is None:
            self._linger()

    def _linger(self) -> None:
        self._seen = self._wire.sent
        self._timer = self._loop.call_later(LINGER_SECONDS, self._guarded(self._lingered))

    def _lingered(self) -> None:
        """Keep waiting for a peer that reads something, or whose service is still open and has its own deadlines."""
        self._timer = None
        if self._state is TunnelState.CLOSED or not (self._state is TunnelState.FINISHING or self._wire.is_full):
            return
        is_moving = self._wire.is_full and self._wire.sent > self._seen
        if is_moving or not has_hung_up(self._far):
            self._linger()
        else:
            self._close(abort=self._wire.is_full)

    def leave(self) -> None:
        """Close the sockets alone, in a forked process."""
        self._far.close()
        self._wire.socket.close()

    def _close(self, *, abort: bool = False) -> None:
        if self._state is TunnelState.CLOSED:
            return
        self._state = TUNNEL.step(self._state, TunnelState.CLOSED)
        if self._timer is not None:
            self._timer.cancel()
        for fd in (self._wire.fd, self._far_fd):
            self._loop.watch_fd(fd, 0, lambda: None)
        if abort:
            with suppress(OSError):
                self._wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._far.close()
        self._wire.socket.close()
        self._loop.unfinished.discard(self)
        self._ended()


__all__ = ["TlsTunnel", "has_hung_up"]
