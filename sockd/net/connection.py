"""One peer: a transport with the methods of asyncio.Transport, and the sink that makes them.

What is written in a turn is gathered and leaves in one send at its end
(FAQ II.11).  A receiver is called in the order of asyncio and Twisted:
connection_made, frame, eof_received, connection_lost; nothing is delivered
after close() and nothing while reading is paused.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Protocol

from sockd.errors import Close
from sockd.net import packed
from sockd.net.connection_set import Sink
from sockd.wire.framing import Line
from sockd.wire.state import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sockd.net.connection_set import ConnectionSet
    from sockd.wire.framing import Framing

logger = logging.getLogger("sockd.connection")


class Receiver(Protocol):
    """What a connection hands its input to; a service makes one for each connection."""

    def connection_made(self, transport: Connection) -> None:
        """The connection is there."""

    def frame(self, frame: bytes) -> None:
        """One frame."""

    def eof_received(self) -> bool | None:
        """The peer sends no more; true keeps our side open."""

    def pause_writing(self) -> None:
        """More than high water is unsent."""

    def resume_writing(self) -> None:
        """No more than low water is unsent."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""


class Connection:
    """A transport: what a handler may ask of, and do to, the peer it talks to.

    Attributes:
        id: the connection's number while it lives.
        framing: how its input is cut, and what ends a reply.
    """

    __slots__ = (
        "_call_soon", "_closing", "_eof", "_held", "_high", "_is_high", "_listed", "_out", "_out_size", "_paused",
        "_reason", "_receiver", "_set", "_socket", "framing", "id",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        connections: ConnectionSet,
        framing: Framing,
        high_water: int,
        call_soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self.id = id
        self.framing = framing
        self._set = connections
        self._call_soon = call_soon
        self._receiver: Receiver | None = None
        self._out: list[bytes] = []
        self._out_size = 0
        self._high = high_water
        self._held: list[bytes] = []
        self._listed = self._closing = self._eof = self._paused = self._is_high = False
        self._reason = CloseReason.NONE
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
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data: expected a bytes-like object, not {type(data).__name__}")
        if self._eof:
            raise RuntimeError("write() after write_eof()")
        if self._closing or not data:
            return
        self._out.append(bytes(data))
        self._out_size += len(data)
        if self._out_size <= self._high:
            self._list()
            return
        self._set.write(self.id, self.take())
        if self._set.unsent(self.id) > self._high:
            self.pause()  # at once, as asyncio: its receiver may be writing in a loop until it is told

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write each of them."""
        for data in list_of_data:
            self.write(data)

    def reply(self, frame: bytes) -> None:
        """Write a frame with the ending that the framing gives it."""
        self.write(frame + self.framing.ending if isinstance(self.framing, Line) else frame)

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
        self._high = high
        if not self._ended:
            self._set.set_water(self.id, high, low)

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

    def _close(self, reason: CloseReason) -> None:
        if not self._closing:
            self._closing = True
            self._reason = reason
            self._held.clear()
            self._list()

    def abort(self) -> None:
        """End at once, unsent output is dropped; TCP sends RST (FAQ IV.6)."""
        if not self._ended:
            self._closing = True
            self._held.clear()
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
            if self._held:
                self._call_soon(self._deliver_held)
            else:
                self._set.pause(self.id, False)

    def _deliver_held(self) -> None:
        if self._paused or self._closing:
            return
        held, self._held = self._held, []
        self.deliver(held)
        if not self._paused and not self._closing:
            self._set.pause(self.id, False)

    # ---- what a handler may ask

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Answer `peername`, `sockname` and `socket` as asyncio does, `peerhost` and `proxied`.

        `peerhost` is the peer's confirmed name, if the listener has `names` on and it is known by now;
        `proxied` what a PROXY header told (sockd.net.proxied.Proxied).
        """
        if self._ended:
            return default
        if name == "peername":
            info = self._set.info(self.id)
            return packed.unpack(info.peer, info.fd)[1]
        if name == "peerhost":
            return self._set.name_of(packed.host(self._set.info(self.id).peer)) or default
        if name == "proxied":
            return self._set.proxied(self.id) or default
        if name == "sockname":
            return self.socket.getsockname()
        if name == "socket":
            return self.socket
        return default

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

    def start(self, receiver: Receiver) -> None:
        """Attach the receiver and tell it."""
        self._receiver = receiver
        self._guard(receiver.connection_made, self)

    def deliver(self, frames: list[bytes]) -> None:
        """Hand frames on, one by one, as long as they are wanted."""
        receiver = self._receiver
        if receiver is None or self._closing:
            return
        if self._paused or self._held:
            self._held += frames
            return
        receive = receiver.frame
        for at, frame in enumerate(frames, 1):
            try:
                receive(frame)
            except Exception as error:
                self._failed(error, len(frame))
            if self._paused or self._closing:
                if self._paused:
                    self._held = frames[at:]
                return

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
        self._held.clear()
        self._out.clear()
        exc = OSError(error, os.strerror(error)) if error else None
        if receiver is not None:
            self._guard(receiver.connection_lost, exc)
        self._receiver = None
        if self._socket is not None:
            self._socket.detach()  # the descriptor is the set's

    def _guard(self, callback: Callable[..., Any], *args: Any) -> Any:
        try:
            return callback(*args)
        except Exception as error:
            self._failed(error, 0)
            return None

    def _failed(self, error: Exception, frame_size: int) -> None:
        if isinstance(error, Close):
            if error.last_words is not None:
                self.reply(error.last_words)
            self._close(CloseReason.CLOSED)
            return
        event = {"peer": self.peer, "frame_bytes": frame_size}
        logger.error("handler failed", exc_info=error, extra={"event": event})
        self._close(CloseReason.HANDLER_ERROR)


class ConnectionSink(Sink):
    """Makes a Connection and a receiver for each connection of a service.

    Args:
        service: its name, for the log.
        make: called once for each connection.
    """

    def __init__(
        self,
        service: str,
        make: Callable[[], Receiver],
        framing: Framing,
        high_water: int,
        connections: ConnectionSet,
        call_soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self._service = service
        self._make = make
        self._framing = framing
        self._is_line = isinstance(framing, Line)
        self._high_water = high_water
        self._set = connections
        self._call_soon = call_soon
        self._live: dict[int, Connection] = {}

    def accepted(self, id: int) -> None:
        """Make the connection and tell its receiver."""
        connection = Connection(id, self._set, self._framing, self._high_water, self._call_soon)
        self._live[id] = connection
        try:
            receiver = self._make()
        except Exception as error:
            logger.error("handler failed", exc_info=error, extra={"event": {"service": self._service}})
            self._set.shut(id, CloseReason.HANDLER_ERROR)
            return
        connection.start(receiver)

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Cut the block and deliver."""
        if not self._is_line:
            frames = [self._set.block(offset, size)]
        elif count == 1:
            frames = [self._set.block(offset, size - 1)]
        else:
            frames = self._set.block(offset, size - 1).split(b"\n")
        self._live[id].deliver(frames)

    def ended(self, id: int) -> None:
        """Pass on."""
        self._live[id].end()

    def pause(self, id: int) -> None:
        """Pass on."""
        self._live[id].pause()

    def resume(self, id: int) -> None:
        """Pass on."""
        self._live[id].resume()

    def closed(self, id: int, reason: CloseReason) -> None:
        """Log the end and tell the receiver."""
        log_end(self._service, self._set, id, reason)
        self._live.pop(id).lost(reason, self._set.info(id).error)


def log_end(service: str, connections: ConnectionSet, id: int, reason: CloseReason) -> None:
    """Write the line of a connection that has ended: who, how much, how long, why."""
    if not logger.isEnabledFor(logging.INFO):
        return
    info = connections.info(id)
    event: dict[str, object] = {
        "service": service,
        "peer": packed.text(info.peer, info.fd),
        "reason": str(reason),
        "frames": info.frames,
        "received": info.received,
        "sent": info.sent,
        "seconds": round(info.elapsed, 3),
    }
    if name := connections.name_of(packed.host(info.peer)):
        event["name"] = name
    if proxied := connections.proxied(id):
        event["via"] = proxied.via
    if info.unsent:
        event["unsent"] = info.unsent
    logger.info("closed", extra={"event": event})
