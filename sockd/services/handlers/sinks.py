# SPDX-License-Identifier: MIT
"""What sinks are made with, and the sinks of what is made for each connection: protocols, functions of two arguments.

Which class its connections are depends on the handler: one of asyncio's can know the difference, and with --trace
each shows what passes.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from sockd.lazy import lazily
from sockd.services.handlers.adapters import FunctionAdapter, ProtocolAdapter, ProtocolFactory
from sockd.services.handlers.connection import ConnectionFactory, PerConnectionHandler
from sockd.services.handlers.policy import Ended, PolicyHandler
from sockd.services.handlers.text import TextFactory
from sockd.services.handlers.trace import TracedConnection
from sockd.services.handlers.transport import Transport
from sockd.wire.framing import Packet

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.services.api import Reply
    from sockd.services.handlers import asyncio_transport, packets
    from sockd.services.handlers.policy import FramePolicy
    from sockd.services.spec import ServiceSpec, SinkTools
else:
    packets = lazily("sockd.services.handlers.packets", resident=True)
    asyncio_transport = lazily("sockd.services.handlers.asyncio_transport", only_with="asyncio")


def function_handler(
    spec: ServiceSpec,
    function: Callable[..., Reply],
    tools: SinkTools,
    policy: FramePolicy | None = None,
    *,
    wants_connection: bool = True,
) -> PerConnectionHandler:
    """Serve each connection by a function that gets it as its second argument, or that has a policy about frames."""
    called = function if wants_connection else lambda frame, _: function(frame)

    def make() -> tuple[FunctionAdapter, None]:
        return FunctionAdapter(called), None

    factory = ConnectionFactory(transport_class(spec), spec.limits.high_water, make, ProtocolAdapter)
    made = _per_connection(spec, factory, tools, policy)
    made.handler = function
    return made


def protocol_handler(
    spec: ServiceSpec, protocol: Callable[[], object], tools: SinkTools, policy: FramePolicy | None = None
) -> PerConnectionHandler:
    """Serve each connection by an object of its own."""
    make_receiver = protocol.make_receiver if isinstance(protocol, TextFactory) else ProtocolAdapter

    @functools.wraps(getattr(protocol, "make", protocol), assigned=(), updated=())  # a failure is at its definition
    def make() -> tuple[ProtocolAdapter, object]:
        made = protocol()
        return make_receiver(made), made

    kind = transport_class(spec)
    if isinstance(protocol, TextFactory):
        kind = protocol.text_transport(kind)
    framing = spec.framing if isinstance(protocol, ProtocolFactory) and not isinstance(spec.framing, Packet) else None
    factory = ConnectionFactory(kind, spec.limits.high_water, make, make_receiver, framing)
    return _per_connection(spec, factory, tools, policy)


def _per_connection(
    spec: ServiceSpec, factory: ConnectionFactory, tools: SinkTools, policy: FramePolicy | None
) -> PerConnectionHandler:
    if policy is None or not isinstance(spec.framing, Ended):
        return PerConnectionHandler(spec.name, factory, tools)
    return PolicyHandler(spec.name, factory, tools, policy, spec.framing)


def transport_class(spec: ServiceSpec) -> type[Transport]:
    """Return the class of a service's connections: one of asyncio's, where its handler can know the difference."""
    kind: type[Transport] = TracedConnection if spec.trace else Transport
    if spec.kind.may_use_asyncio:
        kind = asyncio_transport.TracedAsyncioTransport if spec.trace else asyncio_transport.AsyncioTransport
    return packets.packet_transport(kind) if isinstance(spec.framing, Packet) else kind


__all__ = ["function_handler", "protocol_handler", "transport_class"]
