# SPDX-License-Identifier: MIT
"""The kinds of services that give their connections, or their socket, away: to programs, relays and SOCKS servers.

Each says in one place all in which it differs, as those of sockd.services.kinds do, which has the union of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.lazy import lazily
from sockd.services.families import ExecutingKind, ProgramKind, ProxyKind, WaitKind
from sockd.services.spec import ServiceSpec
from sockd.settings.limits import decided
from sockd.settings.relay import DEFAULT_MAX_RELAYED
from sockd.settings.socks import DEFAULT_MAX_CLIENTS
from sockd.values import dataclass, replace
from sockd.wire.framing import Raw

if TYPE_CHECKING:
    from sockd.process.program import Identity
    from sockd.services.exec import program
    from sockd.services.exec.program import Program
    from sockd.services.kinds import Kind
    from sockd.settings import RelaySettings, SocksSettings
    from sockd.settings.limits import Limits
    from sockd.settings.service import ServiceSettings
    from sockd.settings.tcpmux import TcpmuxName
else:
    program = lazily("sockd.services.exec.program")

DEFAULT_MAX_CONNECTIONS = 256
"""Of tcpmux: clients that send their line, and running programs, each of which has its own max_instances besides."""


@dataclass(frozen=True)
class WaitExecKind(WaitKind):
    """A program for the socket itself, as inetd's wait has it."""

    program: Program
    key = "exec"
    way = "program wait"
    answers_datagrams = True

    def max_connections(self, limits: Limits) -> int | None:
        """See ServiceKind."""
        return self.program.max_instances

    def running_as(self, identity: Identity | None, login: tuple[str, ...]) -> Kind:
        """See ExecutingKind."""
        return replace(self, program=replace(self.program, identity=identity, login=login))


@dataclass(frozen=True)
class ExecKind(ExecutingKind, ProgramKind):
    """A program for each connection, as inetd's nowait has it."""

    program: Program
    key = "exec"
    way = "program"
    instead = "a program gets datagrams only with wait = true: then it gets the socket itself"

    def max_connections(self, limits: Limits) -> int | None:
        """See ServiceKind."""
        return self.program.max_instances

    def running_as(self, identity: Identity | None, login: tuple[str, ...]) -> Kind:
        """See ExecutingKind."""
        return replace(self, program=replace(self.program, identity=identity, login=login))

    @classmethod
    def spec(cls, name: str, table: ServiceSettings) -> ServiceSpec:
        """See ServiceKind: `wait` decides which of the two it is."""
        kind = WaitExecKind if table.wait else cls
        made = program.make_program(table, table.exec or ())
        return ServiceSpec(name=name, framing=Raw(), limits=decided(table, {}), kind=kind(made))


@dataclass(frozen=True)
class TcpmuxKind(ProgramKind):
    """The client names one of several programs in its first line (RFC 1078).

    Attributes:
        choices: each name as settings have it, and the service with its program.
    """

    choices: tuple[tuple[TcpmuxName, ServiceSpec], ...] = ()
    key = "tcpmux"
    way = "tcpmux"

    @classmethod
    def spec(cls, name: str, table: ServiceSettings) -> ServiceSpec:
        """See ServiceKind; sockd.services.resolve adds the choices, which are other tables."""
        limits = replace(decided(table, {}), max_connections=table.max_connections or DEFAULT_MAX_CONNECTIONS)
        return ServiceSpec(name=name, framing=Raw(), limits=limits, kind=cls())


@dataclass(frozen=True)
class RelayKind(ProxyKind):
    """Each connection is connected to a target; their ports are numbers."""

    settings: RelaySettings
    key = "relay"
    way = "relay"

    @classmethod
    def spec(cls, name: str, table: ServiceSettings) -> ServiceSpec:
        """See ServiceKind."""
        assert table.relay is not None
        limits = replace(decided(table, {}), max_connections=table.max_connections or DEFAULT_MAX_RELAYED)
        via = table.relay.via
        via = None if via is None else replace(via, address=via.address.numbered())
        kind = cls(replace(table.relay, to=tuple(one.numbered() for one in table.relay.to), via=via))
        return ServiceSpec(name=name, framing=Raw(), limits=limits, kind=kind)


@dataclass(frozen=True)
class SocksKind(ProxyKind):
    """Each connection is a client of a SOCKS server."""

    settings: SocksSettings
    key = "socks"
    way = "socks"

    @classmethod
    def spec(cls, name: str, table: ServiceSettings) -> ServiceSpec:
        """See ServiceKind."""
        assert table.socks is not None
        limits = replace(decided(table, {}), max_connections=table.max_connections or DEFAULT_MAX_CLIENTS)
        return ServiceSpec(name=name, framing=Raw(), limits=limits, kind=cls(table.socks))


__all__ = ["ExecKind", "RelayKind", "SocksKind", "TcpmuxKind", "WaitExecKind"]
