"""From a service as it will run to what the set of connections needs: its group, and the sink of its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.connection_set import Group
from sockd.net.connection_sink import ConnectionSink
from sockd.services.batch import BatchSink
from sockd.services.function import FunctionSink
from sockd.services.receiver import FunctionReceiver, ProtocolReceiver
from sockd.wire.framing import Line

if TYPE_CHECKING:
    from sockd.net.connection_set import ConnectionSet, Sink
    from sockd.net.loop import EventLoop
    from sockd.services.service import ServiceSpec


def group_of(spec: ServiceSpec) -> Group:
    """Return what the connections of a service have in common."""
    is_plain = spec.function is not None and not spec.wants_connection
    limits = spec.limits
    return Group(
        framing=spec.framing,
        serve=spec.serve,
        merge=is_plain and isinstance(spec.framing, Line),
        announce=not is_plain and spec.batch is None and not spec.serve,
        high_water=limits.high_water,
        max_buffer=limits.max_buffer,
        idle_timeout=limits.idle_timeout,
        frame_timeout=limits.frame_timeout,
        write_timeout=limits.write_timeout,
        linger_timeout=limits.linger_timeout,
    )


def sink_of(spec: ServiceSpec, connections: ConnectionSet, loop: EventLoop) -> Sink:
    """Return what is told of the events of a service's connections."""
    function, protocol = spec.function, spec.protocol
    if spec.batch is not None:
        return BatchSink(spec.name, spec.batch, spec.framing, connections)
    if protocol is None and not spec.wants_connection:
        return FunctionSink(spec.name, function or bytes, spec.framing, connections)

    def make() -> tuple[ProtocolReceiver | FunctionReceiver, object]:
        if protocol is not None:
            made = protocol()
            return ProtocolReceiver(made), made
        assert function is not None
        return FunctionReceiver(function), None

    return ConnectionSink(spec.name, make, ProtocolReceiver, spec.framing, spec.limits.high_water, connections, loop)
