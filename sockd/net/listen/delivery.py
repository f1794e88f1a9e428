# SPDX-License-Identifier: MIT
"""Where the connections of a listener go, and what all listeners of a process accept with."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from sockd.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sockd.net.connect.reverse_dns import ReverseDns
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.listen.handoff import Handoff
    from sockd.net.listen.network_overrides import NetworkOverrides
    from sockd.net.listen.overload import Quota, RejectedConnections, SpareDescriptor
    from sockd.net.listen.rate_overrides import RateOverrides
    from sockd.net.loop.loop import EventLoop
    from sockd.net.tls.context import TlsContext


class AcceptTools(Protocol):
    """What all listeners of a process accept with.

    Attributes:
        refusals: takes those that are not let in.
        reserve: the spare descriptor.
        resolver: asked for the names of clients where `names` is on.
        accepts_a_turn: so many before others have theirs.
        is_ahead: whether other processes had better accept now; None where there are none.
        network_overrides: which networks are denied or allowed whatever the rules are.
        rate_overrides: the rates of services that an administrator has set.
        listener_limits: likewise the limits of listeners, by their address.
        has_overrides: whether each connection has to be looked at because of the first two.
    """

    @property
    def connections(self) -> ConnectionTable: ...  # noqa: D102 - each is said above
    @property
    def loop(self) -> EventLoop: ...  # noqa: D102 - likewise
    @property
    def resolver(self) -> ReverseDns: ...  # noqa: D102 - likewise
    @property
    def refusals(self) -> RejectedConnections: ...  # noqa: D102 - likewise
    @property
    def reserve(self) -> SpareDescriptor: ...  # noqa: D102 - likewise
    @property
    def accepts_a_turn(self) -> int: ...  # noqa: D102 - likewise
    @property
    def is_ahead(self) -> Callable[[], bool] | None: ...  # noqa: D102 - likewise
    @property
    def network_overrides(self) -> NetworkOverrides: ...  # noqa: D102 - likewise
    @property
    def rate_overrides(self) -> RateOverrides: ...  # noqa: D102 - likewise
    @property
    def has_overrides(self) -> bool: ...  # noqa: D102 - likewise
    @property
    def listener_limits(self) -> Mapping[str, int]: ...  # noqa: D102 - likewise


@dataclass(frozen=True)
class ClientTexts:
    """What clients are sent by the listener itself.

    Attributes:
        greeting: to each that is let in, first.
        farewell: to each that is not, before the line that `banner` is.
    """

    greeting: bytes = b""
    farewell: bytes = b""


@dataclass(frozen=True)
class Delivery:
    """Where the connections of a listener go.

    Attributes:
        service: its name, for the log.
        quota: of the service.
        group: of the table, for what is accepted; this listener's own.
        handover: takes what is accepted in place of the table.
        tls: what handshakes are made with; None where connections are not encrypted.
        is_urgent: it accepts in each turn, whoever else is ready.
        refused: clients that the service's listeners have not served, by the reason.
        texts: see there.
    """

    service: str
    quota: Quota
    group: int
    handover: Handoff | None = None
    tls: TlsContext | None = None
    is_urgent: bool = False
    refused: Counter[str] = field(default_factory=Counter)
    texts: ClientTexts = ClientTexts()


__all__ = ["AcceptTools", "ClientTexts", "Delivery"]
