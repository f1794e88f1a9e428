# SPDX-License-Identifier: MIT
"""A new configuration while connections are served: compared, checked whole, and only then put in the old one's place.

Until everything that can fail has been done nothing is changed: the configuration is read, handlers are imported,
programs looked for, new addresses bound, groups made, startup hooks called.  What stays of the old one is then
what was served: listeners keep their sockets, connections their settings.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING

from sockd.daemon.absent import AbsentListeners
from sockd.daemon.config_diff import (
    BoundAddress,
    Changes,
    PreparedReload,
    ReloadResult,
    continued,
    later_for_rebound,
    later_keys,
    later_listen_keys,
    not_switched,
    why_not_switched,
)
from sockd.daemon.drain import Drain
from sockd.daemon.plan import check_opened, listen_addresses, number_equal, plan
from sockd.errors import EX_OSERR, ConfigurationError, SockdError, SystemFault, TemporaryFault, under_key
from sockd.net.listen.bind import bind_problem
from sockd.process.inherited_sockets import LeftOut
from sockd.services import handlers_path
from sockd.services.reimport import ImportedAnew
from sockd.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sockd.daemon.effective import EffectiveSettings
    from sockd.daemon.listeners import ActiveListener, ListenerRegistry
    from sockd.daemon.plan import ListenerPlan
    from sockd.net.address.address import Address
    from sockd.net.listen.bind import ServerSocket
    from sockd.process.inherited_sockets import InheritedSockets
    from sockd.process.sd_notify import Notifier
    from sockd.settings import Settings
    from sockd.settings.listen import ListenSettings

logger = logging.getLogger("sockd.daemon")


class Reload:
    """Runs reloads.

    Args:
        settings: in effect; replaced by those of a reload.
        read: reads the configuration again; None where there is no file.
        guarded: what code of handlers is called within.

    Attributes:
        last: how the last reload went; None before the first one.
        count: how many succeeded, and how many failed.
        absent: listeners of the configuration that are not bound now.
    """

    def __init__(
        self,
        settings: EffectiveSettings,
        serving: ListenerRegistry,
        passed: InheritedSockets,
        notifier: Notifier,
        *,
        read: Callable[[], Settings] | None,
        guarded: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._settings = settings
        self.last: ReloadResult | None = None
        self.count = {True: 0, False: 0}
        self._serving = serving
        self._passed = passed
        self._notifier = notifier
        self._read = read
        self._guarded = guarded
        self._is_waiting = False
        self.absent = AbsentListeners(serving, passed, self._can_open, guarded=guarded, keep=self._keep)
        self.absent.is_busy = lambda: self._is_waiting
        self._drains: set[Drain] = set()

    # ---- compared

    def compare(self, settings: Settings) -> Changes:
        """Return what a configuration would change; nothing is imported, and every new address is bound for a try
        without listening.

        Raises:
            AddressError: an address is not well formed.
        """
        wanted = [(address, one) for at, one in enumerate(settings.listen) for address in listen_addresses(at, one)]
        stands = self._match([(address, listen.service) for address, listen in wanted])
        pairs = list(zip(wanted, stands, strict=True))
        kept = [(listen, stand) for (_, listen), stand in pairs if stand is not None]
        added = [(address, listen) for (address, listen), stand in pairs if stand is None]
        return Changes(
            kept=tuple((str(served), listen.service) for listen, stand in kept for served in stand.served),
            added=tuple((str(address), listen.service) for address, listen in added),
            removed=tuple((str(served), served.plan.service.name) for served in self._not_in(stands)),
            later=(*later_keys("daemon", self._settings.daemon, settings.daemon), *later_listen_keys(kept)),
            impossible=(
                *(
                    text
                    for address, listen in added
                    if not listen.optional and (text := self._why_not(address, listen))
                ),
                *not_switched(kept, settings),
            ),
        )

    def _why_not(self, address: Address, listen: ListenSettings) -> str:
        if address.scheme == "fd":
            return f"{address}: descriptors are passed only at a start; restart"
        own = self._settings.daemon.chroot
        if not self._can_open(address) and own is not None:
            return f"{address}: the root directory is now {own} (daemon.chroot), and paths are below it; restart"
        return bind_problem(address, listen)

    def _can_open(self, address: Address) -> bool:
        return address.scheme != "fd" and not (
            address.path and not address.is_abstract and self._settings.daemon.chroot is not None
        )

    def _match(self, wanted: Sequence[tuple[Address, str]]) -> list[BoundAddress | None]:
        """Find for each wanted address the bound one; of several with port 0, one with the same service, and the same
        number among those of the service.
        """
        left = list(self._stands())
        found: list[BoundAddress | None] = [None] * len(wanted)
        numbers = number_equal(wanted)
        for is_same_number, is_same_service in ((True, True), (False, True), (False, False)):
            for index, (address, service) in enumerate(wanted):
                if found[index] is None:
                    fits = (one for one in left if one.address == address)
                    fits = (one for one in fits if not is_same_service or one.service == service)
                    stand = next((one for one in fits if not is_same_number or one.number == numbers[index]), None)
                    if stand is not None:
                        left.remove(stand)
                        found[index] = stand
        return found

    def _stands(self) -> Iterator[BoundAddress]:
        rows: dict[int, list[ActiveListener]] = {}
        for served in self._serving.listeners:
            rows.setdefault(id(served.address), []).append(served)  # each that was written is an object of its own
        for row in rows.values():
            plan, address = row[0].plan, row[0].address
            yield BoundAddress(address, plan.service.name, tuple(row), plan.find_number(address))

    def _not_in(self, stands: Sequence[BoundAddress | None]) -> list[ActiveListener]:
        kept = {id(served) for stand in stands if stand is not None for served in stand.served}
        return [served for served in self._serving.listeners if id(served) not in kept]

    # ---- carried out

    def reload(self, then: Callable[[ReloadResult], None]) -> None:
        """Apply the configuration as it is on the disk, or leave everything unchanged.

        Args:
            then: called once with the result: at once, unless other processes are awaited.
        """
        with ExitStack() as undo:
            try:
                prepared = self._prepare(undo)
            except BaseException as error:
                undo.__exit__(type(error), error, error.__traceback__)
                if not (isinstance(error, SystemFault) and self._wait_for_workers(then)):
                    then(self._failed_by(error))
                return
            under_way = undo.pop_all()
        self._is_waiting = True

        def ready(error: SockdError | None) -> None:
            self._is_waiting = False
            if error is not None:
                under_way.__exit__(type(error), error, error.__traceback__)
                then(self._failed_by(prepared.settings.locate(error)))
            else:
                under_way.pop_all()
                self._commit(prepared, lambda changes: then(self._done(changes)))

        self._serving.when_ready(prepared.made, ready)

    def _wait_for_workers(self, then: Callable[[ReloadResult], None]) -> bool:
        """Try again once they have closed what was drained a moment ago, whose address may be wanted; False: they
        have.
        """
        loop = self._serving.tools.loop
        left = self._serving.lent_until - loop.clock()
        if left <= 0:
            return False
        self._is_waiting = True

        def again() -> None:
            self._is_waiting = False
            if self._serving.is_ending:
                then(self._failed_by(TemporaryFault("the daemon is stopping")))
            else:
                self.reload(then)

        loop.call_later(left, again)
        return True

    @property
    def is_under_way(self) -> bool:
        """Whether a new configuration is waited for, or listeners that were absent."""
        return self._is_waiting or self.absent.is_under_way

    def check(self) -> None:
        """Refuse to change listeners while a reload waits.

        Raises:
            TemporaryFault: says so.
        """
        if self.is_under_way:
            raise TemporaryFault("a reload is in progress; try again when it is done")

    def _done(self, changes: Changes) -> ReloadResult:
        self.count[True] += 1
        self.last = ReloadResult(time.time(), changes)
        numbers = {"kept": len(changes.kept), "added": len(changes.added), "removed": len(changes.removed)}
        logger.info("reloaded", extra={"event": numbers})
        self._serving.overrides.end_all()
        for text in changes.later:
            logger.warning("takes effect at the next start", extra={"event": {"what": text}})
        return self.last

    def _failed_by(self, error: BaseException) -> ReloadResult:
        if isinstance(error, SockdError):
            return self._failed(str(error), error.exit_code)
        logger.error("reload failed: internal error", exc_info=error)
        return self._failed(f"{type(error).__name__}: {error}")

    def _failed(self, words: str, exit_code: int = EX_OSERR) -> ReloadResult:
        self.count[False] += 1
        self.last = ReloadResult(time.time(), None, words, exit_code)
        for line in words.splitlines():
            logger.error("invalid configuration, keeping the previous one", extra={"event": {"error": line}})
        return self.last

    def _prepare(self, undo: ExitStack) -> PreparedReload:
        """Do every step that can fail."""
        if self._read is None:
            raise ConfigurationError("no configuration file: the settings came from the command line")
        settings = self._read()
        with settings.located():
            return self._prepare_settings(settings, undo)

    def _prepare_settings(self, settings: Settings, undo: ExitStack) -> PreparedReload:
        rooted = self._settings.daemon.chroot is not None
        handlers = [table.handler for table in settings.service.values() if table.handler]
        handlers += [listen.service for listen in settings.listen if ":" in listen.service]
        undo.enter_context(nullcontext() if rooted else ImportedAnew(handlers))
        undo.callback(handlers_path.configure, self._settings.daemon.path)
        with self._guarded():
            plans = plan(settings)
        wanted = [(address, one) for one in plans for address in one.addresses]
        stands = self._match([(address, one.service.name) for address, one in wanted])
        for (address, one), stand in zip(wanted, stands, strict=True):
            if stand is not None and (text := why_not_switched(stand, one.service.kind.shares_socket)):
                raise ConfigurationError(f"{address}: {text}", key=one.find_key(address))
        self._make_room(stands, wanted)
        renewed = self._renew(wanted, stands, undo)
        opened = self._open(wanted, stands, undo)
        proxies = self._serving.tools.forwarding.files
        undo.callback(proxies.adopt, proxies.adopt(proxies.prepare(one.service for one in plans)))
        files = self._serving.tools.executor.files
        renewal = files.prepare([one.service for one in plans])
        undo.callback(renewal.close)
        files.adopt(renewal)
        undo.callback(files.give_back, renewal)
        with self._guarded():
            made = self._serving.prepare([*continued(wanted, stands, renewed), *opened])
        undo.callback(self._serving.discard, made)
        return PreparedReload(settings, plans, stands, made, renewal, renewed)

    def problem(self, served: ActiveListener) -> str:
        """Return why no client can reach a listener, though it listens; empty when all is well."""
        return "" if self._settings.daemon.chroot is not None else served.listening.problem()

    def _renew(
        self, wanted: Sequence[tuple[Address, ListenerPlan]], stands: Sequence[BoundAddress | None], undo: ExitStack
    ) -> dict[ActiveListener, ServerSocket]:
        """Bind those Unix sockets again whose path was lost; or return why not."""
        renewed: dict[ActiveListener, ServerSocket] = {}
        for (address, one), stand in zip(wanted, stands, strict=True):
            for served in stand.served if stand is not None else ():
                problem = self.problem(served)
                if not problem or served.listening.passed:
                    continue
                try:
                    strict = replace(one.settings, optional=False)
                    (renewed[served],) = self._passed.open(address, strict, number=one.find_number(address))
                except SockdError as error:
                    event = {"address": str(served), "why": problem, "error": str(error)}
                    logger.error("path of a Unix socket lost, cannot bind it again", extra={"event": event})
                else:
                    undo.callback(renewed[served].close)
                    logger.warning(
                        "path of a Unix socket lost, bound again",
                        extra={"event": {"address": str(served), "why": problem}},
                    )
        return renewed

    def _make_room(self, stands: Sequence[BoundAddress | None], wanted: Sequence[tuple[Address, ListenerPlan]]) -> None:
        draining = {served.address for served in self._serving.draining}
        if any(stand is None and address in draining for stand, (address, _) in zip(stands, wanted, strict=True)):
            self._serving.close_draining()

    def _open(
        self, wanted: Sequence[tuple[Address, ListenerPlan]], stands: Sequence[BoundAddress | None], undo: ExitStack
    ) -> list[tuple[Address, ServerSocket, ListenerPlan, None]]:
        opened: list[tuple[Address, ServerSocket, ListenerPlan, None]] = []
        partly = {one.address for one in self._serving.absent}
        self._passed.left_out.clear()
        for (address, one), stand in zip(wanted, stands, strict=True):
            beside = () if stand is None else tuple(served.listening for served in stand.served)
            if beside and address not in partly:
                continue
            if not self._can_open(address):
                if one.settings.optional:
                    self._passed.left_out.append(LeftOut(address, str(address), self._why_not(address, one.settings)))
                    continue
                raise ConfigurationError(self._why_not(address, one.settings), key=one.find_key(address))
            with under_key(*one.find_key(address)):
                found = self._bind(address, one, beside)
            for listening in found:
                undo.callback(listening.close)
                opened.append((address, listening, one, None))
                check_opened(listening, address, one)
        return opened

    def _bind(self, address: Address, one: ListenerPlan, beside: Sequence[ServerSocket]) -> list[ServerSocket]:
        """Bind what is new; with port 0, what is drained gets the port that it had, unless others have that now."""
        shares = one.service.kind.shares_socket
        port, number = 0 if beside else self.absent.port_before(address, one), one.find_number(address)
        if port:
            try:
                strict = replace(one.settings, optional=False)
                return self._passed.open(address, strict, blocks=shares, port=port, number=number)
            except SockdError:
                if self._serving.lent_until > self._serving.tools.loop.clock():
                    raise  # by workers, which close it in a moment
        return self._passed.open(address, one.settings, blocks=shares, beside=beside, number=number)

    def _commit(self, ready: PreparedReload, then: Callable[[Changes], None]) -> None:
        """Switch over; nothing here fails."""
        serving, settings, made = self._serving, ready.settings, ready.made
        removed = self._not_in(ready.stands)
        sockets = {served.listening: served for served in serving.listeners}
        sockets |= {listening: served for served, listening in ready.renewed.items()}
        replaced = {one: sockets[one.listening] for one in made if one.listening in sockets}
        kept = tuple((str(one), one.plan.service.name) for one in made if one in replaced)
        added = tuple((str(one), one.plan.service.name) for one in made if one not in replaced)
        later = (*later_keys("daemon", self._settings.daemon, settings.daemon), *later_for_rebound(replaced))
        gone = tuple((str(served), served.plan.service.name) for served in removed)
        serving.start(made, replaced)
        for served in made:
            if served not in replaced:
                served.log_start()
        for served in removed:
            self.drain(served)
        ready.renewal.finish()
        self._settings.replace(settings)
        self.absent.replace(ready.plans)
        self._keep(removed)
        serving.when_started(lambda: then(Changes(kept, added, gone, later)))

    def _keep(self, removed: Sequence[ActiveListener]) -> None:
        """Have a manager keep the sockets served now over a restart, by their names of now, and drop the others."""
        before = self._passed.kept
        closed = {served.listening.socket for served in removed}  # others have the same name, as those of localhost
        names = {one.listening.socket: one.plan.find_name(one.address) for one in self._serving.listeners}
        self._passed.kept = [(names.get(sock, name), sock) for name, sock in before if sock not in closed]
        gone = [one[0] for one in before if one not in self._passed.kept]
        self._notifier.keep(self._passed.kept, not_any_more=gone)

    # ---- taken out of service

    def drain(self, served: ActiveListener) -> None:
        """Drain a listener: its queue is emptied, and its connections are closed gracefully."""
        groups = served.listener.groups
        self._serving.remove(served, lambda: self._drain_groups(groups))

    def drain_pages(self) -> None:
        """Close the connections to pages about the daemon gracefully: another process answers there by now.

        Who polls them on a connection that stays open, as Prometheus and browsers do, would never see that one.
        """
        pages = [served for served in self._serving.every() if served.plan.service.kind.is_pages]
        self._drain_groups([group for served in pages for group in served.listener.groups])

    def _drain_groups(self, groups: Sequence[int]) -> None:
        if not groups:
            return
        tools = self._serving.tools
        seconds = self._settings.daemon.stop_timeout
        drain = Drain(
            tools.connections, tools.loop, groups, self._serving, seconds, lambda: self._drains.discard(drain)
        )
        self._drains.add(drain)
        drain.start()


__all__ = ["Reload"]
