# SPDX-License-Identifier: MIT
"""What is to be served, as the daemon has it: resolved from settings, options and handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.values import dataclass

if TYPE_CHECKING:
    from sockd.net.connection.codec import Codec
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.loop import EventLoop
    from sockd.net.loop.thread_pool import ThreadPool
    from sockd.services.api import Hook, RestoreHook
    from sockd.services.kinds import Kind
    from sockd.settings.limits import Limits
    from sockd.wire.framing import Framing


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """A service as it will run: what all kinds have in common, every limit decided, and its kind.

    Attributes:
        kind: what serves, and with that everything in which services differ (sockd.services.kinds).
        startup, shutdown: called before the first byte, and after the last.
        snapshot, restore: of the state of its module, over a reload and an upgrade (sockd.services.module_state).
        goodbye: payload of the last frame before a stop ends a connection; empty for none.
        datagram_lines: each line of a datagram is a frame.
        trace: each frame is a line of the log.
    """

    name: str
    framing: Framing
    limits: Limits
    kind: Kind
    startup: tuple[Hook, ...] = ()
    shutdown: tuple[Hook, ...] = ()
    snapshot: Hook | None = None
    restore: RestoreHook | None = None
    goodbye: bytes = b""
    datagram_lines: bool = False
    trace: bool = False

    @property
    def max_connections(self) -> int | None:
        """How many connections may be served at once; None for no limit of the service."""
        return self.kind.max_connections(self.limits)

    @property
    def way(self) -> str:
        """How a service is spoken to: its kind and its framing; a connection moves to another process by the same."""
        return f"{self.kind.way} {self.framing!r}"


@dataclass(frozen=True)
class SinkTools:
    """What sinks are made with; `codec` is of the framing that the C core cuts by."""

    codec: Codec
    connections: ConnectionTable
    loop: EventLoop
    pool: ThreadPool


__all__ = ["ServiceSpec", "SinkTools"]
