# SPDX-License-Identifier: MIT
"""Services that own and forward connections: relays and SOCKS servers, in each phase of a start.

Before privileges are dropped their files are read; once the loop runs they are made; one without a listener goes with
its last client; at a stop they are closed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, assert_never

from sockd.errors import PermissionFault, SockdError, under_key
from sockd.lazy import lazily
from sockd.net.connection.info import Totals
from sockd.services.families import ProxyKind
from sockd.services.given_kinds import RelayKind, SocksKind
from sockd.settings import RelaySettings, SocksSettings
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import ExitStack

    from sockd.net.connect.reverse_dns import ReverseDns
    from sockd.net.listen import handoff
    from sockd.net.loop.loop import EventLoop
    from sockd.net.relay.tally import PairedClient
    from sockd.services import relay, socks
    from sockd.services.relay import RelayService
    from sockd.services.socks import SocksService, UsersFile, users
    from sockd.services.socks.users import Users
    from sockd.services.spec import ServiceSpec
    from sockd.settings.relay import TargetState
else:
    relay = lazily("sockd.services.relay")
    socks = lazily("sockd.services.socks")
    users = lazily("sockd.services.socks.users")
    handoff = lazily("sockd.net.listen.handoff")

logger = logging.getLogger("sockd.socks")

DESCRIPTORS_A_CLIENT = 2


class ProxyFiles:
    """Files of users and of passwords: read before rights are dropped, and then when a new service needs them.

    Args:
        specs: of all services; those that do not forward are skipped.
        stack: closes what is opened.

    Attributes:
        max_descriptors: descriptors that their services may need, all together.

    Raises: ConfigurationError, SystemFault, PermissionFault: a users file or a password file cannot be read, or is
    wrong.
    """

    def __init__(self, specs: Iterable[ServiceSpec], stack: ExitStack) -> None:
        self._users: dict[str, UsersFile] = {}
        self._passwords: dict[str, str] = {}
        self._read_before: set[str] = set()
        self._stack = stack
        self.max_descriptors = 0
        for spec in {spec.name: spec for spec in specs}.values():
            if isinstance(spec.kind, ProxyKind):
                self.max_descriptors += DESCRIPTORS_A_CLIENT * (spec.max_connections or 0)
                self._read(spec)
                self._read_before.add(spec.name)

    def renew(self, spec: ServiceSpec) -> None:
        """Read what a service needs: with rights that may be gone by now, unless a start has read it.

        Raises: ConfigurationError, SystemFault, PermissionFault: as at a start.
        """
        is_new = spec.name not in self._read_before
        self._read_before.discard(spec.name)
        self._read(spec, again=is_new)

    def _read(self, spec: ServiceSpec, *, again: bool = True) -> None:
        match spec.kind:
            case RelayKind(settings=RelaySettings(via_password=str(path))):
                if again or path not in self._passwords:
                    with under_key("service", spec.name, "relay", "via_password"):
                        self._passwords[path] = users.read_password(path)
            case SocksKind(settings=SocksSettings(users=str(path))):
                if path not in self._users:
                    with under_key("service", spec.name, "socks", "users"):
                        self._users[path] = socks.UsersFile(path)
                    self._stack.callback(self._users[path].close)
            case _:
                pass  # it needs no file

    def password(self, path: str | None) -> str | None:
        """Return what a file of a password says; None for no file."""
        return self._passwords.get(path or "")

    def users(self, path: str | None) -> UsersFile | None:
        """Return the users of a file; None for no file."""
        return self._users.get(path or "")

    def reread(self) -> list[str]:
        """Read the users files again; the users stay as they are if that fails: return why."""
        failed = []
        for path, file in self._users.items():
            try:
                file.users = _read_users(path, file)
            except SockdError as error:
                _report_kept(error)
                failed.append(f"users not read, keeping the previous ones: {error}")
        return failed

    def prepare(self, specs: Iterable[ServiceSpec]) -> dict[UsersFile, Users]:
        """Read again those users files that services of a new configuration have.

        Returns:
            What adopt() takes; without the files that this process may not read any more, whose users stay.

        Raises:
            ConfigurationError, SystemFault: one is gone, or wrong.
        """
        found: dict[UsersFile, Users] = {}
        for spec in specs:
            path = spec.kind.settings.users if isinstance(spec.kind, SocksKind) else None
            file = self._users.get(path or "")
            if path is not None and file is not None and file not in found:
                try:
                    with under_key("service", spec.name, "socks", "users"):
                        found[file] = _read_users(path, file)
                except PermissionFault as error:
                    _report_kept(error)
        return found

    def adopt(self, users: Mapping[UsersFile, Users]) -> dict[UsersFile, Users]:
        """Use these from now on; return the previous ones."""
        former = {file: file.users for file in users}
        for file, read in users.items():
            file.users = read
        return former


def _read_users(path: str, file: UsersFile) -> Users:
    read = file.read()
    logger.info("users read", extra={"event": {"file": path, "users": len(read)}})
    return read


def _report_kept(error: SockdError) -> None:
    logger.error("users not read, keeping the previous ones", extra={"event": {"error": str(error)}})


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
        """Return the number of connections being served."""
        return sum(map(len, self._all()))

    def _all(self) -> list[RelayService | SocksService]:
        return [known.server for known in self._known]

    def server(self, spec: ServiceSpec, kind: RelayKind | SocksKind) -> RelayService | SocksService:
        """Return what serves a service's connections, one for all of its listeners.

        A reload that changes the service makes another; clients of the previous one stay with it.

        Raises: ConfigurationError, SystemFault, PermissionFault: as at a start.
        """
        for known in self._known:
            if known.serves(spec) and not known.is_former:
                return known.server
        self.files.renew(spec)
        made = self._made(spec, kind)
        self._known.append(_Known(spec, made))
        return made

    def _made(self, spec: ServiceSpec, kind: RelayKind | SocksKind) -> RelayService | SocksService:
        match kind:
            case RelayKind(settings=settings):
                password, idle_timeout = self.files.password(settings.via_password), spec.limits.idle_timeout
                return relay.RelayService(spec.name, settings, self._loop, idle_timeout=idle_timeout, password=password)
            case SocksKind(settings=settings):
                return socks.SocksService(spec.name, settings, self._loop, file=self.files.users(settings.users))
            case _:
                assert_never(kind)

    def handover(
        self, spec: ServiceSpec, kind: RelayKind | SocksKind, resolver: ReverseDns, *, names: bool
    ) -> handoff.Handoff:
        """Return what a listener hands its connections to."""
        server = self.server(spec, kind)
        door = server.door if isinstance(kind, SocksKind) and isinstance(server, socks.SocksService) else None
        return handoff.Handoff(server, resolver if names else None, door)

    def override_targets(self, states: Mapping[str, Mapping[str, TargetState]]) -> None:
        """Have clients of relays sent to targets or not: by the name of the service, and the target."""
        for known in self._known:
            if isinstance(known.server, relay.RelayService):
                known.server.override_targets(states.get(known.spec.name, {}))

    def release_unused(self, wanted: Iterable[ServiceSpec]) -> bool:
        """Release servers without a listener: they stop their checks, and go with their last client.

        Args:
            wanted: the services of all listeners, draining ones included.

        Returns:
            Whether some of these still have clients, so that this is to be called again.
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
        """Return the counts of each service's connections since the start, by its name."""
        found = dict(self._past)
        for known in self._known:
            found[known.spec.name] = found.get(known.spec.name, Totals()) + known.server.totals()
        return found

    def clients(self) -> Iterator[tuple[str, PairedClient]]:
        """Yield every client, with the name of its service."""
        for known in list(self._known):
            for client in known.server.clients():
                yield known.spec.name, client

    def end(self) -> None:
        """Close what is left, at once."""
        for server in self._all():
            server.abort()

    def close(self) -> None:
        """Close their files."""
        for server in self._all():
            server.close()


@dataclass(eq=False)
class _Known:
    """A server, the service with which it was made, and whether it still has a listener."""

    spec: ServiceSpec
    server: RelayService | SocksService
    is_former: bool = False

    def serves(self, spec: ServiceSpec) -> bool:
        """Return whether a service is equal to this one."""
        mine = self.spec
        return (mine.name, mine.kind, mine.limits) == (spec.name, spec.kind, spec.limits)
