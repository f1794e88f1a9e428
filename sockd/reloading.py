"""A new configuration while connections are served: compared, checked whole, and only then put in the old one's place.

Until everything that can fail has been done nothing is changed: the configuration is read, handlers are imported,
programs looked for, new addresses bound, groups made, startup hooks called.  What stays of the old one is then
what was served: listeners keep their sockets, connections their settings.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from sockd.draining import Drain
from sockd.errors import EX_OSERR, ConfigurationError, SockdError, TemporaryFault
from sockd.net import bindable
from sockd.planning import addresses_of, check_datagrams, plan
from sockd.process.passed import stored_name
from sockd.services.fresh import imported_anew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sockd.executor import Renewal
    from sockd.net.address import Address, Services
    from sockd.net.sockets import Listening
    from sockd.planning import Plan
    from sockd.process.passed import PassedSockets
    from sockd.process.systemd import Notifier
    from sockd.serving import Served, Serving
    from sockd.settings import ListenSettings, Settings

logger = logging.getLogger("sockd.daemon")

AT_ONCE = ("stop_timeout", "pre_drain", "upgrade_timeout", "store_connections", "max_memory")
"""Of [daemon]; every other key is for the next start, but for the level of the log."""
BEFORE_BIND = ("reuse_address", "reuse_port", "free_bind", "ipv6_only", "interface", "defer_accept", "fast_open")
"""Of [[listen]]: what is set on a listening socket before it is bound, or once."""


@dataclass(frozen=True)
class Stand:
    """An address of the running configuration, and the sockets that it became."""

    address: Address
    service: str
    served: tuple[Served, ...]


@dataclass(frozen=True)
class Changes:
    """What a configuration would change, as texts for people.

    Attributes:
        kept, added, removed: (address, service).
        later: what takes effect at the next start only.
        impossible: what stands in the way.
    """

    kept: tuple[tuple[str, str], ...]
    added: tuple[tuple[str, str], ...]
    removed: tuple[tuple[str, str], ...]
    later: tuple[str, ...]
    impossible: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a reload went: when (seconds since 1970), what it changed, or why it did nothing."""

    when: float
    changes: Changes | None
    error: str = ""
    exit_code: int = EX_OSERR


@dataclass(frozen=True)
class Prepared:
    """What is to be served, once all that can fail has been done.

    Attributes:
        renewed: sockets that take the place of those that nobody can find.
    """

    settings: Settings
    stands: list[Stand | None]
    made: list[Served]
    renewal: Renewal
    renewed: dict[Served, Listening]


class Reloading:
    """Carries reloads out.

    Args:
        settings: that are served.
        read: reads the configuration again; None where there is no file.
        services: as for Address.parse.
        apply: makes those keys of [daemon] that can be changed take effect.
        guarded: what code of handlers is called within.

    Attributes:
        settings: that are served now.
        last: how the last reload went; None before the first one.
        count: how many succeeded, and how many failed.
    """

    def __init__(
        self,
        settings: Settings,
        serving: Serving,
        passed: PassedSockets,
        notifier: Notifier,
        *,
        read: Callable[[], Settings] | None,
        services: Services | None,
        apply: Callable[[Settings], None],
        guarded: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.settings = settings
        self.last: Outcome | None = None
        self.count = {True: 0, False: 0}
        self._serving = serving
        self._passed = passed
        self._notifier = notifier
        self._read = read
        self._services = services
        self._apply = apply
        self._guarded = guarded
        self._under_way: ExitStack | None = None
        self._drains: set[Drain] = set()

    # ---- compared

    def compare(self, settings: Settings) -> Changes:
        """Say what a configuration would change; nothing is imported, and every new address is tried without listening.

        Raises:
            AddressError: an address is not well formed.
        """
        wanted = [(address, listen) for listen in settings.listen for address in self._addresses(listen)]
        stands = self._match([(address, listen.service) for address, listen in wanted])
        pairs = list(zip(wanted, stands, strict=True))
        kept = [(listen, stand) for (_, listen), stand in pairs if stand is not None]
        added = [(address, listen) for (address, listen), stand in pairs if stand is None]
        return Changes(
            kept=tuple((str(served), listen.service) for listen, stand in kept for served in stand.served),
            added=tuple((str(address), listen.service) for address, listen in added),
            removed=tuple((str(served), served.plan.service.name) for served in self._not_in(stands)),
            later=(*_later("daemon", self.settings.daemon, settings.daemon), *_later_of(kept)),
            impossible=tuple(text for address, listen in added if (text := self._why_not(address, listen))),
        )

    def _addresses(self, listen: ListenSettings) -> tuple[Address, ...]:
        return addresses_of(listen, services=self._services)

    def _why_not(self, address: Address, listen: ListenSettings) -> str:
        if address.scheme == "fd":
            return f"{address}: descriptors are passed at a start only; restart"
        own = self.settings.daemon.chroot
        if address.path and own is not None:
            return f"{address}: the root folder is {own} now (daemon.chroot), and paths are below it; restart"
        return bindable.why_not(address, listen)

    def _match(self, wanted: Sequence[tuple[Address, str]]) -> list[Stand | None]:
        """Find for each wanted address the stand that it is; of several with port 0, one with the same service."""
        left = list(self._stands())
        found: list[Stand | None] = [None] * len(wanted)
        for is_same_service in (True, False):
            for index, (address, service) in enumerate(wanted):
                if found[index] is None:
                    fits = (one for one in left if one.address == address)
                    stand = next((one for one in fits if not is_same_service or one.service == service), None)
                    if stand is not None:
                        left.remove(stand)
                        found[index] = stand
        return found

    def _stands(self) -> Iterator[Stand]:
        rows: dict[int, list[Served]] = {}
        for served in self._serving.listeners:
            rows.setdefault(id(served.address), []).append(served)  # each that was written is an object of its own
        for row in rows.values():
            yield Stand(row[0].address, row[0].plan.service.name, tuple(row))

    def _not_in(self, stands: Sequence[Stand | None]) -> list[Served]:
        kept = {id(served) for stand in stands if stand is not None for served in stand.served}
        return [served for served in self._serving.listeners if id(served) not in kept]

    # ---- carried out

    @property
    def is_under_way(self) -> bool:
        """Whether a new configuration is waited for."""
        return self._under_way is not None

    def reload(self, then: Callable[[Outcome], None]) -> None:
        """Serve by the configuration as it stands on the disk from now on, or leave all as it is.

        Args:
            then: called once it is known how that went: at once, unless other processes have to be waited for.
        """
        with ExitStack() as undo:
            try:
                prepared = self._prepare(undo)
            except BaseException as error:
                undo.__exit__(type(error), error, error.__traceback__)
                then(self._failed_by(error))
                return
            self._under_way = undo.pop_all()

        def ready(error: SockdError | None) -> None:
            under_way, self._under_way = self._under_way, None
            assert under_way is not None
            if error is not None:
                under_way.__exit__(type(error), error, error.__traceback__)
                then(self._failed_by(error))
            else:
                under_way.pop_all()
                self._commit(prepared, lambda changes: then(self._done(changes)))

        self._serving.when_ready(prepared.made, ready)

    def check(self) -> None:
        """Refuse to change what is listened on while a reload waits.

        Raises:
            TemporaryFault: says so.
        """
        if self.is_under_way:
            raise TemporaryFault("a reload is under way; try again when it is done")

    def _done(self, changes: Changes) -> Outcome:
        self.count[True] += 1
        self.last = Outcome(time.time(), changes)
        numbers = {"kept": len(changes.kept), "added": len(changes.added), "removed": len(changes.removed)}
        logger.info("reloaded", extra={"event": numbers})
        for text in changes.later:
            logger.warning("takes effect at the next start", extra={"event": {"what": text}})
        return self.last

    def _failed_by(self, error: BaseException) -> Outcome:
        if isinstance(error, SockdError):
            return self._failed(str(error), error.exit_code)
        logger.error("reload failed by a defect", exc_info=error)
        return self._failed(f"{type(error).__name__}: {error}")

    def _failed(self, words: str, exit_code: int = EX_OSERR) -> Outcome:
        self.count[False] += 1
        self.last = Outcome(time.time(), None, words, exit_code)
        for line in words.splitlines():
            logger.error("configuration is wrong, going on with the old one", extra={"event": {"error": line}})
        return self.last

    def _prepare(self, undo: ExitStack) -> Prepared:
        """Do all that can fail."""
        if self._read is None:
            raise ConfigurationError("no configuration file: what is served stands on the command line")
        settings = self._read()
        rooted = self.settings.daemon.chroot is not None
        handlers = [table.handler for table in settings.service.values() if table.handler]
        handlers += [listen.service for listen in settings.listen if ":" in listen.service]
        undo.enter_context(nullcontext() if rooted else imported_anew(handlers))
        with self._guarded():
            plans = plan(settings, services=self._services)
        wanted = [(address, one) for one in plans for address in one.addresses]
        stands = self._match([(address, one.service.name) for address, one in wanted])
        self._make_room(stands, wanted)
        renewed = self._renew(wanted, stands, undo)
        opened = self._open(wanted, stands, undo)
        renewal = self._serving.tools.executor.prepare([one.service for one in plans])
        undo.callback(renewal.close)
        self._serving.tools.executor.adopt(renewal)
        undo.callback(self._serving.tools.executor.give_back, renewal)
        with self._guarded():
            made = self._serving.prepare([*_going_on(wanted, stands, renewed), *opened])
        undo.callback(self._serving.discard, made)
        return Prepared(settings, stands, made, renewal, renewed)

    def problem(self, served: Served) -> str:
        """Say why no client can find a listener, though it listens; empty when all is well."""
        return "" if self.settings.daemon.chroot is not None else served.listening.problem()

    def _renew(
        self, wanted: Sequence[tuple[Address, Plan]], stands: Sequence[Stand | None], undo: ExitStack
    ) -> dict[Served, Listening]:
        """Bind those Unix sockets anew that we have bound and that nobody can find any more; or say why not."""
        renewed: dict[Served, Listening] = {}
        for (address, one), stand in zip(wanted, stands, strict=True):
            for served in stand.served if stand is not None else ():
                problem = self.problem(served)
                if not problem or served.listening.passed:
                    continue
                try:
                    (renewed[served],) = self._passed.open(address, one.settings)
                except SockdError as error:
                    event = {"address": str(served), "why": problem, "error": str(error)}
                    logger.error("cannot be found by its clients, and not be bound anew", extra={"event": event})
                else:
                    undo.callback(renewed[served].close)
                    logger.warning("bound anew", extra={"event": {"address": str(served), "why": problem}})
        return renewed

    def _make_room(self, stands: Sequence[Stand | None], wanted: Sequence[tuple[Address, Plan]]) -> None:
        leaving = {served.address for served in self._serving.leaving}
        if any(stand is None and address in leaving for stand, (address, _) in zip(stands, wanted, strict=True)):
            self._serving.close_leaving()

    def _open(
        self, wanted: Sequence[tuple[Address, Plan]], stands: Sequence[Stand | None], undo: ExitStack
    ) -> list[tuple[Address, Listening, Plan, None]]:
        opened: list[tuple[Address, Listening, Plan, None]] = []
        for (address, one), stand in zip(wanted, stands, strict=True):
            if stand is not None:
                continue
            if address.scheme == "fd" or (address.path and self.settings.daemon.chroot is not None):
                raise ConfigurationError(self._why_not(address, one.settings))
            for listening in self._passed.open(address, one.settings):
                undo.callback(listening.close)
                opened.append((address, listening, one, None))
                if address.scheme in ("udp", "unixgram"):
                    check_datagrams(address, one.service)
        return opened

    def _commit(self, ready: Prepared, then: Callable[[Changes], None]) -> None:
        """Change over; nothing here fails."""
        serving, settings, made = self._serving, ready.settings, ready.made
        removed = self._not_in(ready.stands)
        sockets = {served.listening: served for served in serving.listeners}
        sockets |= {listening: served for served, listening in ready.renewed.items()}
        replaced = {one: sockets[one.listening] for one in made if one.listening in sockets}
        kept = tuple((str(one), one.plan.service.name) for one in made if one in replaced)
        added = tuple((str(one), one.plan.service.name) for one in made if one not in replaced)
        later = (*_later("daemon", self.settings.daemon, settings.daemon), *_later_of_made(replaced))
        gone = tuple((str(served), served.plan.service.name) for served in removed)
        serving.start(made, replaced)
        for served in made:
            if served not in replaced:
                event = {"address": str(served), "service": served.plan.service.name}
                logger.info("listening", extra={"event": event})
        for served in removed:
            self.drain(served)
        ready.renewal.finish()
        self._apply(settings)
        self.settings = settings
        self._keep(removed)
        serving.when_started(lambda: then(Changes(kept, added, gone, later)))

    def _keep(self, removed: Sequence[Served]) -> None:
        """Have a manager keep what is served now over a restart, and no more what is not."""
        names = {stored_name(served.address) for served in removed}
        gone = [name for name, _ in self._passed.kept if name in names]
        self._passed.kept = [(name, sock) for name, sock in self._passed.kept if name not in names]
        self._notifier.keep(self._passed.kept, not_any_more=gone)

    # ---- taken out of service

    def drain(self, served: Served) -> None:
        """Take a listener out of service: its queue is emptied, and its connections end in order."""
        group = getattr(served.listener, "group", None)
        self._serving.remove(served, lambda: self._drain_group(group))

    def _drain_group(self, group: int | None) -> None:
        if group is None:
            return
        tools = self._serving.tools
        seconds = self.settings.daemon.stop_timeout
        drain = Drain(
            tools.connections, tools.loop, [group], self._serving, seconds, lambda: self._drains.discard(drain)
        )
        self._drains.add(drain)
        drain.start()


def _going_on(
    wanted: Sequence[tuple[Address, Plan]], stands: Sequence[Stand | None], renewed: Mapping[Served, Listening]
) -> Iterator[tuple[Address, Listening, Plan, Served]]:
    for (address, one), stand in zip(wanted, stands, strict=True):
        for served in stand.served if stand is not None else ():
            yield address, renewed.get(served, served.listening), one, served


def _later(place: str, old: Any, new: Any) -> Iterator[str]:  # noqa: ANN401 - two tables of one kind
    for field in fields(old):
        if field.name in AT_ONCE or getattr(old, field.name) == getattr(new, field.name):
            continue
        if field.name == "log":
            yield from _later("daemon.log", old.log, new.log)
        elif (place, field.name) != ("daemon.log", "level"):
            yield f"{place}.{field.name}"


def _later_of(kept: Sequence[tuple[ListenSettings, Stand]]) -> Iterator[str]:
    for listen, stand in kept:
        yield from _bound_before(str(stand.address), stand.served[0].plan.settings, listen)


def _later_of_made(replaced: dict[Served, Served]) -> Iterator[str]:
    for new, old in replaced.items():
        yield from _bound_before(str(new), old.plan.settings, new.plan.settings)


def _bound_before(address: str, old: ListenSettings, new: ListenSettings) -> Iterator[str]:
    changed = [key for key in BEFORE_BIND if getattr(old, key) != getattr(new, key)]
    if changed:
        yield f"{address}: {', '.join(changed)}"


__all__ = ["Changes", "Outcome", "Reloading"]
