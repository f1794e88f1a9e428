"""TLS: the handshakes of a listener, and what is carried between a connection and the service behind it.

A handshake waits beside the listener, with a deadline of its own, and holds up nobody.  Once it is done, a socket
pair is made: one end goes to the service as any accepted socket does, so that a function, a program or a relay
behind TLS is served by the same code as without; between the other end and the connection bytes are encrypted
and decrypted here, through memory (ssl.MemoryBIO).  So no service sees a byte that came before the handshake was
done, or that was not protected by it.

An end of the peer's data is told by its close_notify, and half-closes the service's side; an end without it
(TCP's FIN alone, as many clients do) is one as well, but a frame that it cuts short is not handed out.
Source: RFC 8446, 6.1; ssl(3), SSL_shutdown(3).
"""

from __future__ import annotations

import logging
import select
import selectors
import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sockd.net.kernel import unacknowledged
from sockd.net.tls_context import names_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.endpoint import SockAddr
    from sockd.net.loop import EventLoop, Timer
    from sockd.net.socket_address import SocketAddress
    from sockd.net.tls_context import TlsContext

    WhenDone = Callable[["Secured | None"], None]

logger = logging.getLogger("sockd.tls")

RECEIVE_BYTES = 65_536
MOST_PENDING_BYTES = 65_536
"""Of each way that one side has not taken; the other is not read meanwhile."""
LINGER_SECONDS = 10.0
"""For a peer to take something more, or to end its side, when ours has ended."""
LOOK_SECONDS = 0.005
"""How often it is looked whether the service has taken all."""
RESET = struct.pack("ii", 1, 0)
"""struct linger, on and 0 seconds: close() sends RST (socket(7), FAQ IV.6)."""
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Secured(socket.socket):
    """The service's end of an encrypted connection.

    Attributes:
        outer: the connection itself.
        local: our address, of the connection itself.
        ssl_object: for what it tells of the connection; None until the handshake is done.
        on_lost: called when the peer's data was cut off, with all of it delivered (True), or the connection was lost
            (False); returns whether the service was told.
        abort: ends the connection as a reset does.
    """

    outer: socket.socket
    local: SockAddr
    ssl_object: ssl.SSLObject | None
    on_lost: Callable[[bool], bool]
    abort: Callable[[], None]

    def getsockname(self) -> SockAddr:
        """Return the address of the connection itself."""
        return self.local

    def getsockopt(self, *arguments: int) -> Any:  # noqa: ANN401 - as socket
        """Ask the connection itself: of its other end the kernel would tell us of ourselves (SO_PEERCRED)."""
        return self.outer.getsockopt(*arguments)


class Ends(NamedTuple):
    """Of a socket pair: the service's, and ours."""

    near: Secured
    far: socket.socket


def _not_told(_is_cut: bool) -> bool:
    return False


def _nothing() -> None:
    return None


def pair(outer: socket.socket) -> Ends:
    """Make a socket pair for a connection."""
    one, far = socket.socketpair()
    near = Secured(fileno=one.detach())
    near.outer, near.local = outer, outer.getsockname()
    near.ssl_object, near.on_lost, near.abort = None, _not_told, _nothing
    for sock in (near, far):
        sock.setblocking(False)
    return Ends(near, far)


class Wire:
    """The connection, and what of it is in memory.

    Args:
        sock: connected, non-blocking.
        begin: makes the TLS side of two memories.

    Attributes:
        has_ended: the peer's FIN has come.
        is_done: the handshake is.
        sent: bytes that the kernel has taken.
    """

    def __init__(self, sock: socket.socket, begin: Callable[[ssl.MemoryBIO, ssl.MemoryBIO], ssl.SSLObject]) -> None:
        self.socket = sock
        self.fd = sock.fileno()
        self.has_ended = self.is_done = False
        self.sent = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._left = b""
        self.tls = begin(self._incoming, self._outgoing)

    @property
    def is_full(self) -> bool:
        """Whether the peer has not taken what was sent."""
        return bool(self._left)

    def receive(self) -> None:
        """Take what has come; raises OSError as recv(2)."""
        try:
            piece = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        if piece:
            self._incoming.write(piece)
        else:
            self.has_ended = True  # not told to TLS, which would write no more

    def step(self) -> bool:
        """Go on with the handshake; return whether it is done.  Raises ssl.SSLError, and OSError as send(2)."""
        try:
            self.tls.do_handshake()
            self.is_done = True
        except ssl.SSLWantReadError:
            pass
        self.send()
        return self.is_done

    def send(self) -> None:
        """Send what TLS has to say, as far as the kernel takes it; raises OSError as send(2)."""
        while self._left or self._outgoing.pending:
            self._left = self._left or self._outgoing.read(MOST_PENDING_BYTES)
            try:
                size = self.socket.send(self._left)
            except BlockingIOError:
                return
            self.sent += size
            self._left = self._left[size:]


@dataclass
class _Waiting:
    wire: Wire
    peer: SocketAddress
    done: WhenDone
    timer: Timer
    ends: Ends | None


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

    def __len__(self) -> int:
        """Return how many are under way."""
        return len(self._waiting)

    def take(self, sock: socket.socket, peer: SocketAddress, done: WhenDone, ends: Ends | None = None) -> None:
        """Own a connection until it is secured.

        Args:
            sock: connected, non-blocking.
            done: is called once: with the service's end, or with None when no handshake came about; the
                connection is closed then.
            ends: of a service that is there already; unset: a pair is made once the handshake is done.
        """
        if len(self._waiting) >= self._context.settings.max_handshakes:
            self._tell(logging.WARNING, peer, f"{len(self._waiting)} are under way already (tls.max_handshakes)")
            _close(sock, ends)
            done(None)
            return
        wire = Wire(sock, self._context.wrap)
        fd, seconds = wire.fd, self._context.settings.handshake_timeout
        timer = self._loop.call_later(seconds, lambda: self._drop(fd, f"not done after {seconds:g} s"))
        self._waiting[fd] = _Waiting(wire, peer, done, timer, ends)
        self._loop.watch_fd(fd, READ, lambda: self._ready(fd))

    def _ready(self, fd: int) -> None:
        one = self._waiting[fd]
        wire = one.wire
        try:
            if not wire.is_full:
                wire.receive()
            is_done = wire.step()
            if wire.has_ended and not is_done:
                raise ConnectionAbortedError("the connection ended within it")
        except (OSError, ssl.SSLError) as error:
            with suppress(OSError):
                wire.send()  # the alert
            self._drop(fd, _words(error))
            return
        if is_done:
            self._secured(fd)
        else:
            self._loop.watch_fd(fd, READ | (WRITE if wire.is_full else 0), lambda: self._ready(fd))

    def _secured(self, fd: int) -> None:
        one = self._leave(fd)
        tls = one.wire.tls
        certificate: dict[str, object] | None = tls.getpeercert()  # type: ignore[assignment]  # the stub is narrower
        if not self._context.admits(certificate):
            self._end(
                one, f"no name of its certificate is in tls.client_names: {', '.join(names_of(certificate or {}))}"
            )
            return
        try:
            ends = one.ends or pair(one.wire.socket)
        except OSError as error:  # no descriptors
            self._end(one, _words(error))
            return
        ends.near.ssl_object = tls
        Carrier(one.wire, ends, self._loop).start()
        event = {"address": self._address, "peer": str(one.peer), "version": tls.version()}
        logger.debug("secured", extra={"event": event | {"cipher": (tls.cipher() or ("",))[0]}})
        one.done(ends.near)

    def _leave(self, fd: int) -> _Waiting:
        one = self._waiting.pop(fd)
        one.timer.cancel()
        self._loop.watch_fd(fd, 0, lambda: None)
        return one

    def _drop(self, fd: int, why: str) -> None:
        self._end(self._leave(fd), why)

    def _end(self, one: _Waiting, why: str) -> None:
        self._tell(logging.INFO, one.peer, why)
        _close(one.wire.socket, one.ends)
        one.done(None)

    def _tell(self, level: int, peer: SocketAddress, why: str) -> None:
        event = {"address": self._address, "peer": str(peer), "why": why}
        logger.log(level, "no TLS", extra={"event": event})

    def close(self) -> None:
        """Let no handshake go on."""
        for fd in list(self._waiting):
            self._drop(fd, "stopping")


def _close(sock: socket.socket, ends: Ends | None) -> None:
    sock.close()
    if ends is not None:
        ends.far.close()


def has_hung_up(sock: socket.socket) -> bool:
    """Tell whether the other end is closed, also where it is not read up to there (POLLHUP, poll(2))."""
    poll = select.poll()
    poll.register(sock, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error)


class Carrier:
    """Carries bytes between a secured connection and its service's end, until both have ended.

    Args:
        wire: the connection.
        ends: of the pair.
        loop: in which all happens.
        ended: called once, when all is carried.
    """

    def __init__(self, wire: Wire, ends: Ends, loop: EventLoop, ended: Callable[[], None] = lambda: None) -> None:
        self._wire = wire
        self._near, self._far = ends
        self._far_fd = self._far.fileno()
        self._loop = loop
        self._ended = ended
        self._seen = 0
        self._near.abort = lambda: self._close(abort=True)
        self._plain = b""
        self._peer_ended = self._is_cut = self._far_shut = False
        self._service_ended = self._is_closed = False
        self._timer: Timer | None = None

    def start(self) -> None:
        """Carry, beginning with what came behind the handshake; the loop does not end before."""
        self._loop.unfinished.add(self)
        self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._guarded(self._decrypt)

    # ---- what is ready

    def _watch(self) -> None:
        if self._is_closed:
            return
        wants_wire = not self._peer_ended and not self._plain
        wire = (READ if wants_wire else 0) | (WRITE if self._wire.is_full else 0)
        far = (READ if not self._service_ended and not self._wire.is_full else 0) | (WRITE if self._plain else 0)
        self._loop.watch_fd(self._wire.fd, wire, self._wire_ready)
        self._loop.watch_fd(self._far_fd, far, self._far_ready)

    def _wire_ready(self) -> None:
        self._guarded(self._from_wire)

    def _far_ready(self) -> None:
        self._guarded(self._from_far)

    def _guarded(self, step: Callable[[], None]) -> None:
        if self._is_closed:
            return
        try:
            step()
            self._wire.send()
            self._finish()
        except ssl.SSLError as error:
            logger.info("TLS failed", extra={"event": {"why": _words(error)}})
            with suppress(OSError):
                self._wire.send()  # the alert
            self._cut()
        except OSError:
            self._cut()
        self._watch()

    # ---- from the peer to the service

    def _from_wire(self) -> None:
        if not self._plain and not self._peer_ended:
            self._wire.receive()
            self._decrypt()

    def _decrypt(self) -> None:
        pieces = []
        try:
            while piece := self._wire.tls.read(RECEIVE_BYTES):
                pieces.append(piece)
            self._peer_ended = True
        except ssl.SSLWantReadError:
            self._peer_ended = self._is_cut = self._wire.has_ended
        except ssl.SSLZeroReturnError:
            self._peer_ended = True
        self._plain += b"".join(pieces)
        self._deliver()

    def _deliver(self) -> None:
        try:
            while self._plain:
                self._plain = self._plain[self._far.send(self._plain) :]
        except BlockingIOError:
            return
        except OSError:  # the service takes no more; what it says still goes
            self._plain = b""
        if self._peer_ended and not self._far_shut:
            self._end_of_peer()

    def _end_of_peer(self) -> None:
        """Half-close the service's side: at once, or once it has taken all where a frame might be cut short."""
        if self._is_cut and not self._is_taken:
            self._loop.call_later(LOOK_SECONDS, lambda: self._guarded(self._deliver))
            return
        self._far_shut = True
        if not (self._is_cut and self._near.on_lost(True)):
            with suppress(OSError):
                self._far.shutdown(socket.SHUT_WR)

    @property
    def _is_taken(self) -> bool:
        """Whether the service has received all that was delivered (SIOCOUTQ, unix(7))."""
        return not unacknowledged(self._far)

    # ---- from the service to the peer

    def _from_far(self) -> None:
        if self._plain:
            self._deliver()
        if self._service_ended or self._wire.is_full:
            return
        try:
            piece = self._far.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self._close(abort=True)
            return
        if piece:
            self._wire.tls.write(piece)
        else:
            self._service_ended = True
            with suppress(ssl.SSLError):  # the peer's may come later, or never
                self._wire.tls.unwrap()

    # ---- the end

    def _finish(self) -> None:
        """Close, once both sides have ended and all is sent; give the peer a while for its part."""
        if self._is_closed or not (self._service_ended or self._wire.is_full):
            return
        if self._service_ended and self._peer_ended and not self._wire.is_full:
            self._close()
        elif self._timer is None:
            self._linger()

    def _linger(self) -> None:
        self._seen = self._wire.sent
        self._timer = self._loop.call_later(LINGER_SECONDS, self._lingered)

    def _lingered(self) -> None:
        """Go on waiting for a peer that takes something, or whose service is there still and has its own deadlines."""
        self._timer = None
        is_moving = self._wire.sent > self._seen
        if self._service_ended and not self._wire.is_full:
            self._close()
        elif self._wire.is_full and (is_moving or not has_hung_up(self._far)):
            self._linger()
        elif self._wire.is_full:
            self._close(abort=True)

    def _cut(self) -> None:
        """End the service's connection: there is no way to the peer any more, or none that can be trusted."""
        self._near.on_lost(False)
        self._close(abort=True)

    def _close(self, *, abort: bool = False) -> None:
        if self._is_closed:
            return
        self._is_closed = True
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


__all__ = ["Carrier", "Handshakes", "Secured", "Wire", "pair"]
