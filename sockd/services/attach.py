"""From a service as it will run to what the set of connections needs: its group, and the sink of its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.codec import codec_of
from sockd.net.connection_set import Group
from sockd.net.connection_sink import ConnectionSink
from sockd.services.batch import BatchSink
from sockd.services.function import sink_of as function_sink_of
from sockd.services.receiver import FunctionReceiver, ProtocolReceiver
from sockd.wire.framing import Line, Raw

if TYPE_CHECKING:
    from sockd.net.connection_set import ConnectionSet, Sink
    from sockd.net.loop import EventLoop
    from sockd.services.service import ServiceSpec


def group_of(spec: ServiceSpec) -> Group:
    """Return what the connections of a service have in common."""
    is_plain = spec.function is not None and not spec.wants_connection
    has_connections = not is_plain and spec.batch is None and not spec.serve
    limits = spec.limits
    return Group(
        framing=spec.framing,
        serve=spec.serve,
        merge=is_plain and not isinstance(spec.framing, Raw),
        announce=has_connections,
        wire=_is_wire(spec),
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
    return in_kind or spec.protocol is not None or spec.wants_connection


def sink_of(spec: ServiceSpec, connections: ConnectionSet, loop: EventLoop) -> Sink:
    """Return what is told of the events of a service's connections."""
    function, protocol = spec.function, spec.protocol
    codec = codec_of(spec.framing, connections, wire=_is_wire(spec))
    if spec.batch is not None:
        return BatchSink(spec.name, spec.batch, codec, connections)
    if protocol is None and not spec.wants_connection:
        return function_sink_of(spec.name, function or bytes, codec, connections)

    def make() -> tuple[ProtocolReceiver | FunctionReceiver, object]:
        if protocol is not None:
            made = protocol()
            return ProtocolReceiver(made), made
        assert function is not None
        return FunctionReceiver(function), None

    return ConnectionSink(spec.name, make, ProtocolReceiver, codec, spec.limits.high_water, connections, loop)
