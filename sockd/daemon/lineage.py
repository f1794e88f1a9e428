# SPDX-License-Identifier: MIT
"""What a daemon has to do with the processes before and behind it, whose connections and name it shares.

In an upgrade (sockd.daemon.upgrade.sender) a process goes on where another stops; the other one lives on for
connections that could not move, and ends when they have, or when the process that serves ends.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sockd.daemon.control import server
from sockd.daemon.control.server import Deferred
from sockd.daemon.upgrade.fdstore import put_away
from sockd.daemon.upgrade.receiver import PreviousProcesses
from sockd.daemon.upgrade.sender import HandoffState, UpgradeSender, answer_of
from sockd.errors import SockdError, SystemFault
from sockd.process.pidfile import PidFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.daemon.context import StartContext
    from sockd.daemon.control.server import ControlServer
    from sockd.daemon.listeners import ActiveListener, ListenerRegistry
    from sockd.daemon.upgrade.channel import Channel
    from sockd.daemon.upgrade.messages import Ready, UpgradeResult
    from sockd.net.listen.bind import ServerSocket
    from sockd.process.privileges import Account
    from sockd.process.sd_notify import Notifier
    from sockd.settings import DaemonSettings

logger = logging.getLogger("sockd.daemon")

LOOK_SECONDS = 0.2
"""How often a process that has left looks whether its last connection has ended."""


class Lineage:
    """The process before this one, and the one behind it.

    Args:
        daemon: settings; kept up to date by a reload.
        origin: of this process.

    Attributes:
        starter: uid that started the first of them, and may control them all.
        started: when that was, in seconds since 1970.
        files: RLIMIT_NOFILE then.
    """

    def __init__(self, daemon: DaemonSettings, origin: StartContext) -> None:
        predecessor = origin.predecessor
        self._given = origin.given
        self._command = origin.command
        self._predecessor = predecessor
        self._stored = origin.stored
        self._is_contained = origin.contained
        self.daemon = daemon
        self._is_stopping = False
        self.starter = predecessor.hello.starter if predecessor else os.geteuid()
        self.started = predecessor.hello.started if predecessor else time.time()
        handed = predecessor.hello.files if predecessor else None
        self.files = handed or resource.getrlimit(resource.RLIMIT_NOFILE)
        self._pidfile: PidFile | None = None
        self._control: ServerSocket | None = None
        self._upgrading: UpgradeSender | None = None

    # ---- at a start

    def lock(self, path: str, stack: ExitStack, *, account: Account | None) -> None:
        """Hold the pid file, as sockd.process.pidfile; its number is written by take_over(), if it was handed over.

        Raises:
            SystemFault, PermissionFault: as PidFile.
        """
        held, keeper = self._predecessor.pidfile(path) if self._predecessor else (None, None)
        self._pidfile = PidFile(path, account=account, held=held, keeper=keeper)
        stack.callback(self._pidfile.leave if self._pidfile.is_handed_over else self._pidfile.release)

    def listen(self, path: str, stack: ExitStack) -> ServerSocket:
        """Return the control socket, handed over or as sockd.daemon.control.server.listen()."""
        handed = self._predecessor.control(path) if self._predecessor else None
        self._control = handed or server.listen(path, stack)
        return self._control

    def renew_control(self) -> None:
        """Bind the control socket anew where its path has gone; not after chroot(2)."""
        if self._control is None or self._answering is None or self.daemon.chroot is not None:
            return
        problem = self._control.problem()
        if not problem:
            return
        path = str(self._control.endpoint.sockaddr)
        with ExitStack() as undo:
            try:
                self._control = server.listen(path, undo)
            except SockdError as error:
                event = {"address": path, "why": problem, "error": str(error)}
                logger.error("cannot be found by its clients, and not be bound anew", extra={"event": event})
                return
            undo.pop_all()
        self._answering.renew(self._control)
        logger.warning("bound anew", extra={"event": {"address": path, "why": problem}})

    def begin(
        self,
        serving: ListenerRegistry,
        notifier: Notifier,
        answering: ControlServer | None,
        drain: Callable[[ActiveListener], None],
        count: Callable[[], int],
        stop: Callable[[], None],
        refuse: Callable[[], None],
    ) -> None:
        """Be ready for an upgrade.

        Args:
            answering: on the control socket.
            drain: takes a listener out of service.
            count: how many connections there are, whoever serves them.
            stop: ends the process in order.
            refuse: raises where something else is under way.
        """
        self._loop = serving.tools.loop
        self._serving = serving
        self._notifier = notifier
        self._answering = answering
        self._drain = drain
        self._count = count
        self._stop = stop
        self._refuse = refuse
        self._previous_processes = PreviousProcesses(self._loop)
        if self._command is not None:
            self._upgrading = UpgradeSender(self._command, serving, self._belongings, notifier, count, self._left)

    def take_over(self, stack: ExitStack) -> None:
        """Go on where the process before us stops, or has stopped, if there is one.

        Raises:
            TemporaryFault: it does not stop.
        """
        if self._predecessor is None:
            if self._stored is not None:
                self._stored.take(self._serving, self._notifier)
            return
        has_pidfile = self._pidfile is not None and self._pidfile.is_handed_over
        self._predecessor.take_over(self._serving, has_pidfile=has_pidfile)
        if self._pidfile is not None and has_pidfile:
            self._pidfile.write()
            stack.callback(self._pidfile.release)
        self._previous_processes.watch(self._predecessor)
        event = {"from": self._predecessor.hello.pid, "connections": self._predecessor.moved}
        logger.info("taken over", extra={"event": event})

    # ---- the process behind us

    def upgrade(self) -> Deferred:
        """Have a new process go on with what is served; the answer comes when it does.

        Raises:
            SockdError: none can be started.
        """
        answer = Deferred()
        self._begin(lambda result: answer.settle(answer_of(result)))
        return answer

    def upgrade_by_signal(self) -> None:
        """Do the same; what goes wrong is in the log."""
        try:
            self._begin(lambda result: None)
        except SockdError as error:
            logger.error("not upgraded, going on as before", extra={"event": {"error": str(error)}})

    def _begin(self, tell: Callable[[UpgradeResult], None]) -> None:
        if self._upgrading is None:
            raise SystemFault("this daemon runs within another program, which has to be restarted")
        if self._is_contained:
            text = "process 1 of this container ends with this process, and a new one would end with it"
            raise SystemFault(f"{text}; start a new container")
        if self.daemon.chroot is not None:
            text = "the program cannot be started from within the root directory (daemon.chroot)"
            raise SystemFault(f"{text} {self.daemon.chroot}; restart the daemon")
        self._refuse()
        self._count()  # workers are asked, and have answered by the time that it is told
        self._upgrading.begin(tell, float(self.daemon.upgrade_timeout))

    def check(self) -> None:
        """Refuse to change what is listened on while it is handed over, and once it is.

        Raises:
            TemporaryFault: says so.
        """
        if self._upgrading is not None:
            self._upgrading.check()

    def give_up(self, why: str) -> None:
        """End a new process that is on its way, and start none: this one stops."""
        self._is_stopping = True
        if self._upgrading is not None:
            self._upgrading.give_up(why)

    def table(self) -> dict[str, object]:
        """Return for JSON how the last upgrade went, and how many processes have left and not ended."""
        last = self._upgrading.last if self._upgrading else None
        return {"upgrade": last.table() if last else None, "previous_processes": len(self._previous_processes)}

    def _belongings(self) -> HandoffState:
        previous_processes = self._previous_processes.channels
        return HandoffState(
            self._given, self._control, self._pidfile, self.starter, self.started, previous_processes, self.files
        )

    # ---- this process has left

    def _left(self, ready: Ready, channel: Channel) -> None:
        """Live on for the connections that stay, as long as the new process does."""
        if self._answering is not None:
            (self._answering.hand_over if ready.has_control else self._answering.close)()
        if self._pidfile is not None and ready.has_pidfile:
            self._pidfile.leave()
        self._previous_processes.close()
        for served in list(self._serving.listeners):  # the new configuration does not have them
            self._drain(served)
        self._loop.add_reader(channel.fileno(), lambda: self._successor_ended(channel))
        self._end_when_empty()

    def _successor_ended(self, channel: Channel) -> None:
        self._loop.remove_reader(channel.fileno())
        if not self._is_stopping:
            self._stop()

    def _end_when_empty(self) -> None:
        self._loop.call_later(LOOK_SECONDS, self._end_when_empty)  # first: a look that fails is not the last one
        if not (self._count() or self._serving.draining or (self._answering is not None and len(self._answering))):
            self._loop.stop()

    # ---- over a restart

    def put_away(self) -> None:
        """At a stop, leave to the manager what the next process can go on with, if that is wanted."""
        if self.daemon.store_connections and self._given.store:
            put_away(self._serving, self._notifier, self._given.store)

    def abandon(self) -> None:
        """Close, in a process that was forked, what the one it was forked from goes on with."""
        if self._predecessor is not None:
            self._predecessor.channel.close()
        for channel in self._previous_processes.channels:
            channel.close()
        if self._upgrading is not None:
            self._upgrading.abandon()
        if self._pidfile is not None:
            self._pidfile.leave()  # the lock is the supervisor's: it ends with that, though workers end later

    def let_go(self) -> None:
        """Let the processes that have left end their connections in order, for this one ends; again does nothing."""
        self._previous_processes.close()


__all__ = ["Lineage"]
