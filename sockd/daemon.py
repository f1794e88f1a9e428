"""The composition root: settings in, a serving process out.

Start-up has three phases, and none can be gone round, for each takes what only
the one before returns: `Bound` (log, handlers, pid file and addresses are there, with the
rights we were started with), `Unprivileged` (rights dropped, with
the proof), and only then the first byte is received.  Stopping is its mirror: listen no more, answer
what has come, close in order, within a bound.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sockd import log, log_targets
from sockd.errors import ConfigurationError, HandlerError, SockdError
from sockd.executor import Executor, identified
from sockd.forwarding import Forwarding
from sockd.net import selector
from sockd.net.address import Address
from sockd.net.connection_set import ConnectionSet, Group, Sink
from sockd.net.datagram import DatagramListener
from sockd.net.datagram_rules import DatagramRules
from sockd.net.listener import Listener, Quota, Refusals
from sockd.net.loop import EventLoop
from sockd.net.reserve import Reserve
from sockd.net.resolver import Resolver
from sockd.process import preload, privileges, systemd
from sockd.process.passed import PassedSockets
from sockd.process.pidfile import PidFile
from sockd.process.signals import Signals, settle
from sockd.process.stall import StallWatch
from sockd.process.systemd import Given, Notifier
from sockd.services import hooks, registry
from sockd.services.attach import group_of, sink_of
from sockd.services.builtin import DISCARD
from sockd.wire.framing import Raw
from sockd.wire.state import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.log import OwnHandler
    from sockd.net.sockets import Listening
    from sockd.process.privileges import Dropped, Prepared, Wanted
    from sockd.services.service import ServiceSpec
    from sockd.settings import ListenSettings, Settings

logger = logging.getLogger("sockd.daemon")

OWN_DESCRIPTORS = 64
"""Kept free of connections: listeners, logs, what handlers open."""
SELECT_DESCRIPTORS = 1024
"""FD_SETSIZE of select(2); a descriptor past it cannot be waited for, so none is opened, by handlers neither."""

REFUSED = Group(
    framing=Raw(),
    serve=DISCARD,
    merge=False,
    announce=False,
    high_water=65_536,
    max_buffer=65_536,
    idle_timeout=1,
    frame_timeout=1,
    write_timeout=1,
    linger_timeout=1,
)
"""For connections that are not let in: a second to take the banner, and to be told apart from a reset."""
REFUSED_SHARE = 8
"""One connection in so many may be of those that are being refused; a source that is past its limit fills no more."""


@dataclass(frozen=True)
class Plan:
    """One [[listen]], resolved: its addresses and its service."""

    settings: ListenSettings
    addresses: tuple[Address, ...]
    service: ServiceSpec


def plan(settings: Settings) -> list[Plan]:
    """Resolve every service and address; nothing is bound.

    Raises:
        ConfigurationError: a handler cannot be imported or is none, an address
            is not well formed, or a service cannot answer datagrams.
    """
    specs: dict[str, ServiceSpec] = {}
    plans = []
    for listen in settings.listen:
        if listen.service not in specs:
            specs[listen.service] = identified(registry.resolve(listen.service, settings.service), settings.daemon)
        texts = listen.addresses or ((listen.address,) if listen.address else ())
        addresses = tuple(Address.parse(text) for text in texts)
        spec = specs[listen.service]
        for address in addresses:
            if address.scheme in ("udp", "unixgram"):
                _check_datagrams(address, spec)
        plans.append(Plan(listen, addresses, spec))
    return plans


def _check_datagrams(address: Address, spec: ServiceSpec) -> None:
    if spec.datagram is None:
        other = "a program is for tcp and unix" if spec.program else "a function of one argument can"
        raise HandlerError(f"{address}: service {spec.name} cannot answer datagrams; {other}")


@dataclass(frozen=True)
class Surroundings:
    """Where a daemon runs, and whom it tells what.

    Args:
        ready: called with (address, service) of every listener, once it serves.
        imported: called once every handler is imported, or one could not be.
        check: reads the configuration again and raises what is wrong with it; None where there is no file.
        background: no terminal: the log goes to syslog if nothing else is said, and root needs a user to become.
        root_may_stay: root may serve without the configuration's word.
        given: what systemd, or whoever started us, passed.
    """

    ready: Callable[[Sequence[tuple[str, str]]], None]
    imported: Callable[[], None] = lambda: None
    check: Callable[[], object] | None = None
    background: bool = False
    root_may_stay: bool = False
    given: Given = Given()  # noqa: RUF009 - frozen


@dataclass(frozen=True)
class Bound:
    """What the first phase made with the rights that the second one drops."""

    log: OwnHandler
    listening: list[tuple[Listening, Plan]]
    rights: Prepared


@dataclass(frozen=True)
class Unprivileged:
    """What the third phase serves with."""

    log: OwnHandler
    listening: list[tuple[Listening, Plan]]
    dropped: Dropped


class Daemon:
    """Serves settings until it is told to stop.

    Args:
        settings: checked.
        surroundings: where it runs.
    """

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._settings = settings
        self._surroundings = surroundings
        self._listeners: list[Listener | DatagramListener] = []
        self._stopping = False
        self._at_once = False

    def run(self) -> None:
        """Bind, drop rights, serve, and return once everything is closed.

        Raises:
            ConfigurationError: as plan(); no such user, group or folder; root without a user to become.
            SystemFault, PermissionFault, TemporaryFault: an address, the log or the pid file cannot be had,
                or rights cannot be dropped.
        """
        settle()
        with ExitStack() as stack:
            self._serve(self._drop(self._bind(stack)), stack)

    # ---- start

    def _bind(self, stack: ExitStack) -> Bound:
        """Do everything that may need root's rights."""
        daemon = self._settings.daemon
        wanted = privileges.wanted(
            daemon.user, daemon.group, daemon.chroot, root_may_stay=self._surroundings.root_may_stay
        )
        handler = self._open_log(wanted)
        stack.callback(handler.flush)
        self._manager = systemd.connect(self._surroundings.given.notify)
        if self._manager is not None:
            stack.callback(self._manager.close)
        rights = privileges.prepare(wanted)
        try:
            plans = plan(self._settings)
        finally:
            self._surroundings.imported()
        if daemon.pidfile is not None:
            keeps_root = wanted.account is None or wanted.account.uid == 0
            stack.callback(PidFile(daemon.pidfile, removable=keeps_root).release)
        self._executor = Executor((one.service for one in plans), wanted.owner, stack)
        self._forwarding = Forwarding((one.service for one in plans), stack)
        self._passed = PassedSockets(self._surroundings.given)
        stack.callback(self._passed.close)
        listening = self._listen(plans, stack)
        if wanted.chroot is not None:
            preload.load()
        return Bound(handler, listening, rights)

    def _open_log(self, wanted: Wanted) -> OwnHandler:
        settings = self._settings.daemon.log
        to = settings.to or ("syslog" if self._surroundings.background else "stderr")
        if to != "stderr":
            return log_targets.open_target(replace(settings, to=to), owner=wanted.owner)
        if self._surroundings.background:
            text = '"stderr" leads nowhere in the background; write "syslog", "journal" or a file'
            raise ConfigurationError(f"daemon.log.to: {text}, or use --foreground")
        return log.configure(settings, sys.stderr)

    def _listen(self, plans: list[Plan], stack: ExitStack) -> list[tuple[Listening, Plan]]:
        listening = []
        for one in plans:
            for address in one.addresses:
                for opened in self._passed.open(address, one.settings):
                    stack.callback(opened.close)
                    listening.append((opened, one))
                    if opened.endpoint.type == socket.SOCK_DGRAM:
                        _check_datagrams(address, one.service)
        return listening

    def _drop(self, bound: Bound) -> Unprivileged:
        """Give up what serving does not need, for good; raises if that cannot be proven."""
        dropped = privileges.drop(bound.rights)
        account = dropped.account
        if account is not None and account.uid != 0:
            event = {"user": account.user, "uid": account.uid, "gid": account.gid, "groups": list(account.groups)}
            event |= {"threads": dropped.threads}
            event |= {"chroot": self._settings.daemon.chroot} if self._settings.daemon.chroot else {}
            logger.info("rights dropped", extra={"event": event})
        elif os.geteuid() == 0:
            logger.warning("serving as root; set [daemon] user to serve as another")
        return Unprivileged(bound.log, bound.listening, dropped)

    def _serve(self, start: Unprivileged, stack: ExitStack) -> None:
        """Receive the first byte, and all others."""
        self._log = start.log
        self._build(stack)
        self._attach(start.listening, stack)
        hooks.start([one.service for _, one in start.listening], stack)
        for listener, (listening, _) in zip(self._listeners, start.listening, strict=True):
            listener.start()
            event = {"address": str(listener), "service": listener.service}
            event |= {"passed": listening.passed} if listening.passed else {}
            logger.info("listening", extra={"event": event})
        self._notifier.keep(self._passed.kept, not_any_more=self._passed.close_rest())
        self._notifier.ready(self._status())
        self._notifier.watch(self._surroundings.given.watchdog, self._status)
        self._surroundings.ready([(str(listener), listener.service) for listener in self._listeners])
        self._loop.run()
        self._drain()

    def _build(self, stack: ExitStack) -> None:
        name = self._settings.daemon.multiplexer
        files = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._capacity = self._room()
        self._connections = ConnectionSet(
            size=self._capacity, memory=self._settings.daemon.max_memory, epoll=selector.waits_in_set(name)
        )
        stack.callback(self._connections.close)
        chosen = selector.choose(name, self._connections)
        stack.callback(chosen.close)
        self._loop = EventLoop(chosen, time.monotonic)
        stack.callback(self._loop.close)
        if self._settings.daemon.stall_time:
            watch = StallWatch(self._settings.daemon.stall_time, self._loop.clock)
            stack.callback(watch.close)
            self._loop.watch = watch
        self._notifier = Notifier(self._manager, self._loop)
        self._executor.begin(self._loop, files)
        self._forwarding.begin(self._loop)
        self._resolver = Resolver(self._loop)
        stack.callback(self._resolver.close)
        self._connections.name_of = self._resolver.known
        signals = Signals(
            {
                signal.SIGHUP: self._reload_telling,
                signal.SIGUSR1: self._reopen_log,
                signal.SIGCHLD: self._executor.reap,
                signal.SIGTERM: self._stop,
                signal.SIGINT: self._stop_at_once,
                signal.SIGQUIT: self._stop_at_once,
            }
        )
        stack.callback(signals.close)
        signals.install()
        self._loop.add_reader(signals.fileno(), signals.handle)

    def _room(self) -> int:
        """Return max_connections, or what select(2) can wait for."""
        wanted = self._settings.daemon.max_connections
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        selects = self._settings.daemon.multiplexer == "select"
        soft = SELECT_DESCRIPTORS if selects and not 0 <= hard < SELECT_DESCRIPTORS else hard  # RLIM_INFINITY is -1
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        forwarded = self._forwarding.most
        own = OWN_DESCRIPTORS + self._executor.most
        own += (
            min(forwarded, SELECT_DESCRIPTORS // 2) if selects else forwarded
        )  # with select() they share what there is
        own += sum(len(listen.addresses) or 1 for listen in self._settings.listen)
        if hard != resource.RLIM_INFINITY and hard < wanted + own:
            event = {"max_connections": wanted, "descriptors": hard, "own": own}
            logger.warning("fewer descriptors than max_connections may need", extra={"event": event})
        if not selects or wanted + own <= SELECT_DESCRIPTORS:
            return wanted
        if own >= SELECT_DESCRIPTORS:
            raise ConfigurationError(
                f'daemon.multiplexer: "select" waits for {SELECT_DESCRIPTORS} descriptors (FD_SETSIZE), '
                f"{own - OWN_DESCRIPTORS} listeners leave none for a connection; use auto, epoll or poll"
            )
        event = {"max_connections": wanted, "connections": SELECT_DESCRIPTORS - own, "descriptors": SELECT_DESCRIPTORS}
        logger.warning("select() cannot wait for as many connections; use another multiplexer", extra={"event": event})
        return SELECT_DESCRIPTORS - own

    def _attach(self, bound: list[tuple[Listening, Plan]], stack: ExitStack) -> None:
        reserve = Reserve()
        stack.callback(reserve.close)
        refusals = Refusals(self._connections, REFUSED, max(1, self._capacity // REFUSED_SHARE))
        groups: dict[int, tuple[Sink, Quota]] = {}
        for listening, one in bound:
            spec = one.service
            if listening.endpoint.type == socket.SOCK_DGRAM:
                assert spec.datagram is not None
                rules = DatagramRules(one.settings, self._loop.clock, small=spec.small)
                self._listeners.append(DatagramListener(listening, spec.datagram, self._loop, spec.name, rules))
                continue
            if id(spec) not in groups:
                groups[id(spec)] = sink_of(spec, self._connections, self._loop), Quota(spec.most)
            sink, quota = groups[id(spec)]
            names = one.settings.names
            handover = self._executor.handover(spec, self._resolver, names=names)
            handover = handover or self._forwarding.handover(spec, self._resolver, names=names)
            self._listeners.append(
                Listener(
                    listening,
                    one.settings,
                    connections=self._connections,
                    group=self._connections.add_group(group_of(spec), sink),
                    refusals=refusals,
                    quota=quota,
                    reserve=reserve,
                    loop=self._loop,
                    resolver=self._resolver,
                    service=spec.name,
                    handover=handover,
                )
            )

    # ---- while it serves

    def _reopen_log(self) -> None:
        """Open the log's file and those of programs anew, for they were renamed; the old one is kept if that fails."""
        self._executor.reopen()
        try:
            self._log.reopen()
        except SockdError as error:
            logger.error("log not reopened, going on with the old one", extra={"event": {"error": str(error)}})
        else:
            logger.info("log reopened")

    def _status(self) -> str:
        """Say in words how it goes, for systemctl status."""
        connections, listeners = self._count(), len(self._listeners)
        return (
            f"serving, {connections} connection{'s'[: connections != 1]}, {listeners} listener{'s'[: listeners != 1]}"
        )

    def _count(self) -> int:
        """Return how many connections are served, by whomever."""
        return len(self._connections) + len(self._executor) + len(self._forwarding)

    def _reload_telling(self) -> None:
        with self._notifier.reloading(self._status):
            self._reload()

    def _reload(self) -> None:
        """Open the log anew, and tell whether the configuration would do for the next start."""
        self._reopen_log()
        self._forwarding.reread()
        if self._surroundings.check is None:
            logger.info("no configuration file to check")
            return
        try:
            self._surroundings.check()
        except SockdError as error:
            for line in str(error).splitlines():
                logger.error("configuration is wrong, going on with the old one", extra={"event": {"error": line}})
        else:
            logger.info("configuration is in order; a change takes effect at the next start")

    # ---- stop

    def _stop(self) -> None:
        """Stop in order; the second time, at once."""
        if self._stopping:
            self._stop_at_once()
        self._stopping = True
        self._loop.stop()

    def _stop_at_once(self) -> None:
        self._at_once = True
        self._loop.stop()

    def _drain(self) -> None:
        """Close the listeners, answer what was accepted, close in order, within stop_timeout."""
        programs = {"programs": len(self._executor)} if len(self._executor) else {}
        logger.info("stopping", extra={"event": {"connections": len(self._connections), **programs}})
        self._notifier.stopping("stopping", self._settings.daemon.stop_timeout)
        for listener in self._listeners:
            listener.close()
        end = self._loop.clock() + self._settings.daemon.stop_timeout
        half = end - self._settings.daemon.stop_timeout / 2
        while not self._at_once and self._loop.clock() < half and self._connections.shut_quiet(CloseReason.SHUTDOWN):
            self._turn(min(half, self._loop.clock() + 0.05))
        self._connections.shut_all(CloseReason.SHUTDOWN)
        while not self._at_once and self._loop.clock() < end and self._count():
            self._turn(end)
        self._executor.end(lambda: self._at_once)
        self._forwarding.end()
        left = len(self._connections)
        logger.info("stopped", extra={"event": {"connections_left": left} if left else {}})

    def _turn(self, until: float) -> None:
        self._loop.run_once(max(0.0, until - self._loop.clock()))
