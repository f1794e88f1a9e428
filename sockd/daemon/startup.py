# SPDX-License-Identifier: MIT
"""A start, until the first byte may come: what needs the rights that the process was started with, then their drop.

A start has three phases, and none can be skipped, because each needs what only the previous one returns: `Bound` of
the first (log, handlers, pid file and addresses are open), `Unprivileged` of the second (privileges are dropped, and
that is verified); in the third one the first byte is received (sockd.daemon.runtime, sockd.daemon.daemon).
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeAlias

from sockd import lazy
from sockd.daemon.effective import EffectiveSettings
from sockd.daemon.lineage import Lineage
from sockd.daemon.plan import check_opened, plan
from sockd.daemon.programs import ProgramFiles
from sockd.daemon.proxies import ProxyFiles
from sockd.errors import ConfigurationError, fault, under_key
from sockd.lazy import importlib_util, lazily, load_all
from sockd.log import format as log_format
from sockd.log import targets
from sockd.net.loop.loop import loop_class
from sockd.process import privileges, sd_notify
from sockd.process.descriptors import standard_streams_kept
from sockd.process.inherited_sockets import InheritedSockets
from sockd.process.privileges import why_unreadable
from sockd.process.stop_bound import install_signals
from sockd.settings.daemon import NO_CONTROL
from sockd.values import dataclass, replace

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from sockd.daemon.context import StartContext
    from sockd.daemon.control import http_pages
    from sockd.daemon.plan import ListenerPlan
    from sockd.log.format import OwnHandler
    from sockd.net.address.address import Address
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.loop.loop import EventLoop
    from sockd.process import directory_keeper
    from sockd.process.privileges import Account, Dropped, PreparedDrop, Wanted
    from sockd.process.signals import Signals
    from sockd.services import reimport
    from sockd.settings import DaemonSettings, Settings
else:
    directory_keeper = lazily("sockd.process.directory_keeper")
    http_pages = lazily("sockd.daemon.control.http_pages")
    reimport = lazily("sockd.services.reimport", resident=True)

logger = logging.getLogger("sockd.daemon")

Opened: TypeAlias = "tuple[Address, ServerSocket, ListenerPlan]"
"""An address as written, its socket, and its service."""


@dataclass(frozen=True)
class ServingProcess:
    """What is of the process itself, before anything is opened."""

    context: StartContext
    settings: EffectiveSettings
    signals: Signals
    lineage: Lineage

    @classmethod
    def create(cls, settings: Settings, context: StartContext) -> ServingProcess:
        """Return this process, with its signals taken over, and its stops limited in time."""
        signals = context.signals or install_signals(log_format.for_a_start(sys.stderr))
        effective = EffectiveSettings(settings)
        process = cls(context, effective, signals, Lineage(effective, context))
        process.allow_stop(settings)
        return process

    def allow_stop(self, settings: Settings) -> None:
        """Limit the time of a stop, from the first TERM on, to that of the configuration."""
        self.signals.bound.allow(settings.daemon.pre_drain + settings.daemon.stop_timeout)

    @contextmanager
    def kept_from_handlers(self) -> Iterator[None]:
        """Restore signals and the log after the body, in which handlers' code runs: imports and hooks."""
        try:
            with standard_streams_kept(), log_format.kept():
                yield
        finally:
            self.signals.reclaim()


@dataclass(frozen=True)
class Resources:
    """What a start opens for serving.

    Attributes:
        log: of the process.
        plans: of what is to be served where.
        listening: each address, and the socket that it is.
        manager: way to the service manager; None without one.
        programs, proxies: files of services that have some.
        passed: sockets that whoever started the process had opened.
        control: the control socket.
        loop_class: of the loop that these services need.
    """

    log: OwnHandler
    plans: list[ListenerPlan]
    listening: list[Opened]
    manager: socket.socket | None
    programs: ProgramFiles
    proxies: ProxyFiles
    passed: InheritedSockets
    control: ServerSocket | None
    loop_class: type[EventLoop]


@dataclass(frozen=True)
class Bound:
    """Results of the first phase, made with the privileges that the second one drops."""

    resources: Resources
    rights: PreparedDrop


@dataclass(frozen=True)
class Unprivileged:
    """What the third phase serves with."""

    resources: Resources
    dropped: Dropped


def open_log(daemon: DaemonSettings, wanted: Wanted, *, background: bool) -> OwnHandler:
    """Open the log of a daemon.

    Raises:
        ConfigurationError: standard error is not available.
        SystemFault, PermissionFault: it cannot be opened.
    """
    settings = daemon.log
    to = settings.to or ("syslog" if background else "stderr")
    if to != "stderr":
        return targets.open_target(replace(settings, to=to), owner=wanted.owner, rooted=wanted.chroot is not None)
    if background:
        text = '"stderr" cannot be used in the background; write "syslog", "journal" or a file'
        raise ConfigurationError(f"{text}, or use --foreground", key=targets.KEY)
    return log_format.configure(settings, sys.stderr)


def listen(plans: list[ListenerPlan], passed: InheritedSockets, stack: ExitStack) -> list[Opened]:
    """Open the address of every plan; the stack closes them.

    Raises:
        SystemFault, PermissionFault, TemporaryFault: one cannot be opened.
        HandlerError: a service cannot answer datagrams, and a datagram socket was passed for it.
    """
    listening = []
    passed.wanted = Counter((address, one.settings.service) for one in plans for address in one.addresses)
    for one in plans:
        for address in one.addresses:
            shares, number = one.service.kind.shares_socket, one.find_number(address)
            with under_key(*one.find_key(address)):
                found = passed.open(address, one.settings, blocks=shares, number=number)
            for opened in found:
                stack.callback(opened.close)
                listening.append((address, opened, one))
                check_opened(opened, address, one)
    return listening


def _hides_library(account: Account | None) -> bool:
    """Tell whether an account cannot read Python, sockd, or what is installed beside them."""
    if account is None:
        return False
    beside = importlib_util.find_spec("msgspec")
    paths = (os.__file__, lazy.__file__, (beside and beside.origin) or "")
    return any(why_unreadable(path, account) for path in paths)


class Start:
    """The first two phases.

    Args:
        process: that starts.
        stack: closes what is opened.
        open_log: replaces the function here.
        listen: likewise.
    """

    def __init__(
        self,
        process: ServingProcess,
        stack: ExitStack,
        open_log: Callable[[DaemonSettings, Wanted], OwnHandler] | None = None,
        listen: Callable[[list[ListenerPlan], InheritedSockets, ExitStack], list[Opened]] = listen,
    ) -> None:
        self._process = process
        self._stack = stack
        self._open_log = open_log
        self._listen = listen

    def run(self) -> Unprivileged:
        """Return what to serve with; raises as bind() and drop()."""
        return self.drop(self.bind())

    def bind(self) -> Bound:
        """Do everything that may need root's rights.

        Raises:
            ConfigurationError: as plan(); no such user, group or directory; root without a user to switch to.
            SystemFault, PermissionFault, TemporaryFault: an address, the log or the pid file cannot be opened.
        """
        process, stack, context = self._process, self._stack, self._process.context
        daemon = process.settings.daemon
        wanted = privileges.wanted(daemon.user, daemon.group, daemon.chroot, root_may_stay=context.root_may_stay)
        handler = self._opened_log(wanted)
        stack.callback(handler.flush)
        process.signals.bound.set_log_target(handler)
        manager = sd_notify.connect(context.given.notify)
        if manager is not None:
            stack.callback(manager.close)
        rights = privileges.prepare(wanted)
        plans = self._planned()
        if daemon.pidfile is not None:
            drops = wanted.account is not None and wanted.account.uid != 0
            process.lineage.lock(daemon.pidfile, stack, account=wanted.account if drops else None)
        rooted = wanted.chroot is not None
        programs = ProgramFiles((one.service for one in plans), wanted.owner, stack, rooted=rooted)
        asyncio = any(one.service.kind.may_use_asyncio for one in plans)
        proxies = ProxyFiles((one.service for one in plans), stack)
        passed = InheritedSockets(context.given)
        stack.callback(passed.close)
        listening = self._listen(plans, passed, stack)
        control = process.lineage.listen(daemon.control, stack) if daemon.control not in (None, NO_CONTROL) else None
        self._load(wanted)
        resources = Resources(
            log=handler,
            plans=plans,
            listening=listening,
            manager=manager,
            programs=programs,
            proxies=proxies,
            passed=passed,
            control=control,
            loop_class=loop_class(asyncio=asyncio),
        )
        return Bound(resources, rights)

    def _load(self, wanted: Wanted) -> None:
        """Import what may be used later, where that will not be possible: as a rule a module is imported when it is
        used (sockd.lazy).
        """
        if wanted.chroot is None and not _hides_library(wanted.account):
            return
        load_all()
        privileges.load_late_modules()
        reimport.installed()
        http_pages.read_status_page()
        if wanted.chroot is not None:
            privileges.load_before_chroot()

    def _opened_log(self, wanted: Wanted) -> OwnHandler:
        daemon = self._process.settings.daemon
        if self._open_log is not None:
            return self._open_log(daemon, wanted)
        return open_log(daemon, wanted, background=self._process.context.background)

    def _planned(self) -> list[ListenerPlan]:
        gc.freeze()  # what is imported stays: neither the first collection, nor that at the end, looks at it
        try:
            with self._process.kept_from_handlers():
                return plan(self._process.settings.current)
        finally:
            gc.enable()  # which was disabled while modules were imported (sockd.cli.start)
            self._process.context.imported()

    def drop(self, bound: Bound) -> Unprivileged:
        """Give up what serving does not need, for good.

        Raises:
            SystemFault, PermissionFault: that cannot be proven.
        """
        chroot = self._process.settings.daemon.chroot
        wanted = bound.rights.wanted
        if wanted.chroot is not None and wanted.account is not None and wanted.account.uid != 0:
            try:
                directory_keeper.hold_outside(wanted.account)
            except OSError as error:
                subject = f"{wanted.chroot}: cannot start the process that keeps directories outside it"
                with under_key("daemon", "chroot"):
                    raise fault(error, subject) from None
        dropped = privileges.drop(bound.rights)
        self._process.context.dropped()
        account = dropped.account
        if account is not None and account.uid != 0:
            event = {"user": account.user, "uid": account.uid, "gid": account.gid, "groups": list(account.groups)}
            event |= {"threads": dropped.threads}
            event |= {"chroot": chroot} if chroot else {}
            logger.info("privileges dropped", extra={"event": event})
        elif os.geteuid() == 0:
            logger.warning("serving as root; set [daemon] user to switch to another user")
        return Unprivileged(bound.resources, dropped)


__all__ = ["Bound", "Opened", "Resources", "ServingProcess", "Start", "Unprivileged", "listen", "open_log"]
