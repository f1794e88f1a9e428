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
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from sockd.errors import as_exception, is_close
from sockd.net.connection.codec import bytes_of, codec_of
from sockd.net.connection.extra_info import extra_info
from sockd.net.connection.transfer import Snapshot
from sockd.net.connection.turn import FIRST_LOOK
from sockd.net.connection.write_buffer import WriteBuffer, as_bytes
from sockd.wire.close_reason import CloseReason
from sockd.wire.framing import framing_of, spell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sockd.net.connection.codec import Codec
    from sockd.net.connection.events import FrameProtocol
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.loop import EventLoop, Timer
    from sockd.net.tls.starttls import StartTlsUpgrade
    from sockd.wire.framing import Framing

logger = logging.getLogger("sockd.connection")


class Connection:
    """A transport: what a handler may ask of, and do to, the peer it talks to.

    Attributes:
        id: the connection's number while it lives.
        outbox: what was written in this turn.
        has_more: something is to be done behind it.
        state: the handler's own, None at first.
    """

    __slots__ = (
        "_closing", "_codec", "_ending", "_eof", "_error", "_high", "_is_high", "_loop", "_low", "_make",
        "_paused", "_protocol", "_reason", "_receiver", "_set", "_socket", "_starting",
        "_timers", "has_more", "id", "outbox", "state",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        connections: ConnectionTable,
        codec: Codec,
        high_water: int,
        loop: EventLoop,
        make: Callable[[Any], FrameProtocol],
    ) -> None:
        self.id = id
        self.state: Any = None
        self._set = connections
        self._codec = codec
        self._ending: bytes | None = None
        self._loop = loop
        self._make = make
        self._receiver: FrameProtocol | None = None
        self._protocol: Any = None
        self._timers: set[Timer] | None = None
        self.outbox = WriteBuffer()
        self._high = high_water
        self._low = high_water // 4
        self.has_more = self._closing = self._eof = self._paused = self._is_high = False
        self._reason = CloseReason.NONE
        self._error: Exception | None = None
        self._socket: socket.socket | None = None
        self._starting: StartTlsUpgrade | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.peer}>"

    # ---- writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes behind all that was written before; dropped once the connection is closing.

        Raises:
            TypeError: data is not bytes-like.
            RuntimeError: write_eof() was called.
        """
        outbox = self.outbox
        if type(data) is bytes and (room := outbox.room - len(data)) >= 0:
            outbox.room = room
            outbox.pieces.append(data)
        else:
            self.write_first(data)

    def write_first(self, data: bytes | bytearray | memoryview) -> None:
        """Do the same, where it is the first of a turn, too much, too late or not bytes."""
        if type(data) is not bytes:
            data = as_bytes(data)
        if self._eof:
            raise RuntimeError("write() after write_eof()")
        if self._closing:
            return
        outbox = self.outbox
        outbox.pieces.append(data)
        outbox.room = room = self._high - (len(data) if len(outbox.pieces) == 1 else outbox.size)
        if not outbox.is_listed:
            outbox.is_listed = True
            self._set.will_write(self)
        if room < 0 and not (self._starting and self._starting.is_held):
            self._write_now()

    def _write_now(self) -> None:
        self._set.write(self.id, self.outbox.take())
        self.outbox.is_listed = True  # still
        if self._set.output_pending_bytes(self.id) > self._high:
            self.pause()  # at once, as asyncio: its receiver may be writing in a loop until it is told

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write each of them."""
        for data in list_of_data:
            self.write(data)

    def reply(self, frame: object) -> None:
        """Write a frame, made of a payload by the framing: bytes, or a tuple where frames are records.

        Raises:
            TypeError: it is no payload.
            sockd.buffer.PayloadError: it would not come back as it is, or is too long.
        """
        ending = self._ending
        self.write(self._codec.encode(frame) if ending is None else bytes_of(frame) + ending)

    def can_write_eof(self) -> bool:
        """Return True: every stream socket can be half-closed."""
        return True

    def write_eof(self) -> None:
        """Half-close: FIN behind what was written; receiving goes on (FAQ II.6)."""
        if not self._eof and not self._closing:
            self._eof = True
            self.outbox.room = -1
            self._list()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that were written and not yet taken by the kernel."""
        return self.outbox.size + (0 if self._ended else self._set.output_pending_bytes(self.id))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the water marks, in bytes; the defaults are asyncio's.

        Raises:
            ValueError: unless 0 <= low <= high.
        """
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not 0 <= low <= high:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low, self.outbox.room = high, low, -1
        if not self._ended:
            self._set.set_water(self.id, high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the water marks (low, high), in bytes."""
        return self._low, self._high

    def _list(self) -> None:
        self.has_more = True
        if not self.outbox.is_listed:
            self.outbox.is_listed = True
            self._set.will_write(self)

    def flushed(self) -> None:
        """Do what was to come behind the output (for the set)."""
        self.has_more = False
        if self._receiver is None:
            return
        if self._closing:
            self._set.shut(self.id, self._reason)
        elif self._eof:
            self._set.shutdown(self.id)
        elif self._starting is not None:
            self.outbox.is_listed = True  # what is written from now on is not for everybody
            self._starting.go_on()

    # ---- closing

    @property
    def _ended(self) -> bool:
        return self._receiver is None

    def is_closing(self) -> bool:
        """Tell whether close() or abort() was called, or the connection has ended."""
        return self._closing

    def close(self) -> None:
        """End in order: what was written leaves, then FIN (FAQ II.5)."""
        self._close(CloseReason.CLOSED)

    def close_for(self, reason: CloseReason) -> None:
        """End in order with another reason (for services); the first one stands."""
        self._close(reason)

    def _close(self, reason: CloseReason) -> None:
        if not self._closing:
            self._closing = True
            self.outbox.room = -1
            self._reason = reason
            self._list()

    def abort(self) -> None:
        """End at once, unsent output is dropped; TCP sends RST (FAQ IV.6)."""
        if not self._ended:
            self._closing = True
            self.outbox.clear()
            self._set.abort(self.id)

    @property
    def close_reason(self) -> CloseReason:
        """Why it ended; NONE while it lives."""
        return self._reason

    # ---- reading

    def is_reading(self) -> bool:
        """Tell whether input is delivered."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Deliver nothing until resume_reading(); the peer is held up by TCP."""
        if self._starting is not None:
            self._starting.is_paused = True
        elif not self._paused and not self._closing:
            self._paused = True
            self._set.pause(self.id, True)

    def resume_reading(self) -> None:
        """Deliver again, first what was received before the pause."""
        if self._starting is not None:
            self._starting.is_paused = False
        elif self._paused and not self._closing:
            self._paused = False
            self._set.pause(self.id, False)

    @property
    def framing(self) -> Framing:
        """How input is cut, and what `reply` makes frames by."""
        return self._codec.framing

    def set_framing(self, framing: Framing) -> None:
        """Go on by another framing, from the frame behind this one on: what came already goes along.

        Replies are framed by it from now on.

        Raises:
            ValueError: no stream can be cut by it.
        """
        codec = codec_of(framing, self._set, wire=True)
        if not self._ended and not self._closing:
            self._set.set_framing(self.id, framing)
        self._codec = codec
        self._ending = None

    # ---- encryption

    def start_tls(self, secured: Callable[[], object] | None = None, *, unread: bytes = b"") -> None:
        """Go on encrypted, once what was written in this turn has left: the answer to a STARTTLS (RFC 3207).

        Nothing is delivered until the handshake is done.  If it fails, or if the peer has sent anything behind
        what is answered, the connection ends.

        Args:
            secured: called once it is done.
            unread: what the handler itself has of such input.

        Raises:
            RuntimeError: the connection is encrypted or will be, is closing, or its listener has no
                `tls = { ..., starttls = true }`.
        """
        if self._starting is not None:
            raise RuntimeError("start_tls(): it was called already")
        from sockd.net.tls import starttls  # here, for it takes OpenSSL along

        handshakes = starttls.handshakes_for(self, self._set)
        told = partial(self._guard, secured) if secured else lambda: None
        starting = starttls.StartTlsUpgrade(self, self._set, self._loop, handshakes, self._started_tls, told, unread)
        starting.is_paused = self._paused
        self.pause_reading()
        self._starting = starting
        self._list()

    def _started_tls(self) -> None:
        """Go on: the row has another descriptor, or the connection is closing."""
        assert self._starting is not None
        self._paused, self._starting, self.outbox.is_listed = self._starting.is_paused, None, False
        if self._closing:
            self.outbox.clear()
        elif not self._paused:
            self._set.pause(self.id, False)
        if self.outbox.pieces or self._closing or self._eof:
            self._list()

    # ---- who is spoken to, and when

    def get_protocol(self) -> Any:
        """Return the protocol object; None where a function answers."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Speak to another protocol object from the next callback on; connection_made is not called.

        Raises:
            TypeError: it has none of frame_received, line_received and data_received.
        """
        receiver = self._make(protocol)
        self._protocol = protocol
        if not self._ended:
            self._receiver = receiver

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call back once, `delay` seconds from now, unless the connection has ended by then.

        An exception of the callback ends the connection as one of its handler does.

        Returns:
            A timer with cancel().
        """

        timers = self._timers = self._timers or set()

        def due() -> None:
            timers.discard(timer)
            self._guard(callback, *args)

        timer = self._loop.call_later(delay, due)
        timer.when_cancelled = timers.discard
        timers.add(timer)
        return timer

    # ---- what a handler may ask

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Answer `peername`, `sockname` and `socket` as asyncio does, `peercred`, `peerhost` and `proxied`.

        Where the connection is encrypted, also `ssl_object`, `sslcontext`, `peercert`, `cipher` and `compression`.

        `peercred` is (pid, uid, gid) of the process at the other end of a Unix socket (SO_PEERCRED, unix(7));
        `peerhost` is the peer's confirmed name, if the listener has `names` on and it is known by now;
        `proxied` what a PROXY header told (sockd.net.connection.peers.ProxyInfo).
        """
        told = None if self._ended else extra_info(self, self._set, name)
        return default if told is None else told

    @property
    def socket(self) -> socket.socket:
        """The socket, for its options; the set goes on receiving and sending by itself."""
        if self._socket is None:
            self._socket = socket.socket(fileno=self._set.info(self.id).fd)
        return self._socket

    @property
    def peer(self) -> str:
        """The peer's address as text (FAQ IV.9)."""
        if self._ended:
            return ""
        return str(self._set.peers.of(self.id))

    # ---- the sink's side

    def start(self, receiver: FrameProtocol, protocol: Any = None) -> None:
        """Attach the receiver, which speaks to the protocol object if there is one, and tell it."""
        self._receiver = receiver
        self._protocol = protocol
        self._guard(receiver.connection_made, self)

    def deliver(self, offset: int, size: int, count: int) -> None:
        """Hand frames of an event on, one by one, as long as they are wanted; give back what is not yet."""
        receiver, codec = self._receiver, self._codec
        if receiver is None or self._closing:
            return
        taken = 0
        if not self._paused:
            endings = codec.endings(offset, size) if codec.is_in_kind else None
            receive = receiver.frame
            frames = codec.cut(offset, size, count)
            for taken, frame in enumerate(frames if count <= FIRST_LOOK else self._set.turn.in_time(frames), 1):
                if endings or self._ending:
                    self._ending = endings[taken - 1] if endings else None
                try:
                    receive(frame)
                except BaseException as error:
                    self._failed(error, codec.size_of(frame))
                if self._paused or self._closing or self._codec is not codec or self._receiver is not receiver:
                    break
        if taken < count and not self._closing:
            codec.give_back(self.id, offset, size, taken, count)

    def end(self) -> None:
        """Tell of the peer's end of file; unless it is wanted otherwise, close in order."""
        receiver = self._receiver
        if receiver is None or self._closing:
            return
        input_pending_bytes = self._set.info(self.id).input_pending_bytes
        stay = self._guard(receiver.eof_received)
        if not stay:
            self._close(CloseReason.TRUNCATED if input_pending_bytes else CloseReason.EOF)

    def pause(self) -> None:
        """Tell that high water is passed, once."""
        if self._receiver is not None and not self._is_high:
            self._is_high = True
            self._guard(self._receiver.pause_writing)

    def resume(self) -> None:
        """Tell that low water is reached."""
        if self._receiver is not None and self._is_high:
            self._is_high = False
            self._guard(self._receiver.resume_writing)

    def lost(self, reason: CloseReason, error: int) -> None:
        """Tell of the end; nothing comes after it."""
        receiver = self._receiver
        self._closing = True
        self._reason = reason
        self.outbox.clear()
        for timer in tuple(self._timers or ()):
            timer.cancel()
        exc = OSError(error, os.strerror(error)) if error else self._error
        if receiver is not None:
            self._guard(receiver.connection_lost, exc)
        self._receiver = self._error = None  # its traceback holds the frames of a whole turn
        if self._socket is not None:
            self._socket.detach()  # the descriptor is the set's

    # ---- on to another process

    def snapshot(self) -> Snapshot | None:
        """Return what another process needs to go on; None where only the handler knows how."""
        protocol, handler = self._protocol, None
        if self._receiver is None or self._closing or self._starting is not None:
            return None
        if hasattr(protocol, "snapshot") and hasattr(protocol, "restore"):
            handler = self._guard(protocol.snapshot)
        if handler is None and (protocol or self.state is not None or self._timers or self._paused):
            return None
        water = (int(self._low), int(self._high))
        return Snapshot(self._paused, self._eof, self._is_high, water, spell(self.framing), handler)

    def restore(self, receiver: FrameProtocol, protocol: Any, snapshot: Snapshot) -> None:
        """Go on with what another process began; an exception of the handler's is raised."""
        self._receiver, self._protocol = receiver, protocol
        self._paused, self._eof, self._is_high = snapshot.is_paused, snapshot.is_finishing, snapshot.is_high
        self._low, self._high = snapshot.water
        if (framing := framing_of(*snapshot.framing)) != self.framing:
            self.set_framing(framing)
        if protocol is None:
            receiver.connection_made(self)
        else:
            protocol.restore(self, snapshot.handler)

    def leave(self) -> None:
        """Do nothing any more, and tell nobody: another process has the connection."""
        self._closing = True
        self._receiver = None
        self.outbox.clear()
        for timer in tuple(self._timers or ()):
            timer.cancel()
        if self._socket is not None:
            self._socket.detach()

    def _guard(self, callback: Callable[..., Any], *args: Any) -> Any:
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
        event = {"peer": self.peer, "frame_bytes": frame_size}
        logger.error("handler failed", exc_info=error, extra={"event": event})
        if not self._closing:
            self._error = as_exception(error)
        self._close(CloseReason.HANDLER_ERROR)
