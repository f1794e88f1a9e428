# SPDX-License-Identifier: MIT
"""From a service as it will run to what the connection table needs: its group, and the sink of its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.connection.codec import make_codec
from sockd.net.connection.group import GroupOptions
from sockd.services.spec import SinkTools
from sockd.wire.framing import Line, Packet

if TYPE_CHECKING:
    from sockd.net.connection.events import ConnectionEvents
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.loop import EventLoop
    from sockd.net.loop.thread_pool import ThreadPool
    from sockd.services.spec import ServiceSpec


def group_options(spec: ServiceSpec) -> GroupOptions:
    """Return what the connections of a service have in common."""
    kind, limits = spec.kind, spec.limits
    return GroupOptions(
        framing=kind.core_framing(spec.framing),
        serve=0 if isinstance(spec.framing, Packet) else kind.core,
        merge=kind.merges(spec.framing),
        announce=kind.speaks,
        wire=_is_wire(spec),
        kept=kind.is_pages,
        is_queued=kind.is_queued,
        high_water=limits.high_water,
        max_buffer=limits.max_buffer,
        idle_timeout=limits.idle_timeout,
        frame_timeout=limits.frame_timeout,
        write_timeout=limits.write_timeout,
        linger_timeout=limits.linger_timeout,
    )


def _is_wire(spec: ServiceSpec) -> bool:
    """Return whether lines keep their line ending: a connection may change its framing, or replies repeat the
    client's ending.
    """
    return spec.kind.speaks or (isinstance(spec.framing, Line) and spec.framing.ending == "same")


def make_sink(spec: ServiceSpec, connections: ConnectionTable, loop: EventLoop, pool: ThreadPool) -> ConnectionEvents:
    """Return the sink for a service's connections; the pool is for blocking handlers."""
    codec = make_codec(spec.kind.core_framing(spec.framing), connections, wire=_is_wire(spec))
    return spec.kind.sink(spec, SinkTools(codec, connections, loop, pool))


__all__ = ["group_options", "make_sink"]
