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
import struct
from typing import TYPE_CHECKING, Any

from sockd.errors import Close
from sockd.net import packed
from sockd.net.codec import bytes_of, codec_of
from sockd.net.snapshot import Snapshot
from sockd.wire.framing import framing_of, spell
from sockd.wire.state import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sockd.net.codec import Codec
    from sockd.net.connection_set import ConnectionSet
    from sockd.net.loop import EventLoop, Timer
    from sockd.net.sink import Receiver
    from sockd.wire.framing import Framing

logger = logging.getLogger("sockd.connection")

TLS_NAMES = ("ssl_object", "sslcontext", "peercert", "cipher", "compression")
"""Of get_extra_info, as asyncio's transports."""


class Connection:
    """A transport: what a handler may ask of, and do to, the peer it talks to.

    Attributes:
        id: the connection's number while it lives.
        state: the handler's own, None at first.
    """

    __slots__ = (
        "_closing", "_codec", "_ending", "_eof", "_error", "_high", "_is_high", "_listed", "_loop", "_low", "_make",
        "_out", "_out_size", "_paused", "_protocol", "_reason", "_receiver", "_set", "_socket", "_timers", "id",
        "state",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        connections: ConnectionSet,
        codec: Codec,
        high_water: int,
        loop: EventLoop,
        make: Callable[[Any], Receiver],
    ) -> None:
        self.id = id
        self.state: Any = None
        self._set = connections
        self._codec = codec
        self._ending: bytes | None = None
        self._loop = loop
        self._make = make
        self._receiver: Receiver | None = None
        self._protocol: Any = None
        self._timers: set[Timer] | None = None
        self._out: list[bytes] = []
        self._out_size = 0
        self._high = high_water
        self._low = high_water // 4
        self._listed = self._closing = self._eof = self._paused = self._is_high = False
        self._reason = CloseReason.NONE
        self._error: Exception | None = None
        self._socket: socket.socket | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.peer}>"

    # ---- writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes behind all that was written before; dropped once the connection is closing.

        Raises:
            TypeError: data is not bytes-like.
            RuntimeError: write_eof() was called.
        """
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self._eof:
            raise RuntimeError("write() after write_eof()")
        if self._closing:
            return
        self._out.append(data)
        self._out_size = size = self._out_size + len(data)
        if not self._listed:
            self._list()
        if size > self._high:
            self._write_now()

    def _write_now(self) -> None:
        self._set.write(self.id, self.take())
        if self._set.unsent(self.id) > self._high:
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
            self._list()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that were written and not yet taken by the kernel."""
        return self._out_size + (0 if self._ended else self._set.unsent(self.id))

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
        self._high, self._low = high, low
        if not self._ended:
            self._set.set_water(self.id, high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the water marks (low, high), in bytes."""
        return self._low, self._high

    def _list(self) -> None:
        if not self._listed:
            self._listed = True
            self._set.will_write(self)

    def take(self) -> bytes:
        """Hand over what was written (for the set)."""
        out = self._out
        block = out[0] if len(out) == 1 else b"".join(out)
        self._out = []
        self._out_size = 0
        return block

    def flushed(self) -> None:
        """Do what was to come behind the output (for the set)."""
        self._listed = False
        if self._ended:
            return
        if self._closing:
            self._set.shut(self.id, self._reason)
        elif self._eof:
            self._set.shutdown(self.id)

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
            self._reason = reason
            self._list()

    def abort(self) -> None:
        """End at once, unsent output is dropped; TCP sends RST (FAQ IV.6)."""
        if not self._ended:
            self._closing = True
            self._out.clear()
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
        if not self._paused and not self._closing:
            self._paused = True
            self._set.pause(self.id, True)

    def resume_reading(self) -> None:
        """Deliver again, first what was received before the pause."""
        if self._paused and not self._closing:
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

        def due() -> None:
            assert self._timers is not None
            self._timers.discard(timer)
            self._guard(callback, *args)

        timer = self._loop.call_later(delay, due)
        if self._timers is None:
            self._timers = set()
        self._timers.add(timer)
        return timer

    # ---- what a handler may ask

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Answer `peername`, `sockname` and `socket` as asyncio does, `peercred`, `peerhost` and `proxied`.

        Where the connection is encrypted, also `ssl_object`, `sslcontext`, `peercert`, `cipher` and `compression`.

        `peercred` is (pid, uid, gid) of the process at the other end of a Unix socket (SO_PEERCRED, unix(7));

        `peerhost` is the peer's confirmed name, if the listener has `names` on and it is known by now;
        `proxied` what a PROXY header told (sockd.net.proxied.Proxied).
        """
        if self._ended:
            return default
        if name == "peername":
            info = self._set.info(self.id)
            return packed.unpack(info.peer, info.fd)[1]
        if name == "peercred":
            return self._peer_credentials() or default
        if name == "peerhost":
            return self._set.name_of(packed.host(self._set.info(self.id).peer)) or default
        if name == "proxied":
            return self._set.proxied(self.id) or default
        if name in TLS_NAMES:
            return self._of_tls(name, default)
        if name == "sockname":
            return self.socket.getsockname() if (near := self._set.tls(self.id)) is None else near.getsockname()
        if name == "socket":
            return self.socket
        return default

    def _of_tls(self, name: str, default: Any) -> Any:
        near = self._set.tls(self.id)
        if near is None:
            return default
        tls = near.ssl_object
        told: dict[str, Callable[[], Any]] = {
            "ssl_object": lambda: tls,
            "sslcontext": lambda: tls.context,
            "peercert": tls.getpeercert,
            "cipher": tls.cipher,
            "compression": tls.compression,
        }
        return told[name]()

    def _peer_credentials(self) -> tuple[int, int, int] | None:
        option = getattr(socket, "SO_PEERCRED", None)
        if option is None or self.socket.family != socket.AF_UNIX:
            return None
        pid, uid, gid = struct.unpack("3i", self.socket.getsockopt(socket.SOL_SOCKET, option, 12))
        return pid, uid, gid

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
        info = self._set.info(self.id)
        return packed.text(info.peer, info.fd)

    # ---- the sink's side

    def start(self, receiver: Receiver, protocol: Any = None) -> None:
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
            for taken, frame in enumerate(codec.cut(offset, size, count), 1):
                if endings or self._ending:
                    self._ending = endings[taken - 1] if endings else None
                try:
                    receive(frame)
                except Exception as error:
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
        unframed = self._set.info(self.id).unframed
        stay = self._guard(receiver.eof_received)
        if not stay:
            self._close(CloseReason.TRUNCATED if unframed else CloseReason.EOF)

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
        self._out.clear()
        for timer in self._timers or ():
            timer.cancel()
        exc = OSError(error, os.strerror(error)) if error else self._error
        if receiver is not None:
            self._guard(receiver.connection_lost, exc)
        self._receiver = None
        if self._socket is not None:
            self._socket.detach()  # the descriptor is the set's

    # ---- on to another process

    def snapshot(self) -> Snapshot | None:
        """Return what another process needs to go on; None where only the handler knows how."""
        protocol, handler = self._protocol, None
        if self._receiver is None or self._closing:
            return None
        if hasattr(protocol, "snapshot") and hasattr(protocol, "restore"):
            handler = self._guard(protocol.snapshot)
        if handler is None and (protocol or self.state is not None or self._timers or self._paused):
            return None
        water = (int(self._low), int(self._high))
        return Snapshot(self._paused, self._eof, self._is_high, water, spell(self.framing), handler)

    def restore(self, receiver: Receiver, protocol: Any, snapshot: Snapshot) -> None:
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
        self._out.clear()
        for timer in self._timers or ():
            timer.cancel()
        if self._socket is not None:
            self._socket.detach()

    def _guard(self, callback: Callable[..., Any], *args: Any) -> Any:
        try:
            return callback(*args)
        except Exception as error:
            self._failed(error, 0)
            return None

    def _failed(self, error: Exception, frame_size: int) -> None:
        if isinstance(error, Close):
            try:
                if error.last_words is not None:
                    self.reply(error.last_words)
            except Exception as raised:  # what they are is the handler's doing
                error = raised
            else:
                self._close(CloseReason.CLOSED)
                return
        event = {"peer": self.peer, "frame_bytes": frame_size}
        logger.error("handler failed", exc_info=error, extra={"event": event})
        if not self._closing:
            self._error = error
        self._close(CloseReason.HANDLER_ERROR)


def _as_bytes(data: object) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data: expected a bytes-like object, not {type(data).__name__}")
    return bytes(data)
