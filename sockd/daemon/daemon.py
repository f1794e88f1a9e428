# SPDX-License-Identifier: MIT
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
import selectors
import signal
import socket
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from sockd.daemon.control.commands import ControlCommands
from sockd.daemon.control.http_pages import MetricsPages, read_status_page
from sockd.daemon.control.server import ControlServer
from sockd.daemon.drain import Drain
from sockd.daemon.instances import Runtime
from sockd.daemon.lineage import Lineage
from sockd.daemon.listeners import ListenerRegistry
from sockd.daemon.plan import check_datagrams, plan
from sockd.daemon.programs import KILLED_SECONDS, ProgramRunner
from sockd.daemon.proxies import ProxyServers
from sockd.daemon.reload import Reload
from sockd.daemon.startup import PAGE_CONNECTIONS, REFUSED, REFUSED_SHARE, Bound, Unprivileged, room
from sockd.errors import ConfigurationError, SockdError, TemporaryFault, fault
from sockd.log import format as log_format
from sockd.log import targets
from sockd.net.address.address import known_services
from sockd.net.connect.reverse_dns import ReverseDns
from sockd.net.connection import selector
from sockd.net.connection.table import ConnectionTable
from sockd.net.listen.overload import RejectedConnections, SpareDescriptor
from sockd.net.loop.defects import Defects
from sockd.net.loop.loop import EventLoop, loop_class
from sockd.net.loop.thread_pool import ThreadPool
from sockd.process import preload, privileges, sd_notify
from sockd.process.children import KILL_SECONDS
from sockd.process.directory_keeper import hold_outside
from sockd.process.inherited_sockets import InheritedSockets
from sockd.process.sd_notify import Notifier
from sockd.process.stall_detector import StallDetector
from sockd.process.stop_bound import take_over
from sockd.services.handlers import needs_asyncio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sockd.daemon.config_diff import ReloadResult
    from sockd.daemon.context import StartContext
    from sockd.daemon.control.server import Verb
    from sockd.daemon.plan import ListenerPlan
    from sockd.daemon.startup import Opened
    from sockd.log.format import OwnHandler
    from sockd.process.privileges import Wanted
    from sockd.services.builtin.http import Later, Page
    from sockd.settings import Settings

logger = logging.getLogger("sockd.daemon")


class Daemon:
    """Serves settings until it is told to stop.

    Args:
        settings: checked.
        surroundings: where it runs.
    """

    def __init__(self, settings: Settings, context: StartContext) -> None:
        self._settings = settings
        self._context = context
        self._stopping = False
        self._is_draining = False
        self._generations = Lineage(settings.daemon, context)
        self._version = version("sockd")  # these two now: chroot(2) hides what they are read from
        self._status_page = read_status_page()
        self._at_once = False
        self._is_wanted_again = False
        self._controlling: ControlServer | None = None

    def run(self) -> None:
        """Bind, drop rights, serve, and return once everything is closed.

        Raises:
            ConfigurationError: as plan(); no such user, group or directory; root without a user to become.
            SystemFault, PermissionFault, TemporaryFault: an address, the log or the pid file cannot be had,
                or rights cannot be dropped.
        """
        self._signals = self._context.signals or take_over(log_format.for_a_start(sys.stderr))
        self._bound = self._signals.bound
        self._allow_stop(self._settings)
        with ExitStack() as stack:
            self._serve(self._drop(self._bind(stack)), stack)

    # ---- start

    def _bind(self, stack: ExitStack) -> Bound:
        """Do everything that may need root's rights."""
        daemon = self._settings.daemon
        wanted = privileges.wanted(daemon.user, daemon.group, daemon.chroot, root_may_stay=self._context.root_may_stay)
        handler = self._open_log(wanted)
        stack.callback(handler.flush)
        self._bound.tell(handler)
        self._manager = sd_notify.connect(self._context.given.notify)
        if self._manager is not None:
            stack.callback(self._manager.close)
        rights = privileges.prepare(wanted)
        try:
            with self._kept_from_handlers():
                plans = plan(self._settings)
        finally:
            self._context.imported()
        if daemon.pidfile is not None:
            drops = wanted.account is not None and wanted.account.uid != 0
            self._generations.lock(daemon.pidfile, stack, account=wanted.account if drops else None)
        rooted = wanted.chroot is not None
        self._executor = ProgramRunner((one.service for one in plans), wanted.owner, stack, rooted=rooted)
        self._loop_class = loop_class(asyncio=any(needs_asyncio(one.service) for one in plans))
        self._forwarding = ProxyServers((one.service for one in plans), stack)
        self._passed = InheritedSockets(self._context.given)
        stack.callback(self._passed.close)
        listening = self._listen(plans, stack)
        self._control = self._generations.listen(daemon.control, stack) if daemon.control else None
        self._services = known_services() if daemon.chroot else None
        if wanted.chroot is not None:
            preload.load()
        return Bound(handler, listening, rights)

    @contextmanager
    def _kept_from_handlers(self) -> Iterator[None]:
        """Keep signals and the log ours, whatever handlers do to them in the body: when they are imported, in hooks."""
        try:
            with log_format.kept():
                yield
        finally:
            self._signals.reclaim()

    def _allow_stop(self, settings: Settings) -> None:
        """Let a stop in order take as long as the configuration says, from the first TERM on."""
        self._bound.allow(settings.daemon.pre_drain + settings.daemon.stop_timeout)

    def _open_log(self, wanted: Wanted) -> OwnHandler:
        settings = self._settings.daemon.log
        to = settings.to or ("syslog" if self._context.background else "stderr")
        if to != "stderr":
            return targets.open_target(replace(settings, to=to), owner=wanted.owner, rooted=wanted.chroot is not None)
        if self._context.background:
            text = '"stderr" leads nowhere in the background; write "syslog", "journal" or a file'
            raise ConfigurationError(f"daemon.log.to: {text}, or use --foreground")
        return log_format.configure(settings, sys.stderr)

    def _listen(self, plans: list[ListenerPlan], stack: ExitStack) -> list[Opened]:
        listening = []
        for one in plans:
            for address in one.addresses:
                for opened in self._passed.open(address, one.settings):
                    stack.callback(opened.close)
                    listening.append((address, opened, one))
                    if opened.endpoint.type == socket.SOCK_DGRAM:
                        check_datagrams(address, one.service)
        return listening

    def _drop(self, bound: Bound) -> Unprivileged:
        """Give up what serving does not need, for good; raises if that cannot be proven."""
        wanted = bound.rights.wanted
        if wanted.chroot is not None and wanted.account is not None and wanted.account.uid != 0:
            try:
                hold_outside(wanted.account)
            except OSError as error:
                raise fault(error, f"daemon.chroot: {wanted.chroot}: nobody holds the directories outside") from None
        dropped = privileges.drop(bound.rights)
        self._context.dropped()
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
        unused = self._passed.close_rest()  # before workers are forked, who would hold them open
        self._attach(start.listening, stack)
        self._generations.take_over(stack)
        self._notifier.keep(self._passed.kept, not_any_more=unused)
        self._notifier.ready(self._status())
        self._notifier.watch(self._context.given.watchdog, self._status)
        self._context.ready([(str(served), served.run.spec.name) for served in self._serving.listeners])
        self._act_on_signals(self._actions())  # not before it serves: what came meanwhile is acted on in order
        self._loop.run()
        self._drain()

    def _build(self, stack: ExitStack) -> None:
        name = self._settings.daemon.multiplexer
        self._capacity = room(self._settings, programs=self._executor.most, forwarded=self._forwarding.most)
        defects = Defects(time.monotonic)
        self._connections = ConnectionTable(
            size=self._capacity + PAGE_CONNECTIONS,
            kept=PAGE_CONNECTIONS,
            memory=self._settings.daemon.max_memory,
            epoll=selector.waits_in_set(name),
            defects=defects,
        )
        stack.callback(self._connections.close)
        chosen = selector.choose(name, self._connections)
        stack.callback(chosen.close)
        self._loop: EventLoop = self._loop_class(chosen, time.monotonic, defects)
        stack.callback(self._loop.close)
        self._pool = ThreadPool(self._settings.daemon.threads, self._loop)
        stack.callback(self._pool.close)
        if self._settings.daemon.stall_time:
            watch = StallDetector(self._settings.daemon.stall_time, self._loop.clock)
            stack.callback(watch.close)
            self._loop.watch = watch
        self._notifier = Notifier(self._manager, self._loop)
        self._executor.begin(self._loop, self._generations.files)
        self._forwarding.begin(self._loop)
        self._resolver = ReverseDns(self._loop)
        stack.callback(self._resolver.close)
        self._connections.name_of = self._resolver.known

    def _act_on_signals(self, actions: Mapping[signal.Signals, Callable[[], None]]) -> None:
        """Have what came, and comes, acted on in the loop; an action that fails keeps no other from being taken."""
        self._signals.act({number: partial(self._loop.attempt, act) for number, act in actions.items()})
        self._loop.watch_fd(self._signals.fileno(), selectors.EVENT_READ, self._signals.handle, urgent=True)

    def _actions(self) -> dict[signal.Signals, Callable[[], None]]:
        """Say what is done on each signal."""
        return {
            signal.SIGHUP: self._hang_up,
            signal.SIGUSR1: self._reopen_log,
            signal.SIGUSR2: self._generations.upgrade_by_signal,
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop_at_once,
            signal.SIGQUIT: self._stop_at_once,
            signal.SIGCHLD: self._executor.reap,  # behind these: workers may have ended because of them
        }

    def _attach(self, bound: list[Opened], stack: ExitStack) -> None:
        """Make the listeners, start what services start, and accept."""
        self._reserve = SpareDescriptor()
        stack.callback(self._reserve.close)
        self._serving = self._serving_with(self._tools())
        stack.callback(self._serving.close)
        self._reloading = Reload(
            self._settings,
            self._serving,
            self._passed,
            self._notifier,
            read=self._context.check,
            services=self._services,
            apply=self._apply,
            guarded=self._kept_from_handlers,
        )
        self._asked = ControlCommands(
            self, self._serving, self._reloading, self._generations, self._version, logging.getLogger()
        )
        self._pages = MetricsPages(
            self._asked,
            self._serving,
            self._reloading,
            status_page=self._status_page,
            most=self._most,
            started=self._generations.started,
            others=self._usage_of_others,
        )
        if self._control is not None:
            users = frozenset((0, self._generations.starter))
            self._controlling = ControlServer(self._control, self._loop, users, self._verbs())
            stack.callback(self._controlling.close)
        reloading = self._reloading
        self._generations.begin(
            self._serving, self._notifier, self._controlling, reloading.drain, self._count, self._stop, reloading.check
        )
        stack.callback(self._generations.let_go)
        self._begin(bound)

    @property
    def _most(self) -> int:
        """How many connections may be open at once."""
        return self._capacity

    def _usage_of_others(self) -> Mapping[str, float]:
        """Return what processes take that serve beside this one."""
        return {}

    def _tools(self) -> Runtime:
        """Return what listeners are made with."""
        return Runtime(
            connections=self._connections,
            loop=self._loop,
            pool=self._pool,
            resolver=self._resolver,
            executor=self._executor,
            forwarding=self._forwarding,
            refusals=RejectedConnections(self._connections, REFUSED, max(1, self._capacity // REFUSED_SHARE)),
            reserve=self._reserve,
            trace=self._context.trace,
        )

    def _serving_with(self, tools: Runtime) -> ListenerRegistry:
        return ListenerRegistry(tools, self._page)

    def _verbs(self) -> dict[str, Verb]:
        """Return what answers each verb of the control socket."""
        return self._asked.verbs()

    def _begin(self, bound: list[Opened]) -> None:
        """Accept."""
        with self._kept_from_handlers():  # in their startup hooks
            begun = self._serving.begin(bound)
        for served in begun:
            event = {"address": str(served), "service": served.run.spec.name}
            event |= {"passed": served.listening.passed} if served.listening.passed else {}
            logger.info("listening", extra={"event": event})

    def _page(self, path: str) -> Page | Later | None:
        return self._pages.page(path)

    # ---- while it serves

    def _reopen_log(self) -> None:
        """Open the log's file and those of programs anew, for they were renamed; the old one is kept if that fails."""
        self._executor.reopen()
        self._forwarding.reread()
        try:
            self._log.reopen()
        except SockdError as error:
            logger.error("log not reopened, going on with the old one", extra={"event": {"error": str(error)}})
        else:
            logger.info("log reopened")
        self._bound.tell(self._log)

    def _status(self) -> str:
        """Say in words how it goes, for systemctl status."""
        connections, listeners = self._count(), len(self._serving.listeners)
        text = f"serving, {connections} connection{'s'[: connections != 1]}"
        text += f", {listeners} listener{'s'[: listeners != 1]}"
        last = self._reloading.last
        return f"{text}; not reloaded: {last.error.splitlines()[0]}" if last is not None and last.error else text

    def _count(self) -> int:
        """Return how many connections are served, by whomever."""
        return len(self._connections) + len(self._executor) + len(self._forwarding)

    def _hang_up(self) -> None:
        """Do what SIGHUP is for: open the log anew, and serve by the configuration as it is now."""
        if self._context.check is None:
            self._notifier.reload_begins()
            self._reopen_log()
            self._notifier.reload_ends(self._status())
            logger.info("no configuration file to read again")
        elif not self._stopping:
            with suppress(TemporaryFault):  # the new process of an upgrade reads it by itself
                self._reload_again()

    def _reload_again(self) -> None:
        """Reload; when that is under way already, once more behind it, for the file may have been read before."""
        if self._reloading.is_under_way:
            self._is_wanted_again = True
        else:
            self.reload(lambda result: None)

    # ---- what sockctl asks for

    def state(self) -> str:
        """Return serving, not-ready (it serves still, but not for long) or stopping."""
        return "stopping" if self._is_draining else "not-ready" if self._stopping else "serving"

    def reload(self, then: Callable[[ReloadResult], None]) -> None:
        """Open the log anew, and serve by the configuration as it is now, or as before where that is wrong.

        Args:
            then: called once with how it went.

        Raises:
            TemporaryFault: it is not the time for that.
        """
        if self._stopping:
            raise TemporaryFault("the daemon is stopping, and reloads no more")
        self._generations.check()
        self._reloading.check()
        self._notifier.reload_begins()
        self._reopen_log()
        self._generations.renew_control()

        def done(result: ReloadResult) -> None:
            if not self._stopping:
                self._notifier.reload_ends(self._status())
            then(result)
            if self._is_wanted_again:
                self._is_wanted_again = False
                self._hang_up()

        self._reloading.reload(done)

    def stop(self) -> None:
        """Stop in order, behind the answer to whoever asked."""
        self._loop.call_soon(self._stop)

    def read(self, text: str, name: str) -> Settings:
        """Read the text of a configuration, as that of our own file is read; raises ConfigurationError."""
        if self._context.parse is None:
            raise ConfigurationError("there is no configuration file, so no other can take its place")
        return self._context.parse(text, name)

    def _apply(self, settings: Settings) -> None:
        """Have those keys of [daemon] take effect that can be changed while it serves."""
        self._connections.limit_memory(settings.daemon.max_memory)
        logging.getLogger().setLevel(log_format.LEVELS[settings.daemon.log.level])
        self._settings = settings
        self._allow_stop(settings)
        self._generations.daemon = settings.daemon

    # ---- stop

    def _stop(self) -> None:
        """Stop in order, after pre_drain; the second time, at once."""
        if self._stopping:
            self._stop_at_once()
            return
        self._stopping = True
        self._generations.give_up("the daemon is stopping")
        self._serving.give_up(TemporaryFault("the daemon is stopping"))
        daemon = self._settings.daemon
        self._bound.within(daemon.pre_drain + daemon.stop_timeout)
        self._notifier.stopping("stopping", daemon.pre_drain + daemon.stop_timeout)
        if not daemon.pre_drain:
            self._loop.stop()
            return
        logger.info("not ready any more, and serving on", extra={"event": {"seconds": daemon.pre_drain}})
        self._loop.call_later(daemon.pre_drain, self._loop.stop)

    def _stop_at_once(self) -> None:
        self._at_once = True
        self._bound.at_once()
        self._loop.stop()

    def _drain(self) -> None:
        """Close the listeners, answer what was accepted, close in order, within stop_timeout."""
        self._is_draining = True
        self._generations.let_go()
        seconds = self._settings.daemon.stop_timeout
        self._bound.within(seconds)
        programs = {"programs": len(self._executor)} if len(self._executor) else {}
        logger.info("stopping", extra={"event": {"connections": len(self._connections), **programs}})
        if not self._stopping:
            self._notifier.stopping("stopping", seconds)
            self._stopping = True
        end = self._loop.clock() + seconds
        self._serving.close_listeners()
        if not self._at_once:
            self._generations.put_away()
        drain = Drain(self._connections, self._loop, None, self._serving, seconds, self._loop.stop)
        if not self._at_once:
            self._loop.call_soon(drain.start)
            self._loop.run()
        while not self._at_once and self._loop.clock() < end and self._is_at_work:
            self._loop.run_once(max(0.0, end - self._loop.clock()))
        self._connections.tell_unfinished()
        self._pool.tell_unfinished()
        if len(self._executor):
            self._bound.within(KILL_SECONDS + KILLED_SECONDS)
            self._notifier.stopping("ending programs", KILL_SECONDS + KILLED_SECONDS)
        self._executor.end(lambda: self._at_once)
        self._bound.within(end - self._loop.clock())  # for hooks, threads, and what runs at Python's end
        self._forwarding.end()
        left = max(drain.left, len(self._connections))
        logger.info("stopped", extra={"event": {"connections_left": left} if left else {}})

    @property
    def _is_at_work(self) -> bool:
        """Whether programs, what is forwarded, coroutines or threads have not ended."""
        others = len(self._executor) + len(self._forwarding)
        return bool(others or self._connections.at_work or self._pool.at_work or self._loop.unfinished)
