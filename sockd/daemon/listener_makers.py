# SPDX-License-Identifier: MIT
"""Makes the listener of a socket: of the kind that its type and its service want, and again by other settings."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, assert_never

from sockd.lazy import lazily
from sockd.services.families import ProxyKind, TableKind, WaitKind
from sockd.services.given_kinds import ExecKind, TcpmuxKind
from sockd.services.handlers import group_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.daemon.instances import Renew, Runtime, ServiceInstance
    from sockd.daemon.plan import ListenerPlan
    from sockd.net.listen import delivery
    from sockd.net.listen import stream_listener as streams
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.listen.handoff import Handoff
    from sockd.net.listen.listener import Listener
    from sockd.net.listen.stream_listener import StreamListener
    from sockd.net.udp import listener as udp
    from sockd.net.udp import rules as udp_rules
    from sockd.net.udp.listener import DatagramListener
    from sockd.services.exec import tcpmux, wait_listener
    from sockd.services.exec.wait_listener import WaitListener
    from sockd.services.handlers import datagrams
    from sockd.services.spec import ServiceSpec
else:
    delivery = lazily("sockd.net.listen.delivery")
    streams = lazily("sockd.net.listen.stream_listener")
    udp = lazily("sockd.net.udp.listener")
    udp_rules = lazily("sockd.net.udp.rules")
    tcpmux = lazily("sockd.services.exec.tcpmux")
    wait_listener = lazily("sockd.services.exec.wait_listener")
    datagrams = lazily("sockd.services.handlers.datagrams")


class ListenerMakers:
    """One maker for each kind of listener.

    Args:
        tools: what every listener is made with.
        died: called with a socket that another process has shut down.
    """

    def __init__(self, tools: Runtime, died: Callable[[ServerSocket], None]) -> None:
        self._tools = tools
        self._died = died

    def first(self, listening: ServerSocket, spec: ServiceSpec) -> Renew:
        """Return what makes the first listener on a socket."""
        if spec.kind.shares_socket:
            return partial(self._waiting, None)
        kind = self._datagrams if listening.endpoint.type == socket.SOCK_DGRAM else self._streams
        return partial(kind, None)

    def _datagrams(
        self, former: DatagramListener | None, listening: ServerSocket, plan: ListenerPlan, run: ServiceInstance
    ) -> tuple[Listener, Renew]:
        tools, spec = self._tools, plan.service
        rules = udp_rules.DatagramRules(
            plan.settings, tools.loop.clock, small=spec.kind.is_small, overrides=tools.network_overrides
        )
        pool = tools.pool if spec.kind.needs_threads else None
        died = partial(self._died, listening)
        answer = spec.kind.datagram(datagrams.DatagramCodec(spec.framing, by_line=spec.datagram_lines))
        one = udp.DatagramListener(listening, answer, tools.loop, spec.name, rules, former, pool, died)
        return one, partial(self._datagrams, one)

    def _waiting(
        self, former: WaitListener | None, listening: ServerSocket, plan: ListenerPlan, run: ServiceInstance
    ) -> tuple[Listener, Renew]:
        tools, spec = self._tools, plan.service
        assert isinstance(spec.kind, WaitKind)  # a reload that changes that is refused
        service = tools.executor.service(spec.name, spec.kind.program, tools.resolver.known)
        died = partial(self._died, listening)
        one = wait_listener.WaitListener(
            listening, service, tools.loop, plan.settings, run.refused, former=former, died=died
        )
        return one, partial(self._waiting, one)

    def _streams(
        self, former: StreamListener | None, listening: ServerSocket, plan: ListenerPlan, run: ServiceInstance
    ) -> tuple[Listener, Renew]:
        tools, spec = self._tools, plan.service
        group = tools.connections.groups.add(group_options(run.spec), run.sink)
        run.groups.add(group)
        owner, urgent = self._handover(plan), spec.kind.is_pages
        place = delivery.Delivery(spec.name, run.quota, group, owner, plan.tls, urgent, run.refused, plan.texts)
        died = partial(self._died, listening)
        one = streams.StreamListener(listening, plan.settings, place, tools, former=former, died=died)
        return one, partial(self._streams, one)

    def _handover(self, plan: ListenerPlan) -> Handoff | None:
        """Return the owner of the connections of a service without rows in the table."""
        tools, names, spec = self._tools, plan.settings.names, plan.service
        match spec.kind:
            case TableKind() | WaitKind():
                return None
            case TcpmuxKind():
                server = tools.executor.tcpmux(spec.name, spec.kind, tools.resolver, tools.refusals)
                return tcpmux.TcpmuxHandoff(server, tools.resolver if names else None)
            case ExecKind(program=program):
                return tools.executor.handover(spec.name, program, tools.resolver, names=names)
            case ProxyKind():
                return tools.forwarding.handover(spec, spec.kind, tools.resolver, names=names)
            case _:
                assert_never(spec.kind)


__all__ = ["ListenerMakers"]
