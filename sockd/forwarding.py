"""The daemon's part for services that take connections over to forward them: relays and SOCKS servers.

Before rights are dropped their files are read; once the loop is there they are made; at a stop
they are ended.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sockd.errors import SockdError
from sockd.net.handover import Handover
from sockd.net.password import read_password
from sockd.services.relay import Relay
from sockd.services.socks import Server, UsersFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

    from sockd.net.loop import EventLoop
    from sockd.net.resolver import Resolver
    from sockd.services.service import ServiceSpec

logger = logging.getLogger("sockd.socks")

DESCRIPTORS_A_CLIENT = 2


class Forwarding:
    """The forwarding services of one daemon.

    Args:
        specs: of all services; those that forward nothing are passed over.
        stack: closes what is opened.

    Attributes:
        most: descriptors that they may need, all together.

    Raises:
        ConfigurationError, SystemFault, PermissionFault: a file of users or of a password cannot be read, or is wrong.
    """

    def __init__(self, specs: Iterable[ServiceSpec], stack: ExitStack) -> None:
        self._files: dict[str, UsersFile] = {}
        self._passwords: dict[str, str] = {}
        self._servers: dict[str, tuple[ServiceSpec, Relay | Server]] = {}
        self._former: list[Relay | Server] = []
        self._stack = stack
        self.most = 0
        for spec in {spec.name: spec for spec in specs}.values():
            if spec.relay is not None or spec.socks is not None:
                self.most += DESCRIPTORS_A_CLIENT * (spec.most or 0)
                self._read_files(spec)

    def _read_files(self, spec: ServiceSpec, *, again: bool = True) -> None:
        via = spec.relay.via_password if spec.relay is not None else None
        if spec.relay is not None and via is not None and (again or via not in self._passwords):
            place = f"service.{spec.name}.relay.via_password"
            self._passwords[via] = read_password(via, place)
        if spec.socks is not None and spec.socks.users is not None and spec.socks.users not in self._files:
            file = UsersFile(spec.socks.users, f"service.{spec.name}.socks.users")
            self._stack.callback(file.close)
            self._files[spec.socks.users] = file

    def __len__(self) -> int:
        """Return how many connections are being served."""
        return sum(map(len, self._all()))

    def _all(self) -> list[Relay | Server]:
        return [*self._former, *(server for _, server in self._servers.values())]

    def begin(self, loop: EventLoop) -> None:
        """Be ready to serve."""
        self._loop = loop

    def server(self, spec: ServiceSpec) -> Relay | Server | None:
        """Return what serves a service's connections, one for all of its listeners; None for other services.

        A reload that changes the service makes another; clients of the one before stay with it.

        Raises:
            ConfigurationError, SystemFault, PermissionFault: as when a daemon starts.
        """
        known, server = self._servers.get(spec.name, (None, None))
        if known is not None and server is not None and _is_same(known, spec):
            return server
        self._read_files(spec, again=known is not None)
        made = self._made(spec)
        if made is None:
            return None
        if server is not None:
            self._former.append(server)
        self._stack.callback(made.close)
        self._servers[spec.name] = spec, made
        return made

    def _made(self, spec: ServiceSpec) -> Relay | Server | None:
        if spec.relay is not None:
            password = self._passwords.get(spec.relay.via_password or "")
            idle_timeout = spec.limits.idle_timeout
            return Relay(spec.name, spec.relay, self._loop, idle_timeout=idle_timeout, password=password)
        if spec.socks is not None:
            file = self._files.get(spec.socks.users or "")
            return Server(spec.name, spec.socks, self._loop, file=file)
        return None

    def handover(self, spec: ServiceSpec, resolver: Resolver, *, names: bool) -> Handover | None:
        """Return what a listener hands its connections to; None for other services."""
        server = self.server(spec)
        return None if server is None else Handover(server, resolver if names else None)

    def reread(self) -> None:
        """Read the users' files anew; the users stay as they are where that fails."""
        for path, file in self._files.items():
            try:
                file.reread()
            except SockdError as error:
                logger.error("users not read, going on with the old ones", extra={"event": {"error": str(error)}})
            else:
                logger.info("users read", extra={"event": {"file": path, "users": len(file.users)}})

    def end(self) -> None:
        """End what is left, at once."""
        for server in self._all():
            server.abort()


def _is_same(one: ServiceSpec, other: ServiceSpec) -> bool:
    return (one.relay, one.socks, one.limits) == (other.relay, other.socks, other.limits)
