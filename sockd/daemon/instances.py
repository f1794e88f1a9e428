# SPDX-License-Identifier: MIT
"""Services as they run, and the listeners in front of them: handlers, limits and totals of each."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from contextlib import ExitStack, suppress
from time import perf_counter
from typing import TYPE_CHECKING

from sockd.lazy import lazily
from sockd.net.connection.codec import make_codec
from sockd.net.connection.events import PassedEvents
from sockd.net.listen.network_overrides import NetworkOverrides
from sockd.net.listen.rate_overrides import RateOverrides
from sockd.services.families import TableKind
from sockd.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.daemon.metrics import Histogram
    from sockd.daemon.plan import ListenerPlan
    from sockd.daemon.programs import ProgramRunner
    from sockd.daemon.proxies import ProxyServers
    from sockd.net.address.address import Address
    from sockd.net.connect.reverse_dns import ReverseDns
    from sockd.net.connection.events import ConnectionEvents
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.listen import options
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.listen.listener import Listener
    from sockd.net.listen.overload import Quota, RejectedConnections, SpareDescriptor
    from sockd.net.loop.loop import EventLoop
    from sockd.net.loop.thread_pool import ThreadPool
    from sockd.services.handlers import packets
    from sockd.services.spec import ServiceSpec
    from sockd.settings.listen import ListenSettings

    Renew = Callable[[ServerSocket, ListenerPlan, "ServiceInstance"], tuple[Listener, "Renew"]]
else:
    options = lazily("sockd.net.listen.options", resident=True)
    packets = lazily("sockd.services.handlers.packets", resident=True)

logger = logging.getLogger("sockd.daemon")

ACCEPTS_A_TURN = 128
"""So that one listener's rush does not hold up the connections that are there."""


@dataclass
class ServiceInstance:
    """A service with the settings of one configuration."""

    spec: ServiceSpec
    sink: ConnectionEvents
    quota: Quota
    goodbye: bytes
    hooks: ExitStack = field(default_factory=ExitStack)
    groups: set[int] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    """Clients that its listeners have not served, by the reason; also by former configurations."""
    packets: ServiceInstance | None = None
    """The same service where sockets keep packets apart: all but the frames is shared."""
    stream: ServiceInstance | None = None
    """The one whose `packets` this is."""

    def on(self, listening: ServerSocket, make: Callable[[ServiceSpec], ServiceInstance]) -> ServiceInstance:
        """Return the instance whose frames are those of a socket: this one, or one that is made of a service."""
        stream = self.stream or self
        if listening.endpoint.type != socket.SOCK_SEQPACKET or not isinstance(self.spec.kind, TableKind):
            return stream
        if stream.packets is None:
            made = make(packets.packet_spec(stream.spec))
            made.hooks, made.groups, made.stream = stream.hooks, stream.groups, stream
            stream.packets = made
        return stream.packets


@dataclass(frozen=True, eq=False)
class ActiveListener:
    """A listening socket and its listener.

    Attributes:
        renew: makes the listener that goes on in its place and counts on, by other settings, and what renews that.
    """

    address: Address
    listening: ServerSocket
    plan: ListenerPlan
    run: ServiceInstance
    listener: Listener
    renew: Renew

    def __str__(self) -> str:
        return str(self.listening)

    def log_start(self) -> None:
        """Log that clients are accepted from now on."""
        event = {"address": str(self), "service": self.plan.service.name}
        event |= {"passed": self.listening.passed} if self.listening.passed else {}
        logger.info("listening", extra={"event": event})

    def descriptors(self, connections: ConnectionTable) -> int:
        """Count those of its connections in the table."""
        return sum(connections.groups.totals(one).open for one in self.listener.groups)

    def renew_options(self, before: ListenSettings) -> None:
        """Set the options of the socket by the settings now, where they were others before."""
        settings, sock = self.plan.settings, self.listening.socket
        if settings == before:
            return
        options.set_inherited(sock, self.listening.endpoint, settings)
        if self.listening.endpoint.type != socket.SOCK_DGRAM and settings.backlog != before.backlog:
            with suppress(OSError):  # it goes on with the old one
                sock.listen(settings.backlog)


@dataclass(frozen=True)
class Runtime:
    """What every listener is made with."""

    connections: ConnectionTable
    loop: EventLoop
    pool: ThreadPool
    resolver: ReverseDns
    executor: ProgramRunner
    forwarding: ProxyServers
    refusals: RejectedConnections
    reserve: SpareDescriptor
    capacity: int
    """How many connections this process has room for."""
    trace: bool = False
    """Log each frame."""
    accepts_a_turn: int = ACCEPTS_A_TURN
    network_overrides: NetworkOverrides = field(default_factory=NetworkOverrides)
    rate_overrides: RateOverrides = field(default_factory=RateOverrides)
    listener_limits: dict[str, int] = field(default_factory=dict)
    """Limits of connections that an administrator has set, by the address of the listener."""
    is_ahead: Callable[[], bool] | None = None
    """Whether other processes that accept from the same sockets should accept now; None if there are none."""

    @property
    def has_overrides(self) -> bool:
        """Whether an administrator has set something for which each new connection has to be looked at."""
        return bool(self.network_overrides.rows or self.rate_overrides.rows)

    def count(self) -> int:
        """Return how many connections and programs this process serves."""
        return len(self.connections) + len(self.executor) + len(self.forwarding)

    @property
    def is_at_work(self) -> bool:
        """Whether programs, forwarded connections, coroutines or threads are still running."""
        others = len(self.executor) + len(self.forwarding)
        return bool(others or self.connections.groups.at_work or self.pool.at_work or self.loop.unfinished)


def framed_goodbye(spec: ServiceSpec, connections: ConnectionTable) -> bytes:
    """Return the goodbye of a service, framed: what its connections are sent before a stop closes them."""
    return make_codec(spec.framing, connections, wire=False).encode(spec.goodbye) if spec.goodbye else b""


class TimedEvents(PassedEvents):
    """Passes all events to another sink, and measures every `every`-th call with frames.

    Args:
        sink: the service's.
        histogram: of seconds.
        every: 1 if all frames of a turn come in one call.
    """

    def __init__(self, sink: ConnectionEvents, histogram: Histogram, every: int) -> None:
        super().__init__(sink)
        self._histogram = histogram
        self._every = every
        self._left = 1
        self._frames = sink.frames

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Pass it on, and measure every so often."""
        self._left -= 1
        if self._left:
            self._frames(index, id, part, offset, size, count)
            return
        self._left = self._every
        began = perf_counter()
        self._frames(index, id, part, offset, size, count)
        self._histogram.observe(perf_counter() - began)


__all__ = ["ActiveListener", "Renew", "Runtime", "ServiceInstance", "TimedEvents", "framed_goodbye"]
