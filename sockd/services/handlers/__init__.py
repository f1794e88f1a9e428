# SPDX-License-Identifier: MIT
"""From a service as it will run to what the set of connections needs: its group, and the sink of its events."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sockd.net.connection.codec import codec_of
from sockd.net.connection.group import GroupOptions
from sockd.services.handlers.adapters import FunctionAdapter, ProtocolAdapter, ProtocolFactory
from sockd.services.handlers.batch import BatchHandler
from sockd.services.handlers.blocking import BlockingHandler
from sockd.services.handlers.connection import PerConnectionHandler
from sockd.services.handlers.function import sink_of as function_sink_of
from sockd.services.handlers.text import TextFactory
from sockd.services.handlers.trace import TracedConnection
from sockd.services.handlers.transport import Transport
from sockd.wire.framing import Line, Raw

if TYPE_CHECKING:
    from sockd.net.connection.codec import Codec
    from sockd.net.connection.events import ConnectionEvents
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.loop import EventLoop
    from sockd.net.loop.thread_pool import ThreadPool
    from sockd.services.spec import ServiceSpec
    from sockd.wire.framing import Framing


def needs_asyncio(spec: ServiceSpec) -> bool:
    """Tell whether a service's handler may ask for asyncio's loop."""
    return spec.session is not None or spec.is_async or _is_of_asyncio(spec)


def _is_of_asyncio(spec: ServiceSpec) -> bool:
    """Tell whether its protocol class can be one of asyncio's: none is where that was never imported."""
    return spec.protocol is not None and not spec.small and "asyncio" in sys.modules


def _framing_of(spec: ServiceSpec) -> Framing:
    """Return how the stream is cut in C: not at all, where that is decided for each connection or by its coroutine."""
    return Raw() if spec.session is not None or isinstance(spec.protocol, ProtocolFactory) else spec.framing


def group_of(spec: ServiceSpec) -> GroupOptions:
    """Return what the connections of a service have in common."""
    is_plain = spec.function is not None and not (spec.wants_connection or spec.blocking or spec.is_async)
    limits = spec.limits
    return GroupOptions(
        framing=_framing_of(spec),
        serve=spec.serve,
        merge=is_plain and not isinstance(spec.framing, Raw),
        announce=spec.has_connections,
        wire=_is_wire(spec),
        kept=spec.pages,
        is_queued=spec.session is not None,
        high_water=limits.high_water,
        max_buffer=limits.max_buffer,
        idle_timeout=limits.idle_timeout,
        frame_timeout=limits.frame_timeout,
        write_timeout=limits.write_timeout,
        linger_timeout=limits.linger_timeout,
    )


def _is_wire(spec: ServiceSpec) -> bool:
    """Tell whether lines are wanted as they came: a connection may go on by another framing, or is answered in kind."""
    in_kind = isinstance(spec.framing, Line) and spec.framing.ending == "same"
    return in_kind or spec.has_connections or spec.wants_connection


def sink_of(spec: ServiceSpec, connections: ConnectionTable, loop: EventLoop, pool: ThreadPool) -> ConnectionEvents:
    """Return what is told of the events of a service's connections; the pool is for those that block."""
    function, protocol = spec.function, spec.protocol
    codec = codec_of(_framing_of(spec), connections, wire=_is_wire(spec))
    if spec.blocking:
        return BlockingHandler(spec.name, spec.function, spec.batch, codec, connections, pool)
    if spec.batch is not None:
        return BatchHandler(spec.name, spec.batch, codec, connections)
    if spec.session is not None:
        return _session_sink_of(spec, connections, loop)
    if spec.is_async:
        return _async_sink_of(spec, codec, connections, loop)
    if protocol is None and not spec.wants_connection:
        return function_sink_of(spec.name, function or bytes, codec, connections)

    receiver_of = protocol.receiver_of if isinstance(protocol, TextFactory) else ProtocolAdapter

    def make() -> tuple[ProtocolAdapter | FunctionAdapter, object]:
        if protocol is not None:
            made = protocol()
            return receiver_of(made), made
        assert function is not None
        return FunctionAdapter(function), None

    framing = spec.framing if isinstance(protocol, ProtocolFactory) else None
    kind = _transport_of(spec)
    if isinstance(protocol, TextFactory):
        kind = protocol.transport_of(kind)
    high_water = spec.limits.high_water
    return PerConnectionHandler(spec.name, make, receiver_of, codec, high_water, connections, loop, kind, framing)


def _transport_of(spec: ServiceSpec) -> type[Transport]:
    """Return the class of a service's connections: one of asyncio's, where its handler can know the difference."""
    if not spec.is_async and not _is_of_asyncio(spec):
        return TracedConnection if spec.trace else Transport
    from sockd.services.handlers.asyncio_transport import AsyncioTransport

    if not spec.trace:
        return AsyncioTransport
    traced: Any = type("TracedConnection", (TracedConnection, AsyncioTransport), {"__slots__": ()})
    return traced  # type: ignore[no-any-return]


def _async_sink_of(spec: ServiceSpec, codec: Codec, connections: ConnectionTable, loop: EventLoop) -> ConnectionEvents:
    from sockd.net.loop.asyncio_loop import AsyncioLoop
    from sockd.services.handlers.async_function import AsyncFunctionHandler

    assert spec.function is not None
    assert isinstance(loop, AsyncioLoop)
    return AsyncFunctionHandler(
        spec.name,
        spec.function,
        codec,
        spec.limits.high_water,
        connections,
        loop,
        _transport_of(spec),
        wants_connection=spec.wants_connection,
        most_in_flight=spec.max_in_flight,
    )


def _session_sink_of(spec: ServiceSpec, connections: ConnectionTable, loop: EventLoop) -> ConnectionEvents:
    from sockd.net.loop.asyncio_loop import AsyncioLoop
    from sockd.services.handlers.coroutine import CoroutineHandler

    assert spec.session is not None
    assert isinstance(loop, AsyncioLoop)
    codec = codec_of(spec.framing, connections, wire=True)
    limits = spec.limits
    return CoroutineHandler(spec.name, spec.session, codec, limits.high_water, limits.frame_timeout, connections, loop)
