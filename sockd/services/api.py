# SPDX-License-Identifier: MIT
"""A service as its author writes it, and the protocol classes to build on."""

from __future__ import annotations

import codecs
import functools
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, cast, overload

from sockd.lazy import inspect
from sockd.services.options import check_callable, check_framing, check_options

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable
    from typing import Unpack

    from sockd.net.connection.connection import Connection
    from sockd.settings.service import TooLong, Unfinished
    from sockd.wire.framing import Framing, Record, RecordValues, StreamFraming

    Data = bytes | bytearray | memoryview
    Reply = Data | RecordValues | None
    LineFunction = Callable[[Any], Reply]
    FrameFunction = Callable[[Any, Connection], Reply]
    BatchReply = Reply | list[Reply]
    BatchFunction = Callable[[list[Any]], BatchReply]
    Hook = Callable[[], object]
    RestoreHook = Callable[[Any], object]
    SessionFunction = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]

    BytesReply = Data | None | Awaitable[Data | None]
    TextReply = str | Data | None | Awaitable[str | Data | None]
    TupleReply = RecordValues | None | Awaitable[RecordValues | None]
    OfBytes = Callable[[bytes], BytesReply] | Callable[[bytes, Connection], BytesReply]
    OfText = Callable[[str], TextReply] | Callable[[str, Connection], TextReply]
    OfTuples = Callable[[RecordValues], TupleReply] | Callable[[RecordValues, Connection], TupleReply]
    BytesBatch = Callable[[list[bytes]], Data | list[Data | None] | list[bytes] | list[bytes | None] | None]
    TextBatch = Callable[[list[str]], str | Data | list[str] | list[str | None] | None]
    TupleBatch = Callable[[list[RecordValues]], Data | list[RecordValues] | list[RecordValues | None] | None]

FrameT = TypeVar("FrameT", bytes, str, "RecordValues")
"""What a service's handler is given: bytes, str where it has a text encoding, tuples where frames are records."""
FB = TypeVar("FB", bound="OfBytes")
FS = TypeVar("FS", bound="OfText")
FT = TypeVar("FT", bound="OfTuples")
BB = TypeVar("BB", bound="BytesBatch")
BS = TypeVar("BS", bound="TextBatch")
BT = TypeVar("BT", bound="TupleBatch")
H = TypeVar("H", bound="Hook")
R = TypeVar("R", bound="RestoreHook")
P = TypeVar("P", bound="Callable[[], object]")
S = TypeVar("S", bound="SessionFunction")


class ServiceOptions(TypedDict, total=False):
    """The options of a Service that say nothing of what its handler is given, for type checkers."""

    idle_timeout: float | None
    frame_timeout: float | None
    write_timeout: float | None
    linger_timeout: float | None
    high_water: int | None
    max_buffer: int | None
    max_connections: int | None
    goodbye: bytes | None
    blocking: bool | None
    max_in_flight: int | None
    too_long: TooLong | None
    unfinished: Unfinished | None
    datagram_lines: bool | None


def is_async(function: object) -> bool:
    """Return whether a call returns a coroutine: also of an object, of a partial, or of what functools.wraps()
    marks.
    """
    while isinstance(function, functools.partial):
        function = function.func
    if callable(function):
        function = inspect.unwrap(function)
    call_method = None if isinstance(function, type) else getattr(type(function), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call_method)


class Service(Generic[FrameT]):
    """A service: its handler, with limits and hooks.  Settings in sockd.toml override these.

    Args:
        framing: how input is split into frames; lines by default, unframed bytes for
            a protocol class with data_received.
        idle_timeout: seconds without a byte after which a connection is closed.
        frame_timeout: seconds for a whole frame, from its first byte.
        write_timeout: seconds without progress of unsent output.
        linger_timeout: seconds for the peer to close after us (FAQ II.5).
        high_water: unsent bytes at which sockd stops reading from a connection.
        max_buffer: unsent bytes at which a connection is closed.
        max_connections: number of connections open at once.
        goodbye: payload of a last frame for every connection that a stop, or a listener's removal, ends.
        blocking: run the function in a thread, of which `[daemon] threads` run in parallel.
        max_in_flight: calls of `async def f(line)` that run at once for one connection; replies keep their order.
        too_long: what happens to a longer frame: "close" the connection (the default), "skip" the frame, or "cut" it.
        unfinished: what happens to an incomplete frame at the end of file: "drop" (the default) or "deliver".
        datagram_lines: each line of a datagram is a frame, and their replies leave in one datagram.
        text: an encoding, such as utf-8: functions then take and return str; a frame that cannot be decoded is a
            handler error.

    Raises:
        TypeError: an option is of another type.
        ValueError: a limit is not positive, a word is not one of those above, or there is no such encoding.
    """

    @overload
    def __init__(
        self: Service[str],
        *,
        text: str,
        framing: StreamFraming | None = None,
        **options: Unpack[ServiceOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: Service[RecordValues], *, framing: Record, text: None = None, **options: Unpack[ServiceOptions]
    ) -> None: ...

    @overload
    def __init__(
        self: Service[bytes],
        *,
        framing: StreamFraming | None = None,
        text: None = None,
        **options: Unpack[ServiceOptions],
    ) -> None: ...

    def __init__(
        self,
        *,
        framing: Framing | None = None,
        idle_timeout: float | None = None,
        frame_timeout: float | None = None,
        write_timeout: float | None = None,
        linger_timeout: float | None = None,
        high_water: int | None = None,
        max_buffer: int | None = None,
        max_connections: int | None = None,
        goodbye: bytes | None = None,
        blocking: bool | None = None,
        max_in_flight: int | None = None,
        too_long: TooLong | None = None,
        unfinished: Unfinished | None = None,
        datagram_lines: bool | None = None,
        text: str | None = None,
    ) -> None:
        if framing is not None:
            check_framing(framing)
        limits: dict[str, float | None] = {
            "idle_timeout": idle_timeout,
            "frame_timeout": frame_timeout,
            "write_timeout": write_timeout,
            "linger_timeout": linger_timeout,
            "high_water": high_water,
            "max_buffer": max_buffer,
            "max_connections": max_connections,
        }
        check_options(
            {
                **limits,
                "goodbye": goodbye,
                "blocking": blocking,
                "max_in_flight": max_in_flight,
                "too_long": too_long,
                "unfinished": unfinished,
                "datagram_lines": datagram_lines,
            }
        )
        try:
            self.text = None if text is None else codecs.lookup(text).name
        except (LookupError, TypeError):
            raise ValueError(f"text must be an encoding such as utf-8, not {text!r}") from None
        self.framing = framing
        self.goodbye = goodbye
        self.blocking = blocking
        self.max_in_flight = max_in_flight
        self.too_long = too_long
        self.unfinished = unfinished
        self.datagram_lines = datagram_lines
        self.limits = limits
        self.function: LineFunction | FrameFunction | None = None
        self.batch: BatchFunction | None = None
        self.protocol: Callable[[], object] | None = None
        self.coroutine: SessionFunction | None = None
        self.at_startup: list[Hook] = []
        self.at_shutdown: list[Hook] = []
        self.snapshot_hook: Hook | None = None
        self.restore_hook: RestoreHook | None = None

    @overload
    def frame(self: Service[bytes], function: FB) -> FB: ...

    @overload
    def frame(self: Service[str], function: FS) -> FS: ...

    @overload
    def frame(self: Service[RecordValues], function: FT) -> FT: ...

    def frame(self, function: Any) -> Any:
        """Decorate the function that answers a frame: `f(frame)` or `f(frame, connection)`, also with `async def`."""
        self._set_once("the function of a frame", function)
        self.function = function
        return function

    @overload
    def frames(self: Service[bytes], function: BB) -> BB: ...

    @overload
    def frames(self: Service[str], function: BS) -> BS: ...

    @overload
    def frames(self: Service[RecordValues], function: BT) -> BT: ...

    def frames(self, function: Any) -> Any:
        """Decorate the function that answers all frames of a connection that arrived together.

        It gets a list of bytes, and returns a list with a reply for each (None: no reply), or bytes that are sent
        unchanged.
        """
        self._set_once("the function of frames", function)
        self.batch = cast("BatchFunction", function)
        return function

    def session(self, function: S) -> S:
        """Decorate the coroutine function `async def f(reader, writer)` that serves a connection.

        Reader and writer are asyncio's; the connection closes when the coroutine returns.

        Raises:
            ValueError: it is no coroutine function, or the service has its handler.
        """
        if not is_async(function):
            raise ValueError(f"a session is a coroutine function (async def), not {function!r}")
        self._set_once("a session", function)
        self.coroutine = function
        return function

    def startup(self, hook: H) -> H:
        """Decorate a startup hook: called once privileges are dropped, before the first byte; an exception ends the
        start.

        Beside a session it may be a coroutine function, and runs in the loop of the sessions.
        """
        check_callable("a startup hook", hook)
        self.at_startup.append(hook)
        return hook

    def shutdown(self, hook: H) -> H:
        """Decorate a shutdown hook: called once, after the last connection has closed."""
        check_callable("a shutdown hook", hook)
        self.at_shutdown.append(hook)
        return hook

    def snapshot(self, hook: H) -> H:
        """Decorate the function that returns the state of its module, for the code that a reload or an upgrade brings.

        The state is plain values: numbers, bytes, str, lists (tuples come back as lists) and dicts of these.  The old
        code still serves its connections afterwards, so the function must not change anything.
        """
        check_callable("a snapshot hook", hook)
        self.snapshot_hook = hook
        return hook

    def restore(self, hook: R) -> R:
        """Decorate the function that continues with the state: `f(state)`, called after the startup hooks.

        An exception in it fails the reload or the upgrade: the old code continues.
        """
        check_callable("a restore hook", hook)
        self.restore_hook = hook
        return hook

    def connect(self, protocol: P) -> P:
        """Decorate the protocol class (or any callable without arguments) that makes one object for each connection."""
        self._set_once("a protocol", protocol)
        self.protocol = protocol
        return protocol

    @property
    def is_complete(self) -> bool:
        """Whether it has its handler."""
        handlers = (self.function, self.batch, self.protocol, self.coroutine)
        return any(handler is not None for handler in handlers)

    def _set_once(self, what: str, handler: object) -> None:
        check_callable(what, handler)
        if self.is_complete:
            raise ValueError("a Service has one handler, and this one already has it")


AnyService = Service[Any]
"""A service, whatever its handler is given."""


class Protocol:
    """Base of protocol classes, with asyncio's names; every method may be left out.

    Write one of `line_received(line)`, `frame_received(frame)` and `data_received(data)` (unframed bytes).
    """

    def connection_made(self, transport: Connection) -> None:
        """Called once, first."""

    def eof_received(self) -> bool | None:
        """Called when the peer sends no more; return true to keep our side open."""

    def pause_writing(self) -> None:
        """Called when more than the high-water mark is unsent."""

    def resume_writing(self) -> None:
        """Called when no more than the low-water mark is."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Called once, last; exc is None after a graceful close."""


class LineProtocol(Protocol):
    """Base of line protocols, with Twisted's name for the one method to write."""

    transport: Connection

    def connection_made(self, transport: Connection) -> None:
        """Keep the transport."""
        self.transport = transport

    def line_received(self, line: Any) -> None:  # noqa: ANN401 - bytes, or str where the service has a text encoding
        """Called with each line, without its ending."""
        raise NotImplementedError

    def send_line(self, line: bytes | str) -> None:
        """Write a line with its ending."""
        self.transport.reply(line)
