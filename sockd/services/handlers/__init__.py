# SPDX-License-Identifier: MIT
"""From a service as it will run to what the set of connections needs: its group, and the sink of its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.connection.codec import codec_of
from sockd.net.connection.connection import Connection
from sockd.net.connection.group import GroupOptions
from sockd.services.handlers.adapters import FunctionAdapter, ProtocolAdapter
from sockd.services.handlers.batch import BatchHandler
from sockd.services.handlers.blocking import BlockingHandler
from sockd.services.handlers.connection import PerConnectionHandler
from sockd.services.handlers.function import sink_of as function_sink_of
from sockd.services.handlers.trace import TracedConnection
from sockd.wire.framing import Line, Raw

if TYPE_CHECKING:
    from sockd.net.connection.codec import Codec
    from sockd.net.connection.events import ConnectionEvents
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.loop import EventLoop
    from sockd.net.loop.thread_pool import ThreadPool
    from sockd.services.spec import ServiceSpec


def group_of(spec: ServiceSpec) -> GroupOptions:
    """Return what the connections of a service have in common."""
    is_plain = spec.function is not None and not spec.wants_connection and not spec.blocking
    limits = spec.limits
    return GroupOptions(
        framing=spec.framing,
        serve=spec.serve,
        merge=is_plain and not isinstance(spec.framing, Raw),
        announce=spec.has_connections,
        wire=_is_wire(spec),
        kept=spec.pages,
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
    return in_kind or spec.protocol is not None or spec.session is not None or spec.wants_connection


def sink_of(spec: ServiceSpec, connections: ConnectionTable, loop: EventLoop, pool: ThreadPool) -> ConnectionEvents:
    """Return what is told of the events of a service's connections; the pool is for those that block."""
    function, protocol = spec.function, spec.protocol
    codec = codec_of(spec.framing, connections, wire=_is_wire(spec))
    if spec.blocking:
        return BlockingHandler(spec.name, spec.function, spec.batch, codec, connections, pool)
    if spec.batch is not None:
        return BatchHandler(spec.name, spec.batch, codec, connections)
    if spec.session is not None:
        return _session_sink_of(spec, codec, connections, loop)
    if protocol is None and not spec.wants_connection:
        return function_sink_of(spec.name, function or bytes, codec, connections)

    def make() -> tuple[ProtocolAdapter | FunctionAdapter, object]:
        if protocol is not None:
            made = protocol()
            return ProtocolAdapter(made), made
        assert function is not None
        return FunctionAdapter(function), None

    kind = TracedConnection if spec.trace else Connection
    return PerConnectionHandler(
        spec.name, make, ProtocolAdapter, codec, spec.limits.high_water, connections, loop, kind
    )


def _session_sink_of(
    spec: ServiceSpec, codec: Codec, connections: ConnectionTable, loop: EventLoop
) -> ConnectionEvents:
    from sockd.net.loop.asyncio_loop import AsyncioLoop
    from sockd.services.handlers.coroutine import CoroutineHandler

    assert spec.session is not None
    assert isinstance(loop, AsyncioLoop)
    return CoroutineHandler(spec.name, spec.session, codec, spec.limits.high_water, connections, loop)
