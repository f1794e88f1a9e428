# SPDX-License-Identifier: MIT
"""A daemon that serves: composed of parts, it serves until it is stopped.

The parts are handed in: what the process is and what its start has made (sockd.daemon.startup), what is served with
(sockd.daemon.runtime), the listeners, and the processes that serve beside it.  A daemon that serves alone, a
supervisor, a worker and inetd mode are compositions of the same parts (`run()` here, sockd.daemon.workers.supervisor,
sockd.daemon.workers.worker, sockd.daemon.inetd): they differ in which parts, and in what they do between begin(),
serve() and drain().
"""

from __future__ import annotations

import logging
import selectors
import signal
from contextlib import ExitStack, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING

from sockd.daemon import runtime
from sockd.daemon.listeners import ListenerRegistry
from sockd.daemon.reload import Reload
from sockd.daemon.shutdown import Shutdown
from sockd.daemon.startup import ServingProcess, Start
from sockd.daemon.succession import Succession
from sockd.daemon.worker_processes import NoWorkers
from sockd.errors import ConfigurationError, SockdError, TemporaryFault
from sockd.lazy import lazily, load, load_resident
from sockd.log import format as log_format
from sockd.log.events import LOGGERS, DaemonEvents
from sockd.log.levels import levels
from sockd.process.sd_notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sockd.daemon.config_diff import ReloadResult
    from sockd.daemon.context import StartContext
    from sockd.daemon.control import commands, http_pages, server
    from sockd.daemon.control.commands import ControlCommands
    from sockd.daemon.control.http_pages import MetricsPages
    from sockd.daemon.control.server import ControlServer, Verb
    from sockd.daemon.startup import Unprivileged
    from sockd.daemon.worker_processes import WorkerProcesses
    from sockd.net.listen.bind import ServerSocket
    from sockd.services.builtin.http import Page
    from sockd.settings import Settings
else:
    commands = lazily("sockd.daemon.control.commands")
    http_pages = lazily("sockd.daemon.control.http_pages")
    server = lazily("sockd.daemon.control.server")

logger = logging.getLogger("sockd.daemon")


class Daemon:
    """One serving process.

    Args:
        process: what it is.
        start: what it has, once its rights are dropped.
        serving: listeners, and what they are made with.
        workers: that serve beside it.
        stack: closes what is opened here.

    Attributes:
        settings: in effect.
        serving: see above.
        notifier: tells the service manager.
        reloading: takes listeners out of service.
        shutdown: its end.
        events: what it does, for those who follow it.
        not_reopened: why files could not be opened again, at the last reload or USR1.
    """

    def __init__(
        self,
        process: ServingProcess,
        start: Unprivileged,
        serving: ListenerRegistry,
        workers: WorkerProcesses,
        stack: ExitStack,
    ) -> None:
        self._process = process
        self._context = process.context
        self._signals = process.signals
        self._lineage = process.lineage
        self.settings = process.settings
        self._resources = resources = start.resources
        self._workers = workers
        self._stack = stack
        self._loop = serving.tools.loop
        self._is_wanted_again = False
        self.not_reopened: tuple[str, ...] = ()
        self._unused: list[str] = []
        self.serving = serving
        stack.callback(serving.close)
        self.events = DaemonEvents()
        self.events.attach()
        stack.callback(self.events.close)
        levels.begin(LOGGERS, self.events)
        self.notifier = Notifier(resources.manager, self._loop)
        self.reloading = Reload(
            self.settings,
            serving,
            resources.passed,
            self.notifier,
            read=self._context.check,
            guarded=process.kept_from_handlers,
        )
        self.reloading.absent.replace(resources.plans)
        self.reloading.absent.then = self._run_wanted_again
        verbs: dict[str, Verb] = {}  # the replies are made of the daemon's parts
        self._controlling: ControlServer | None = None
        if resources.control is not None:
            users = frozenset((0, self._lineage.starter))
            self._controlling = server.ControlServer(resources.control, self._loop, users, verbs)
            stack.callback(self._controlling.close)
            if self._loop.watch is not None:
                self._loop.watch.report = self._controlling.answer_stalled
        self._succession = Succession(
            self._lineage, serving, self.notifier, self._controlling, self.reloading, self._stop
        )
        stack.callback(self._succession.let_go)
        self.shutdown = Shutdown(self.settings, serving, self._succession, self.notifier, self._signals.bound, workers)
        if self._controlling is not None:
            verbs |= {**self.commands.verbs(), **workers.verbs(self.commands)}
        serving.pages = workers.pages(self._page)
        self.settings.when_replaced(self._apply_settings)

    @cached_property
    def commands(self) -> ControlCommands:
        """What the verbs of the control socket answer for this process."""
        return commands.ControlCommands(self, self.serving, self.reloading, self._succession, self.events)

    @cached_property
    def pages(self) -> MetricsPages:
        """Those of this process."""
        return http_pages.MetricsPages(
            self.commands,
            self.serving,
            self.reloading,
            max_connections=self.serving.tools.capacity,
            started=self._lineage.started,
            others=self._workers,
        )

    def _page(self, path: str) -> Page | None:
        return self.pages.page(path)

    def begin(self) -> None:
        """Make the listeners, start what services start, and accept.

        Raises:
            SystemFault, HandlerError: as ListenerRegistry.prepare().
        """
        self._unused = self._resources.passed.close_rest()  # before workers are forked, who would hold them open
        if any(plan.service.kind.is_pages for plan in self._resources.plans):
            load(http_pages, commands)
        if self._lineage.predecessor is not None:
            self.serving.overrides.adopt(self._lineage.predecessor.hello.overrides)  # before a worker accepts
        with self._process.kept_from_handlers():  # in their startup hooks
            begun = self.serving.begin(self._resources.listening)
        self._resources.plans.clear()  # else the handlers of the start would stay, whatever is reloaded
        self._resources.listening.clear()
        for served in begun:
            served.log_start()

    def serve(self) -> None:
        """Go on where the process before this one stops, say that this one serves, and serve until the loop is stopped.

        Raises:
            TemporaryFault: the previous process keeps serving.
        """
        self._succession.complete(self._stack)
        self.notifier.keep(self._resources.passed.kept, not_any_more=self._unused)
        self.notifier.ready(self._status())
        self.notifier.watch(self._context.given.watchdog, self._status)
        self._context.ready([(str(one), one.run.spec.name, one.plan.begins_with_tls) for one in self.serving.listeners])
        self.act_on_signals()  # not before it serves: what came meanwhile is acted on in order
        self._loop.run()

    def drain(self) -> None:
        """Close gracefully."""
        self.shutdown.drain()

    def leave(self, own: Sequence[ServerSocket]) -> None:
        """Close, in a forked process, what the parent continues to use, without affecting what is shared (epoll(7)).

        Args:
            own: listening sockets that are this process's alone.
        """
        self.events.close()
        for listening in own:
            listening.socket.close()
        if self._controlling is not None:
            self._controlling.leave()
        if self._resources.manager is not None:
            self._resources.manager.close()
        self.serving.tools.connections.leave()
        self._succession.abandon()
        self._loop.leave()

    # ---- signals

    def act_on_signals(self, numbers: frozenset[signal.Signals] | None = None) -> None:
        """Run the actions of recorded and new signals in the loop; an action that fails does not prevent the others.

        Args:
            numbers: of these alone; None: of all.
        """
        actions = {one: act for one, act in self._actions().items() if numbers is None or one in numbers}
        self._signals.act({number: partial(self._loop.attempt, act) for number, act in actions.items()})
        self._loop.watch_fd(self._signals.fileno(), selectors.EVENT_READ, self._signals.handle, urgent=True)

    def _actions(self) -> dict[signal.Signals, Callable[[], None]]:
        """Return the action of each signal."""
        return {
            signal.SIGHUP: self._hang_up,
            signal.SIGUSR1: self._reopen_files,
            signal.SIGUSR2: self._succession.upgrade_by_signal,
            signal.SIGTERM: self._stop,
            signal.SIGINT: self.shutdown.stop_at_once,
            signal.SIGQUIT: self.shutdown.stop_at_once,
            signal.SIGCHLD: self._reap,  # behind these: workers may have ended because of them
        }

    def _stop(self) -> None:
        self.shutdown.stop()

    def _reap(self) -> None:
        self.serving.tools.executor.reap()
        self._succession.reap()
        self._workers.reap()

    # ---- while it serves

    def _reopen_files(self) -> None:
        """Open the log again, and read the users of SOCKS servers again: what fails stays as it was."""
        failed = self._resources.proxies.reread()
        self._reopen_log()
        self.not_reopened += tuple(failed)

    def _reopen_log(self) -> None:
        """Open the log file and those of programs again, because they were renamed; the old one is kept if that
        fails, and sockctl says so.
        """
        resources = self._resources
        failed = resources.programs.reopen()
        try:
            resources.log.reopen()
        except SockdError as error:
            logger.error("log not reopened, still writing to the old one", extra={"event": {"error": str(error)}})
            failed.append(f"log not reopened, still writing to the old one: {error}")
        else:
            logger.info("log reopened")
        self.not_reopened = tuple(failed)
        self._signals.bound.set_log_target(resources.log)
        self._workers.log_reopened()

    def _status(self) -> str:
        """Describe the state in words, for systemctl status."""
        self.serving.refresh()  # for the next time
        connections, listeners = self.serving.count(), len(self.serving.listeners)
        text = f"serving, {connections} connection{'s'[: connections != 1]}"
        text += f", {listeners} listener{'s'[: listeners != 1]}"
        last = self.reloading.last
        return f"{text}; not reloaded: {last.error.splitlines()[0]}" if last is not None and last.error else text

    def _hang_up(self) -> None:
        """Handle SIGHUP: open the log again, and apply the configuration as it is now."""
        if self._context.check is None:
            self.notifier.reload_begins()
            self._reopen_files()
            self.notifier.reload_ends(self._status())
            logger.info("no configuration file to reload")
        elif not self.shutdown.is_begun:
            with suppress(TemporaryFault):  # the new process of an upgrade reads it by itself
                self._reload_again()

    def _reload_again(self) -> None:
        """Reload; while a reload is in progress, once more after it, because it may have read the file before."""
        if self.reloading.is_under_way:
            self._is_wanted_again = True
        else:
            self.reload(lambda result: None)

    def _apply_settings(self, settings: Settings) -> None:
        """Apply those keys of [daemon] that can change while it serves."""
        self.serving.tools.connections.limit_memory(settings.daemon.max_memory)
        levels.set_level(log_format.LEVELS[settings.daemon.log.level])
        self._process.allow_stop(settings)
        self._workers.replaced(settings)

    # ---- what sockctl asks for

    def state(self) -> str:
        """Return serving, not-ready (still serving, but not for long) or stopping."""
        return self.shutdown.state.value

    def reload(self, then: Callable[[ReloadResult], None]) -> None:
        """Open the log again, and apply the configuration as it is now, or keep the previous one if it is wrong.

        Args:
            then: called once with the result.

        Raises:
            TemporaryFault: a reload is not possible now.
        """
        if self.shutdown.is_begun:
            raise TemporaryFault("the daemon is stopping and cannot reload")
        self._succession.check()
        self.reloading.check()
        self.notifier.reload_begins()
        self._reopen_log()
        self._lineage.renew_control(self._controlling)

        def done(result: ReloadResult) -> None:
            if not self.shutdown.is_begun:
                self.notifier.reload_ends(self._status())
            then(result)
            self._run_wanted_again()

        self.reloading.reload(done)

    def _run_wanted_again(self) -> None:
        if self._is_wanted_again:
            self._is_wanted_again = False
            self._hang_up()

    def stop(self) -> None:
        """Stop gracefully, after the reply to the request."""
        self._loop.call_soon(self._stop)

    @property
    def configuration(self) -> str | None:
        """The absolute path of the configuration file; None: there is none."""
        return self._context.configuration

    def read(self, text: str, name: str, environment: Mapping[str, str]) -> Settings:
        """Read the text of a configuration like that of the daemon's own file; raises ConfigurationError."""
        if self._context.parse is None:
            raise ConfigurationError("the daemon has no configuration file, so it cannot change to another one")
        return self._context.parse(text, name, environment)


def run(settings: Settings, context: StartContext) -> None:
    """Serve settings, alone, until stopped: bind, drop privileges, serve, and return once everything is closed.

    Args:
        settings: checked.
        context: where it runs.

    Raises:
        ConfigurationError: as plan(); no such user, group or directory; root without a user to switch to.
        SystemFault, PermissionFault, TemporaryFault: an address, the log or the pid file cannot be opened, or
        privileges cannot be dropped.
    """
    load_resident()
    process = ServingProcess.create(settings, context)
    with ExitStack() as stack:
        start = Start(process, stack).run()
        tools = runtime.make(process, start, stack)
        daemon = Daemon(process, start, ListenerRegistry(tools), NoWorkers(), stack)
        daemon.begin()
        daemon.serve()
        daemon.drain()


__all__ = ["Daemon", "run"]
