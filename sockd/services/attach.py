"""From a service as it will run to what the set of connections needs: its group, and the sink of its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.codec import codec_of
from sockd.net.connection import Connection
from sockd.net.connection_sink import ConnectionSink
from sockd.net.group import Group
from sockd.services.batch import BatchSink
from sockd.services.blocking import BlockingSink
from sockd.services.function import sink_of as function_sink_of
from sockd.services.receiver import FunctionReceiver, ProtocolReceiver
from sockd.services.trace import TracedConnection
from sockd.wire.framing import Line, Raw

if TYPE_CHECKING:
    from sockd.net.codec import Codec
    from sockd.net.connection_set import ConnectionSet
    from sockd.net.loop import EventLoop
    from sockd.net.sink import Sink
    from sockd.services.pool import Pool
    from sockd.services.service import ServiceSpec


def group_of(spec: ServiceSpec) -> Group:
    """Return what the connections of a service have in common."""
    is_plain = spec.function is not None and not spec.wants_connection and not spec.blocking
    limits = spec.limits
    return Group(
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


def sink_of(spec: ServiceSpec, connections: ConnectionSet, loop: EventLoop, pool: Pool) -> Sink:
    """Return what is told of the events of a service's connections; the pool is for those that block."""
    function, protocol = spec.function, spec.protocol
    codec = codec_of(spec.framing, connections, wire=_is_wire(spec))
    if spec.blocking:
        return BlockingSink(spec.name, spec.function, spec.batch, codec, connections, pool)
    if spec.batch is not None:
        return BatchSink(spec.name, spec.batch, codec, connections)
    if spec.session is not None:
        return _session_sink_of(spec, codec, connections, loop)
    if protocol is None and not spec.wants_connection:
        return function_sink_of(spec.name, function or bytes, codec, connections)

    def make() -> tuple[ProtocolReceiver | FunctionReceiver, object]:
        if protocol is not None:
            made = protocol()
            return ProtocolReceiver(made), made
        assert function is not None
        return FunctionReceiver(function), None

    kind = TracedConnection if spec.trace else Connection
    return ConnectionSink(spec.name, make, ProtocolReceiver, codec, spec.limits.high_water, connections, loop, kind)


def _session_sink_of(spec: ServiceSpec, codec: Codec, connections: ConnectionSet, loop: EventLoop) -> Sink:
    from sockd.net.asyncio_loop import AsyncioLoop
    from sockd.services.session import SessionSink

    assert spec.session is not None
    assert isinstance(loop, AsyncioLoop)
    return SessionSink(spec.name, spec.session, codec, spec.limits.high_water, connections, loop)
