# SPDX-License-Identifier: MIT
"""One peer: a transport with the methods of asyncio.Transport.

What is written in a turn is gathered and leaves in one send at its end
(FAQ II.11).  A receiver is called in the order of asyncio and Twisted:
connection_made, frame, eof_received, connection_lost; nothing is delivered
after close() and nothing while reading is paused.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sockd.errors import as_exception, is_close
from sockd.lazy import lazily
from sockd.log.failure import error_info, user_line
from sockd.net.connection.codec import make_codec
from sockd.net.connection.extra_info import BorrowedSocket, extra_info
from sockd.net.connection.life import LIFE, READING, Life, Reading
from sockd.net.connection.transfer import Snapshot
from sockd.net.connection.turn import FIRST_CHECK
from sockd.net.connection.write_transport import WriteTransport
from sockd.wire.close_reason import CloseReason
from sockd.wire.framing import make_framing, spell

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.connection.codec import Codec
    from sockd.net.connection.events import FrameProtocol
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.loop import EventLoop, Timer
    from sockd.net.tls import starttls
    from sockd.wire.framing import Framing
else:
    starttls = lazily("sockd.net.tls.starttls")

logger = logging.getLogger("sockd.connection")
T = TypeVar("T")
OPEN, FINISHING, CLOSING, ENDED = Life.OPEN, Life.FINISHING, Life.CLOSING, Life.ENDED
ON, PAUSED, OFF = Reading.ON, Reading.PAUSED, Reading.OFF
"""By themselves, for they are looked at for each frame."""


class Connection(WriteTransport):
    """One connection of a service: a transport with the methods of `asyncio.Transport`, and more.

    What is written while a handler runs is sent together at the end of the loop iteration (FAQ II.11).

    Attributes:
        id: the connection's number while it is open, as in `sockctl connections`.
        state: for the handler's own use; None at first.
    """

    __slots__ = (
        "_error", "_loop", "_make", "_protocol", "_reading", "_receiver", "_socket", "_timers", "state",
    )  # fmt: skip

    service: str = ""
    handler: object = None
    """Whose connection it is, for the log."""

    def __init__(
        self,
        id: int,
        connections: ConnectionTable,
        codec: Codec,
        high_water: int,
        loop: EventLoop,
        make: Callable[[object], FrameProtocol],
    ) -> None:
        super().__init__(id, connections, codec, high_water)
        self.state: Any = None
        self._loop = loop
        self._make = make
        self._receiver: FrameProtocol | None = None
        self._protocol: object = None
        self._reading = ON
        self._timers: set[Timer] | None = None
        self._error: Exception | None = None
        self._socket: BorrowedSocket | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.peer}>"

    # ---- closing

    def is_closing(self) -> bool:
        """Return whether close() or abort() was called, or the connection has ended."""
        return self._reading is OFF

    def close(self) -> None:
        """Close gracefully: send what was written, then FIN (FAQ II.5)."""
        self._close(CloseReason.CLOSED)

    def close_for(self, reason: CloseReason) -> None:
        """Close gracefully with another reason (for services); the first reason stands."""
        self._close(reason)

    def _close(self, reason: CloseReason) -> None:
        if self._reading is OFF:
            return
        self._stop(CLOSING)
        self.outbox.shut()
        self._reason = reason
        if self._starting is not None and self._starting.is_held:
            self._started_tls()  # which waits for its output, and need not any more
        else:
            self._list()

    def _stop(self, life: Life) -> None:
        """Deliver nothing any more."""
        self._life = LIFE.step(self._life, life)
        if self._reading is not OFF:
            self._reading = READING.step(self._reading, OFF)

    def abort(self) -> None:
        """Close at once and drop unsent output; TCP sends RST (FAQ IV.6)."""
        if not self._ended:
            if self._reading is not OFF:
                self._stop(CLOSING)
            self.outbox.clear()
            self._table.abort(self.id)

    @property
    def close_reason(self) -> CloseReason:
        """Why the connection has ended; NONE while it is open."""
        return self._reason

    # ---- reading

    def is_reading(self) -> bool:
        """Return whether input is delivered."""
        return self._reading is ON

    def pause_reading(self) -> None:
        """Stop delivering input until resume_reading(); TCP then makes the peer wait."""
        if self._starting is not None:
            self._starting.is_paused = True
        elif self._reading is ON:
            self._reading = READING.step(self._reading, PAUSED)
            self._table.pause(self.id, True)

    def resume_reading(self) -> None:
        """Deliver input again, beginning with what was received before the pause."""
        if self._starting is not None:
            self._starting.is_paused = False
        elif self._reading is PAUSED:
            self._reading = READING.step(self._reading, ON)
            self._table.pause(self.id, False)

    @property
    def framing(self) -> Framing:
        """The framing of input and of `reply`."""
        return self._codec.framing

    def set_framing(self, framing: Framing) -> None:
        """Change the framing, from the next frame on; input that was already received is included.

        Replies use it from now on.

        Raises:
            ValueError: the framing is not for streams.
        """
        codec = make_codec(framing, self._table, wire=True)
        if not self._ended and self._reading is not OFF:
            self._table.set_framing(self.id, framing)
        self._codec = codec
        self.reply_ending = None

    # ---- encryption

    def start_tls(self, secured: Callable[[], object] | None = None, *, unread: bytes = b"") -> None:
        """Start TLS once the output written so far is sent: the action behind the reply to STARTTLS (RFC 3207).

        Nothing is delivered until the handshake is done.  If it fails, or if the peer has sent input after the
        frame that is being answered, the connection ends.

        Args:
            secured: called when the handshake is done.
            unread: input of that kind that the handler has already read.

        Raises:
            RuntimeError: the connection is encrypted or will be, is closing, is finished by write_eof(), or its
                listener has no `tls = { ..., starttls = true }`.
        """
        if self._starting is not None:
            raise RuntimeError("start_tls(): already called")
        if self._life is FINISHING:
            raise RuntimeError("start_tls() after write_eof(): a handshake has to be answered")
        handshakes = starttls.handshakes_for(self, self._table)
        on_secured = partial(self._guard, secured) if secured else lambda: None
        starting = starttls.StartTlsUpgrade(
            self, self._table, self._loop, handshakes, self._started_tls, on_secured, unread
        )
        starting.is_paused = self._reading is PAUSED
        self.pause_reading()
        self._starting = starting
        self._list()

    def _started_tls(self) -> None:
        """Go on: the row has another descriptor, or the connection is closing."""
        starting, self._starting, self.outbox.is_listed = self._starting, None, False
        if self._reading is OFF:
            self.outbox.clear()
        elif starting is not None and not starting.is_paused:
            self.resume_reading()
        if self.outbox.pieces or self._is_high or self._life is not OPEN:
            self._list()

    # ---- who is spoken to, and when

    def get_protocol(self) -> object:
        """Return the protocol object; None if the handler is a function."""
        return self._protocol

    def set_protocol(self, protocol: object) -> None:
        """Use another protocol object from the next callback on; its connection_made is not called.

        Raises:
            TypeError: it has none of frame_received, line_received and data_received.
        """
        receiver = self._make(protocol)
        self._protocol = protocol
        if not self._ended:
            self._receiver = receiver

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call `callback(*args)` once, `delay` seconds from now, unless the connection has ended by then.

        An exception in it closes the connection, as one in its handler does.

        Returns:
            A timer with cancel().

        Raises:
            ValueError: delay is NaN.
        """

        timers = self._timers = self._timers or set()

        def due() -> None:
            timers.discard(timer)
            if self._starting is not None:
                self._table.flush()  # a handler has called start_tls() in this turn: what comes now comes behind it
            self._guard(callback, *args)

        timer = self._loop.call_later(delay, due)
        timer.when_cancelled = timers.discard
        timers.add(timer)
        return timer

    # ---- what a handler may ask

    def get_extra_info(self, name: str, default: object = None) -> Any:
        """Return `peername`, `sockname` or `socket` as asyncio does, `peercred`, `peerhost` or `proxied`.

        If the connection is encrypted, also `ssl_object`, `sslcontext`, `peercert`, `cipher` and `compression`.

        `peercred` is (pid, uid, gid) of the process at the other end of a Unix socket (SO_PEERCRED, unix(7));
        `peerhost` is the peer's confirmed host name, if the listener has `names = true` and it is known by now;
        `proxied` is what a PROXY header said (sockd.net.connection.peers.ProxyInfo).
        """
        found = None if self._ended else extra_info(self, self._table, name)
        return default if found is None else found

    @property
    def socket(self) -> socket.socket:
        """The socket, for reading and setting its options only: sockd receives and sends on it, and closes it."""
        if self._socket is None:
            self._socket = BorrowedSocket(fileno=self._table.info(self.id).fd)
        return self._socket

    @property
    def peer(self) -> str:
        """The peer's address as in the log; empty after the end of the connection (FAQ IV.9)."""
        if self._ended:
            return ""
        return str(self._table.peers.find(self.id))

    # ---- the sink's side

    def start(self, receiver: FrameProtocol, protocol: object = None) -> None:
        """Attach the receiver, which speaks to the protocol object if there is one, and tell it."""
        self._life = LIFE.step(self._life, OPEN)
        self.outbox.open(self._high)
        self._receiver = receiver
        self._protocol = protocol
        self._guard(receiver.connection_made, self)

    def deliver(self, offset: int, size: int, count: int) -> None:
        """Hand frames of an event on, one by one, as long as they are wanted; give back what is not yet."""
        receiver, codec = self._receiver, self._codec
        if receiver is None or self._reading is OFF:
            return
        handed = 0
        if self._reading is ON:
            endings = codec.endings(offset, size) if codec.is_in_kind else None
            receive = receiver.frame
            frames = codec.cut(offset, size, count)
            for handed, frame in enumerate(frames if count <= FIRST_CHECK else self._table.turn.in_time(frames), 1):
                if endings or self.reply_ending:
                    self.reply_ending = endings[handed - 1] if endings else None
                try:
                    receive(frame)
                except BaseException as error:
                    self._failed(error, codec.payload_size(frame))
                if self._reading is not ON or self._codec is not codec or self._receiver is not receiver:
                    break
        if handed < count and self._reading is not OFF:
            codec.give_back(self.id, offset, size, handed, count)

    def end(self) -> None:
        """Tell of the peer's end of file; unless it is wanted otherwise, close in order."""
        receiver = self._receiver
        if receiver is None or self._reading is OFF:
            return
        input_pending_bytes = self._table.info(self.id).input_pending_bytes
        stay = self._guard(receiver.eof_received)
        if not stay:
            self._close(CloseReason.TRUNCATED if input_pending_bytes else CloseReason.EOF)

    def pause(self) -> None:
        """Tell that high water is passed, once."""
        if not (self._starting and self._starting.is_held):
            self._report_high()

    def _report_high(self) -> None:
        if self._receiver is not None and not self._is_high:
            self._is_high = True
            self._guard(self._receiver.pause_writing)

    def resume(self) -> None:
        """Tell that low water is reached."""
        if self._receiver is not None and self._is_high:
            self._is_high = False
            self._guard(self._receiver.resume_writing)
        if self._starting is not None and self._starting.is_held:
            self._starting.try_start()  # its output has left

    def lost(self, reason: CloseReason, error: int) -> None:
        """Tell of the end; nothing comes after it."""
        receiver = self._receiver
        self._stop(ENDED)
        self._reason = reason
        self.outbox.clear()
        for timer in tuple(self._timers or ()):
            timer.cancel()
        exc = OSError(error, os.strerror(error)) if error else self._error
        if receiver is not None:
            self._guard(receiver.connection_lost, exc)
        self._receiver = self._starting = self._error = None  # its traceback holds the frames of a whole turn
        if self._socket is not None:
            self._socket.give_back()  # the descriptor is the table's

    # ---- on to another process

    def snapshot(self) -> Snapshot | None:
        """Return what another process needs to go on; None where only the handler knows how."""
        protocol, handler = self._protocol, None
        if self._life not in (OPEN, FINISHING) or self._starting is not None:
            return None
        if hasattr(protocol, "snapshot") and hasattr(protocol, "restore"):
            handler = self._guard(protocol.snapshot)
        if handler is None and (protocol or self.state is not None or self._timers or self._reading is PAUSED):
            return None
        water = (int(self._low), int(self._high))
        is_paused, is_finishing = self._reading is PAUSED, self._life is FINISHING
        return Snapshot(is_paused, is_finishing, self._is_high, water, spell(self.framing), handler)

    def restore(self, receiver: FrameProtocol, protocol: object, snapshot: Snapshot) -> None:
        """Go on with what another process began; an exception of the handler's is raised."""
        self._receiver, self._protocol = receiver, protocol
        self._life = LIFE.step(self._life, FINISHING if snapshot.is_finishing else OPEN)
        if snapshot.is_paused:
            self._reading = READING.step(self._reading, PAUSED)
        self._is_high = snapshot.is_high
        self._low, self._high = snapshot.water
        if self._life is OPEN:
            self.outbox.open(self._high)
        if (framing := make_framing(*snapshot.framing)) != self.framing:
            self.set_framing(framing)
        if protocol is None:
            receiver.connection_made(self)
        elif hasattr(protocol, "restore"):
            protocol.restore(self, snapshot.handler)
        else:
            raise TypeError(f"{type(protocol).__name__} has no restore()")

    def leave(self) -> None:
        """Do nothing any more, and tell nobody: another process has the connection."""
        self._stop(ENDED)
        self._receiver = None
        self.outbox.clear()
        for timer in tuple(self._timers or ()):
            timer.cancel()
        if self._socket is not None:
            self._socket.give_back()

    def _guard(self, callback: Callable[..., T], *args: object) -> T | None:
        try:
            return callback(*args)
        except BaseException as error:
            self._failed(error, 0)
            return None

    def _failed(self, error: BaseException, frame_size: int) -> None:
        if is_close(error):
            try:
                if error.last_words is not None:
                    self.reply(error.last_words)
            except BaseException as raised:  # what they are is the handler's doing
                error = raised
            else:
                self._close(CloseReason.CLOSED)
                return
        at = user_line(error, self.handler or self._protocol)
        event = {"service": self.service, "peer": self.peer, "at": at, "frame_bytes": frame_size}
        logger.error("handler failed", exc_info=error_info(error), extra={"event": event})
        if self._reading is not OFF:
            self._error = as_exception(error)
        self._close(CloseReason.HANDLER_ERROR)
