# SPDX-License-Identifier: MIT
"""What sinks are made with, and the sinks of what is made for each connection: protocols, functions of two arguments.

Which class its connections are depends on the handler: one of asyncio's can know the difference, and with --trace
each shows what passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sockd.services.handlers.adapters import FunctionAdapter, ProtocolAdapter, ProtocolFactory
from sockd.services.handlers.connection import PerConnectionHandler
from sockd.services.handlers.policy import PolicyHandler
from sockd.services.handlers.text import TextFactory
from sockd.services.handlers.trace import TracedConnection
from sockd.services.handlers.transport import Transport
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection.codec import Codec
    from sockd.net.connection.events import FrameProtocol
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.loop import EventLoop
    from sockd.net.loop.thread_pool import ThreadPool
    from sockd.services.api import Reply
    from sockd.services.handlers.policy import FramePolicy
    from sockd.services.spec import ServiceSpec
    from sockd.wire.framing import Framing


@dataclass(frozen=True)
class SinkTools:
    """What sinks are made with; `codec` is of the framing that the C core cuts by."""

    codec: Codec
    connections: ConnectionTable
    loop: EventLoop
    pool: ThreadPool


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

    made = _made(spec, make, ProtocolAdapter, tools, transport_class(spec), policy)
    made.handler = function
    return made


def protocol_handler(
    spec: ServiceSpec, protocol: Callable[[], object], tools: SinkTools, policy: FramePolicy | None = None
) -> PerConnectionHandler:
    """Serve each connection by an object of its own."""
    make_receiver = protocol.make_receiver if isinstance(protocol, TextFactory) else ProtocolAdapter

    def make() -> tuple[ProtocolAdapter, object]:
        made = protocol()
        return make_receiver(made), made

    kind = transport_class(spec)
    if isinstance(protocol, TextFactory):
        kind = protocol.text_transport(kind)
    framing = spec.framing if isinstance(protocol, ProtocolFactory) else None
    return _made(spec, make, make_receiver, tools, kind, policy, framing)


def _made(
    spec: ServiceSpec,
    make: Callable[[], tuple[FrameProtocol, Any]],
    make_receiver: Callable[[Any], FrameProtocol],
    tools: SinkTools,
    kind: type[Transport],
    policy: FramePolicy | None,
    framing: Framing | None = None,
) -> PerConnectionHandler:
    parts = (make, make_receiver, tools.codec, spec.limits.high_water, tools.connections, tools.loop, kind, framing)
    if policy is None:
        return PerConnectionHandler(spec.name, *parts)
    return PolicyHandler(spec.name, *parts, policy=policy, framing=spec.framing)


def transport_class(spec: ServiceSpec) -> type[Transport]:
    """Return the class of a service's connections: one of asyncio's, where its handler can know the difference."""
    if not spec.kind.may_use_asyncio:
        return TracedConnection if spec.trace else Transport
    from sockd.services.handlers.asyncio_transport import AsyncioTransport

    if not spec.trace:
        return AsyncioTransport
    traced: Any = type("TracedConnection", (TracedConnection, AsyncioTransport), {"__slots__": ()})
    return traced  # type: ignore[no-any-return]  # type() tells nothing


__all__ = ["SinkTools", "function_handler", "protocol_handler", "transport_class"]
