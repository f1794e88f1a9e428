"""The composition root: settings in, a serving process out.

Start-up has an order that nothing goes round: everything is resolved and
imported, then everything is bound, then the first byte is received.  Stopping
is its mirror: listen no more, answer what has come, close in order, within a
bound.
"""

from __future__ import annotations

import logging
import resource
import signal
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, HandlerError
from sockd.net import selector
from sockd.net.address import Address
from sockd.net.connection import ConnectionSink
from sockd.net.connection_set import ConnectionSet, Group, Sink
from sockd.net.datagram import DatagramListener
from sockd.net.datagram_rules import DatagramRules
from sockd.net.listener import Listener, Quota, Refusals
from sockd.net.loop import EventLoop
from sockd.net.reserve import Reserve
from sockd.net.resolver import Resolver
from sockd.net.sockets import open_listener
from sockd.process.signals import Signals
from sockd.services import registry
from sockd.services.builtin import DISCARD
from sockd.services.function import FunctionSink
from sockd.services.receiver import FunctionReceiver, ProtocolReceiver
from sockd.wire.framing import Line, Raw
from sockd.wire.state import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.net.sockets import Listening
    from sockd.services.service import ServiceSpec
    from sockd.settings import ListenSettings, Settings

logger = logging.getLogger("sockd.daemon")

OWN_DESCRIPTORS = 64
"""Kept free of connections: listeners, logs, what handlers open."""
SELECT_DESCRIPTORS = 1024
"""FD_SETSIZE of select(2); a descriptor past it cannot be waited for, so none is opened, by handlers neither."""

REFUSED = Group(
    framing=Raw(),
    serve=DISCARD,
    merge=False,
    announce=False,
    high_water=65_536,
    max_buffer=65_536,
    idle_timeout=1,
    frame_timeout=1,
    write_timeout=1,
    linger_timeout=1,
)
"""For connections that are not let in: a second to take the banner, and to be told apart from a reset."""
REFUSED_SHARE = 8
"""One connection in so many may be of those that are being refused; a source that is past its limit fills no more."""


@dataclass(frozen=True)
class Plan:
    """One [[listen]], resolved: its addresses and its service."""

    settings: ListenSettings
    addresses: tuple[Address, ...]
    service: ServiceSpec


def plan(settings: Settings) -> list[Plan]:
    """Resolve every service and address; nothing is bound.

    Raises:
        ConfigurationError: a handler cannot be imported or is none, an address
            is not well formed, or a service cannot answer datagrams.
    """
    specs: dict[str, ServiceSpec] = {}
    plans = []
    for listen in settings.listen:
        if listen.service not in specs:
            specs[listen.service] = registry.resolve(listen.service, settings.service)
        texts = listen.addresses or ((listen.address,) if listen.address else ())
        addresses = tuple(Address.parse(text) for text in texts)
        spec = specs[listen.service]
        for address in addresses:
            if address.scheme in ("udp", "unixgram") and spec.datagram is None:
                raise HandlerError(
                    f"{address}: service {spec.name} cannot answer datagrams; a function of one argument can"
                )
        plans.append(Plan(listen, addresses, spec))
    return plans


class Daemon:
    """Serves settings until it is told to stop.

    Args:
        settings: checked.
        ready: called with (address, service) of every listener once all are bound.
    """

    def __init__(self, settings: Settings, ready: Callable[[Sequence[tuple[str, str]]], None]) -> None:
        self._settings = settings
        self._ready = ready
        self._listeners: list[Listener | DatagramListener] = []
        self._stopping = False
        self._at_once = False

    def run(self) -> None:
        """Bind, serve, and return once everything is closed.

        Raises:
            ConfigurationError: as plan().
            SystemFault, PermissionFault, TemporaryFault: an address cannot be bound.
        """
        plans = plan(self._settings)
        with ExitStack() as stack:
            bound = self._bind(plans, stack)
            self._build(stack)
            self._attach(bound, stack)
            for listener in self._listeners:
                listener.start()
                logger.info("listening", extra={"event": {"address": str(listener), "service": listener.service}})
            self._ready([(str(listener), listener.service) for listener in self._listeners])
            self._loop.run()
            self._drain()

    # ---- start

    def _bind(self, plans: list[Plan], stack: ExitStack) -> list[tuple[Listening, Plan]]:
        bound = []
        for one in plans:
            for address in one.addresses:
                for listening in open_listener(address, one.settings):
                    stack.callback(listening.close)
                    bound.append((listening, one))
        return bound

    def _build(self, stack: ExitStack) -> None:
        name = self._settings.daemon.multiplexer
        self._capacity = self._room()
        self._connections = ConnectionSet(
            size=self._capacity, memory=self._settings.daemon.max_memory, epoll=selector.waits_in_set(name)
        )
        stack.callback(self._connections.close)
        chosen = selector.choose(name, self._connections)
        stack.callback(chosen.close)
        self._loop = EventLoop(chosen, time.monotonic)
        stack.callback(self._loop.close)
        self._resolver = Resolver(self._loop)
        stack.callback(self._resolver.close)
        self._connections.name_of = self._resolver.known
        signals = Signals({signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGQUIT: self._stop_at_once})
        stack.callback(signals.close)
        signals.install()
        self._loop.add_reader(signals.fileno(), signals.handle)

    def _room(self) -> int:
        """Return max_connections, or what select(2) can wait for."""
        wanted = self._settings.daemon.max_connections
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        selects = self._settings.daemon.multiplexer == "select"
        soft = SELECT_DESCRIPTORS if selects and not 0 <= hard < SELECT_DESCRIPTORS else hard  # RLIM_INFINITY is -1
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        own = OWN_DESCRIPTORS + sum(len(listen.addresses) or 1 for listen in self._settings.listen)
        if hard != resource.RLIM_INFINITY and hard < wanted + own:
            event = {"max_connections": wanted, "descriptors": hard, "own": own}
            logger.warning("fewer descriptors than max_connections may need", extra={"event": event})
        if not selects or wanted + own <= SELECT_DESCRIPTORS:
            return wanted
        if own >= SELECT_DESCRIPTORS:
            raise ConfigurationError(
                f'daemon.multiplexer: "select" waits for {SELECT_DESCRIPTORS} descriptors (FD_SETSIZE), '
                f"{own - OWN_DESCRIPTORS} listeners leave none for a connection; use auto, epoll or poll"
            )
        event = {"max_connections": wanted, "connections": SELECT_DESCRIPTORS - own, "descriptors": SELECT_DESCRIPTORS}
        logger.warning("select() cannot wait for as many connections; use another multiplexer", extra={"event": event})
        return SELECT_DESCRIPTORS - own

    def _attach(self, bound: list[tuple[Listening, Plan]], stack: ExitStack) -> None:
        reserve = Reserve()
        stack.callback(reserve.close)
        refusals = Refusals(self._connections, REFUSED, max(1, self._capacity // REFUSED_SHARE))
        sinks: dict[int, tuple[Sink, Quota]] = {}
        for listening, one in bound:
            spec = one.service
            if listening.endpoint.type == socket.SOCK_DGRAM:
                assert spec.datagram is not None
                rules = DatagramRules(one.settings, self._loop.clock, small=bool(spec.serve))
                self._listeners.append(DatagramListener(listening, spec.datagram, self._loop, spec.name, rules))
                continue
            if id(spec) not in sinks:
                sinks[id(spec)] = self._sink(spec), Quota(spec.limits.max_connections)
            sink, quota = sinks[id(spec)]
            self._listeners.append(
                Listener(
                    listening,
                    one.settings,
                    connections=self._connections,
                    group=self._add_group(spec, sink),
                    refusals=refusals,
                    quota=quota,
                    reserve=reserve,
                    loop=self._loop,
                    resolver=self._resolver,
                    service=spec.name,
                )
            )

    def _add_group(self, spec: ServiceSpec, sink: Sink) -> int:
        plain = spec.function is not None and not spec.wants_connection
        group = Group(
            framing=spec.framing,
            serve=spec.serve,
            merge=plain and isinstance(spec.framing, Line),
            announce=not plain and not spec.serve,
            high_water=spec.limits.high_water,
            max_buffer=spec.limits.max_buffer,
            idle_timeout=spec.limits.idle_timeout,
            frame_timeout=spec.limits.frame_timeout,
            write_timeout=spec.limits.write_timeout,
            linger_timeout=spec.limits.linger_timeout,
        )
        return self._connections.add_group(group, sink)

    def _sink(self, spec: ServiceSpec) -> Sink:
        function, protocol = spec.function, spec.protocol
        if protocol is None and not spec.wants_connection:
            return FunctionSink(spec.name, function or bytes, spec.framing, self._connections)

        def make() -> ProtocolReceiver | FunctionReceiver:
            if protocol is not None:
                return ProtocolReceiver(protocol())
            assert function is not None
            return FunctionReceiver(function)

        return ConnectionSink(
            spec.name, make, spec.framing, spec.limits.high_water, self._connections, self._loop.call_soon
        )

    # ---- stop

    def _stop(self) -> None:
        """Stop in order; the second time, at once."""
        if self._stopping:
            self._stop_at_once()
        self._stopping = True
        self._loop.stop()

    def _stop_at_once(self) -> None:
        self._at_once = True
        self._loop.stop()

    def _drain(self) -> None:
        """Close the listeners, answer what was accepted, close in order, within stop_timeout."""
        logger.info("stopping", extra={"event": {"connections": len(self._connections)}})
        for listener in self._listeners:
            listener.close()
        end = self._loop.clock() + self._settings.daemon.stop_timeout
        half = end - self._settings.daemon.stop_timeout / 2
        while not self._at_once and self._loop.clock() < half and self._connections.shut_quiet(CloseReason.SHUTDOWN):
            self._turn(min(half, self._loop.clock() + 0.05))
        self._connections.shut_all(CloseReason.SHUTDOWN)
        while not self._at_once and self._loop.clock() < end and len(self._connections):
            self._turn(end)
        left = len(self._connections)
        logger.info("stopped", extra={"event": {"connections_left": left} if left else {}})

    def _turn(self, until: float) -> None:
        self._loop.run_once(max(0.0, until - self._loop.clock()))
