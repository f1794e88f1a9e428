# SPDX-License-Identifier: MIT
"""Datagrams for every kind of handler: functions, with the sender or without, coroutine functions, protocol classes.

One datagram is one frame: its payload alone, but a line's ending is taken off and put back.  With `datagram_lines` each
of its lines is a frame (as statsd and carbon send them), and the replies leave in one datagram.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from sockd.lazy import inspect, lazily
from sockd.log.failure import end_copy
from sockd.net.connection.codec import reply_bytes, wrong_count
from sockd.net.udp.source import LineFunction, SourcedAnswer
from sockd.net.udp.table import DATAGRAMS_A_TURN
from sockd.wire.framing import Line, Record, datagram_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.net.address.sockaddr import SockAddr
    from sockd.net.udp.listener import DatagramListener
    from sockd.net.udp.source import DatagramSource
    from sockd.services.api import BatchFunction, Reply
    from sockd.wire.framing import Frame, Framing

    Answer = Callable[[bytes], bytes | None] | LineFunction | SourcedAnswer
    import asyncio
    from asyncio import trsock
else:
    asyncio = lazily("asyncio", only_with="asyncio")
    trsock = lazily("asyncio.trsock", only_with="asyncio")

MAX_IN_FLIGHT = 1000
"""Datagrams of one socket whose coroutines have not ended, past which it is not read."""


class DatagramCodec:
    """Frames of a datagram, and the datagram of their replies.

    Args:
        framing: of the service.
        by_line: each line of a datagram is a frame.

    Attributes:
        is_line: the datagram is one line.
    """

    def __init__(self, framing: Framing, *, by_line: bool) -> None:
        self._record = framing if isinstance(framing, Record) else None
        self._by_line = by_line
        self.is_line = isinstance(framing, Line) and not by_line

    def frames(self, datagram: bytes) -> tuple[list[Frame], bytes]:
        """Return the frames of a datagram, and what ends their replies."""
        if self._by_line:
            lines = datagram.removesuffix(b"\n").split(b"\n") if datagram else []
            return [line.removesuffix(b"\r") for line in lines], b"\n"
        if self._record is not None:
            return [self._record.unpack(datagram)], b""
        if self.is_line:
            frame, ending = datagram_frame(datagram)
            return [frame], ending
        return [datagram], b""

    def pack(self, replies: Sequence[object], ending: bytes) -> bytes | None:
        """Return the datagram of replies; None where there are none."""
        pack = reply_bytes if self._record is None else self._record.pack
        packed = [pack(reply) + ending for reply in replies if reply is not None]
        return b"".join(packed) if packed else None


def frame_answer(function: Callable[..., Reply], codec: DatagramCodec) -> Callable[[bytes], bytes | None]:
    """Return what answers a datagram by a function of one frame."""
    if codec.is_line:
        return LineFunction(function)

    def answer(datagram: bytes) -> bytes | None:
        frames, ending = codec.frames(datagram)
        return codec.pack([function(frame) for frame in frames], ending)

    return answer


def batch_answer(function: BatchFunction, codec: DatagramCodec) -> Callable[[bytes], bytes | None]:
    """Return what answers a datagram by a function of several frames."""

    def answer(datagram: bytes) -> bytes | None:
        frames, ending = codec.frames(datagram)
        replies = function(frames)
        if not isinstance(replies, list):
            return None if not replies else reply_bytes(replies)
        if len(replies) != len(frames):
            raise wrong_count(len(replies), len(frames))
        return codec.pack(replies, ending)

    return answer


class DatagramPeer:
    """Who has sent a datagram, where a function has a connection as its second argument.

    Attributes:
        state: the handler's own, None at first; of this datagram alone.
    """

    __slots__ = ("_codec", "_ending", "_source", "state")

    def __init__(self, source: DatagramSource, codec: DatagramCodec, ending: bytes) -> None:
        self._source = source
        self._codec = codec
        self._ending = ending
        self.state: Any = None

    @property
    def peer(self) -> str:
        """The sender's address as text."""
        return self._source.peer

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send a datagram back."""
        self._source.send(reply_bytes(data))

    def reply(self, frame: object) -> None:
        """Send a datagram back, made of a reply as the return value is."""
        packed = self._codec.pack([frame], self._ending)
        if packed is not None:
            self._source.send(packed)

    def sendto(self, data: bytes | bytearray | memoryview, address: SockAddr) -> None:
        """Send a datagram to another address, of the socket's family."""
        self._source.listener.send_to(reply_bytes(data), address)

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Answer `peername`, and `sockname`: where the datagram arrived."""
        if name == "peername":
            return self._source.sockaddr
        return self._source.local if name == "sockname" else default

    def is_closing(self) -> bool:
        """Return False: there is nothing to close."""
        return False

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class PeerFunction(SourcedAnswer):
    """Answers by a function of a frame and its sender."""

    def __init__(self, function: Callable[..., object], codec: DatagramCodec) -> None:
        self._function = function
        self._codec = codec

    def answer(self, datagram: bytes, source: DatagramSource) -> bytes | None:
        """Call the function for each frame."""
        frames, ending = self._codec.frames(datagram)
        peer = DatagramPeer(source, self._codec, ending)
        return self._codec.pack([self._function(frame, peer) for frame in frames], ending)


class AsyncDatagrams(SourcedAnswer):
    """Answers by a coroutine function, each datagram as a task: answers leave as they are ready."""

    def __init__(self, function: Callable[..., object], codec: DatagramCodec, *, wants_peer: bool) -> None:
        self._function = function
        self._codec = codec
        self._wants_peer = wants_peer
        self._tasks: set[asyncio.Task[object]] = set()
        self._free: list[Callable[[], None]] = []

    def bind(self, _listener: object) -> AsyncDatagrams:
        """Return one for a socket."""
        return AsyncDatagrams(self._function, self._codec, wants_peer=self._wants_peer)

    @property
    def room(self) -> int:
        """How many more can be worked on."""
        return min(MAX_IN_FLIGHT - len(self._tasks), DATAGRAMS_A_TURN)

    def when_free(self, callback: Callable[[], None]) -> None:
        """Call back once, when there is room."""
        self._free.append(callback)

    def answer(self, datagram: bytes, source: DatagramSource) -> None:
        """Begin."""
        source.begin()
        task = asyncio.get_running_loop().create_task(self._work(datagram, source))
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, source))

    async def _work(self, datagram: bytes, source: DatagramSource) -> bytes | None:
        frames, ending = self._codec.frames(datagram)
        peer = DatagramPeer(source, self._codec, ending)
        replies = []
        try:
            for frame in frames:
                returned = self._function(frame, peer) if self._wants_peer else self._function(frame)
                replies.append(await returned if inspect.isawaitable(returned) else returned)
        except BaseException as error:
            end_copy(error)
            raise
        return self._codec.pack(replies, ending)

    def _done(self, source: DatagramSource, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            source.done(None, None)
        else:
            error = task.exception()
            source.done(None if error else task.result(), error)
        free, self._free = self._free, []
        for callback in free:
            callback()


class DatagramTransport:
    """The transport of an asyncio.DatagramProtocol; for isinstance() it is one of asyncio's.

    Args:
        protocols: whose transport it is.
        listener: whose socket it has.
    """

    _low, _high = 16 * 1024, 64 * 1024

    def __init__(self, protocols: ProtocolDatagrams, listener: DatagramListener) -> None:
        self._protocols = protocols
        self._listener = listener
        self._is_closing = False

    @property  # type: ignore[misc]  # object's is writable
    def __class__(self) -> type:
        """What isinstance() asks where the type itself is not the one."""
        return asyncio.DatagramTransport

    def sendto(self, data: bytes | bytearray | memoryview, addr: SockAddr | None = None) -> None:
        """Send a datagram, at once or not at all.

        Raises:
            TypeError: data is not bytes-like.
            ValueError: no address is given: the socket is connected to nobody.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if not data and not self._protocols.sends_empty:
            return
        if addr is None:
            raise ValueError("sendto() without an address: the socket is connected to nobody")
        source = self._protocols.current
        if source is not None and source.sockaddr == addr:
            source.send(reply_bytes(data))  # from where it has arrived
        else:
            self._listener.send_to(reply_bytes(data), addr)

    def close(self) -> None:
        """Receive no more; connection_lost() comes."""
        if not self._is_closing:
            self._is_closing = True
            self._listener.close()

    abort = close

    def is_closing(self) -> bool:
        """Tell whether it is closed."""
        return self._is_closing

    def get_protocol(self) -> object:
        """Return the protocol."""
        return self._protocols.protocol

    def set_protocol(self, protocol: object) -> None:
        """Hand datagrams to another protocol from the next one on."""
        self._protocols.protocol = protocol

    def get_write_buffer_size(self) -> int:
        """Return 0: nothing is kept."""
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return what was set."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set water marks, which nothing reaches."""
        high = (64 * 1024 if low is None else 4 * low) if high is None else high
        low = high // 4 if low is None else low
        if not 0 <= low <= high:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._low, self._high = low, high

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Answer `sockname` and `socket`."""
        if name == "socket":
            return trsock.TransportSocket(self._listener.socket)
        return self._listener.socket.getsockname() if name == "sockname" else default


class ProtocolDatagrams(SourcedAnswer):
    """Answers by a protocol object: one for each socket, as asyncio's create_datagram_endpoint() has it.

    Args:
        make: makes it.

    Attributes:
        protocol: the object; None until it is made.
        current: whose datagram is handled now.
        sends_empty: whether asyncio sends an empty datagram, which it does from 3.13 on.
    """

    sends_empty = sys.version_info >= (3, 13)

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make
        self.protocol: Any = None
        self._listener: DatagramListener | None = None
        self.current: DatagramSource | None = None

    def bind(self, listener: DatagramListener) -> ProtocolDatagrams:
        """Return one for a socket."""
        bound = ProtocolDatagrams(self._make)
        bound._listener = listener
        return bound

    def started(self) -> None:
        """Make the protocol."""
        self.protocol = self._make()
        if self._listener is not None:
            getattr(self.protocol, "connection_made", _nothing)(DatagramTransport(self, self._listener))

    def answer(self, datagram: bytes, source: DatagramSource) -> None:
        """Pass on; a factory that has failed is called again."""
        if self.protocol is None:
            self.started()
        self.current = source
        try:
            self.protocol.datagram_received(datagram, source.sockaddr)
        finally:
            self.current = None

    def failed(self, error: OSError) -> None:
        """Pass on."""
        getattr(self.protocol, "error_received", _nothing)(error)

    def closed(self) -> None:
        """Pass on."""
        getattr(self.protocol, "connection_lost", _nothing)(None)


def _nothing(*_: object) -> None:
    return None


__all__ = [
    "Answer",
    "AsyncDatagrams",
    "DatagramCodec",
    "DatagramPeer",
    "DatagramTransport",
    "PeerFunction",
    "ProtocolDatagrams",
    "batch_answer",
    "frame_answer",
]
