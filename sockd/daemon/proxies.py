# SPDX-License-Identifier: MIT
"""The daemon's part for services that take connections over to forward them: relays and SOCKS servers.

Before rights are dropped their files are read; once the loop is there they are made; one that has no listener
any more goes with its last client; at a stop they are ended.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockd.errors import SockdError
from sockd.net.connection.info import Totals
from sockd.net.listen.handoff import Handoff
from sockd.services.relay import RelayService
from sockd.services.socks import SocksService, UsersFile
from sockd.services.socks.users import read_password

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

    from sockd.net.connect.reverse_dns import ReverseDns
    from sockd.net.loop.loop import EventLoop
    from sockd.services.spec import ServiceSpec

logger = logging.getLogger("sockd.socks")

DESCRIPTORS_A_CLIENT = 2


class ProxyFiles:
    """Files of users and of passwords: read before rights are dropped, and then when a new service needs them.

    Args:
        specs: of all services; those that forward nothing are passed over.
        stack: closes what is opened.

    Attributes:
        most: descriptors that their services may need, all together.

    Raises:
        ConfigurationError, SystemFault, PermissionFault: a file of users or of a password cannot be read, or is wrong.
    """

    def __init__(self, specs: Iterable[ServiceSpec], stack: ExitStack) -> None:
        self._users: dict[str, UsersFile] = {}
        self._passwords: dict[str, str] = {}
        self._read_before: set[str] = set()
        self._stack = stack
        self.most = 0
        for spec in {spec.name: spec for spec in specs}.values():
            if spec.relay is not None or spec.socks is not None:
                self.most += DESCRIPTORS_A_CLIENT * (spec.most or 0)
                self._read(spec)
                self._read_before.add(spec.name)

    def renew(self, spec: ServiceSpec) -> None:
        """Read what a service needs: with rights that may be gone by now, unless a start has read it.

        Raises:
            ConfigurationError, SystemFault, PermissionFault: as when a daemon starts.
        """
        is_new = spec.name not in self._read_before
        self._read_before.discard(spec.name)
        self._read(spec, again=is_new)

    def _read(self, spec: ServiceSpec, *, again: bool = True) -> None:
        via = spec.relay.via_password if spec.relay is not None else None
        if spec.relay is not None and via is not None and (again or via not in self._passwords):
            place = f"service.{spec.name}.relay.via_password"
            self._passwords[via] = read_password(via, place)
        if spec.socks is not None and spec.socks.users is not None and spec.socks.users not in self._users:
            file = UsersFile(spec.socks.users, f"service.{spec.name}.socks.users")
            self._stack.callback(file.close)
            self._users[spec.socks.users] = file

    def password(self, path: str | None) -> str | None:
        """Return what a file of a password says; None for no file."""
        return self._passwords.get(path or "")

    def users(self, path: str | None) -> UsersFile | None:
        """Return the users of a file; None for no file."""
        return self._users.get(path or "")

    def reread(self) -> None:
        """Read the users' files anew; the users stay as they are where that fails."""
        for path, file in self._users.items():
            try:
                file.reread()
            except SockdError as error:
                logger.error("users not read, going on with the old ones", extra={"event": {"error": str(error)}})
            else:
                logger.info("users read", extra={"event": {"file": path, "users": len(file.users)}})


class ProxyServers:
    """The forwarding services of one daemon, once its loop is there.

    Args:
        files: that they need.
        loop: in which they serve.
    """

    def __init__(self, files: ProxyFiles, loop: EventLoop) -> None:
        self.files = files
        self._loop = loop
        self._known: list[_Known] = []
        self._past: dict[str, Totals] = {}

    def __len__(self) -> int:
        """Return how many connections are being served."""
        return sum(map(len, self._all()))

    def _all(self) -> list[RelayService | SocksService]:
        return [known.server for known in self._known]

    def server(self, spec: ServiceSpec) -> RelayService | SocksService | None:
        """Return what serves a service's connections, one for all of its listeners; None for other services.

        A reload that changes the service makes another; clients of the one before stay with it.

        Raises:
            ConfigurationError, SystemFault, PermissionFault: as when a daemon starts.
        """
        for known in self._known:
            if known.serves(spec) and not known.is_former:
                return known.server
        self.files.renew(spec)
        made = self._made(spec)
        if made is not None:
            self._known.append(_Known(spec, made))
        return made

    def _made(self, spec: ServiceSpec) -> RelayService | SocksService | None:
        if spec.relay is not None:
            password = self.files.password(spec.relay.via_password)
            idle_timeout = spec.limits.idle_timeout
            return RelayService(spec.name, spec.relay, self._loop, idle_timeout=idle_timeout, password=password)
        if spec.socks is not None:
            file = self.files.users(spec.socks.users)
            return SocksService(spec.name, spec.socks, self._loop, file=file)
        return None

    def handover(self, spec: ServiceSpec, resolver: ReverseDns, *, names: bool) -> Handoff | None:
        """Return what a listener hands its connections to; None for other services."""
        server = self.server(spec)
        if server is None:
            return None
        return Handoff(server, resolver if names else None, server.door if isinstance(server, SocksService) else None)

    def settle(self, wanted: Iterable[ServiceSpec]) -> bool:
        """Let go of servers that have no listener any more: they check nothing, and go with their last client.

        Args:
            wanted: the services of all listeners, those on their way out included.

        Returns:
            whether some of these have clients still, so that they are to be asked for again.
        """
        specs = list(wanted)
        for known in self._known:
            if not known.is_former and not any(map(known.serves, specs)):
                known.is_former = True
                known.server.retire()
        ended = [known for known in self._known if known.is_former and not len(known.server)]
        for known in ended:
            known.server.close()
            self._known.remove(known)
            self._past[known.spec.name] = self._past.get(known.spec.name, Totals()) + known.server.totals()
        return any(known.is_former for known in self._known)

    def totals(self) -> dict[str, Totals]:
        """Return what the connections of each service have done since the start, by its name."""
        found = dict(self._past)
        for known in self._known:
            found[known.spec.name] = found.get(known.spec.name, Totals()) + known.server.totals()
        return found

    def end(self) -> None:
        """End what is left, at once."""
        for server in self._all():
            server.abort()

    def close(self) -> None:
        """Close what they have."""
        for server in self._all():
            server.close()


@dataclass(eq=False)
class _Known:
    """A server, the service as it was when it was made, and whether no listener has it any more."""

    spec: ServiceSpec
    server: RelayService | SocksService
    is_former: bool = False

    def serves(self, spec: ServiceSpec) -> bool:
        """Tell whether a service is just this."""
        mine = self.spec
        return (mine.name, mine.relay, mine.socks, mine.limits) == (spec.name, spec.relay, spec.socks, spec.limits)
