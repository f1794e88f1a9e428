# SPDX-License-Identifier: MIT
"""Relations of a serving daemon to the previous and the next process.

In an upgrade (sockd.daemon.upgrade.sender) the new process takes over; the old one lives on for connections that could
not move, and exits when they have closed, or when the new one exits.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sockd.daemon.upgrade.previous import PreviousProcesses
from sockd.errors import SockdError, SystemFault
from sockd.lazy import lazily, load
from sockd.net.loop.turns import TurnWatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from sockd.daemon.control import server
    from sockd.daemon.control.server import ControlServer, Deferred
    from sockd.daemon.lineage import Lineage
    from sockd.daemon.listeners import ListenerRegistry
    from sockd.daemon.reload import Reload
    from sockd.daemon.upgrade import fdstore, sender
    from sockd.daemon.upgrade.channel import Channel
    from sockd.daemon.upgrade.messages import Ready, UpgradeResult
    from sockd.daemon.upgrade.sender import HandoffState, UpgradeSender
    from sockd.process.sd_notify import Notifier
else:
    server = lazily("sockd.daemon.control.server")
    fdstore = lazily("sockd.daemon.upgrade.fdstore")
    sender = lazily("sockd.daemon.upgrade.sender")

logger = logging.getLogger("sockd.daemon")


class Succession:
    """The previous process and the next one.

    Args:
        lineage: origin of this process.
        serving: what is handed over, and what all processes serve.
        notifier: told which process is the main one.
        answering: on the control socket; None without one.
        reloading: drains listeners; while a reload is in progress, no upgrade starts.
        stop: stops the process gracefully.
    """

    def __init__(
        self,
        lineage: Lineage,
        serving: ListenerRegistry,
        notifier: Notifier,
        answering: ControlServer | None,
        reloading: Reload,
        stop: Callable[[], None],
    ) -> None:
        self._lineage = lineage
        self._serving = serving
        self._loop = serving.tools.loop
        self._notifier = notifier
        self._answering = answering
        self._reloading = reloading
        self._stop = stop
        self._is_stopping = False
        self._previous_processes = PreviousProcesses(self._loop)
        self._sender: UpgradeSender | None = None
        if lineage.given.store:
            load(fdstore)
        if lineage.command is not None:
            self._sender = sender.UpgradeSender(lineage.command, serving, self._handoff, notifier, self._left)

    @property
    def started(self) -> float:
        """When the first of these processes was started, in seconds since 1970."""
        return self._lineage.started

    def _handoff(self) -> HandoffState:
        return self._lineage.handoff(self._previous_processes.channels)

    def complete(self, stack: ExitStack) -> None:
        """Take over from the previous process, if there is one.

        Raises:
            TemporaryFault: it keeps serving.
        """
        predecessor, pidfile = self._lineage.predecessor, self._lineage.pidfile
        if predecessor is None:
            if self._lineage.stored is not None:
                self._lineage.stored.restore(self._serving, self._notifier)
            return
        has_pidfile = pidfile is not None and pidfile.is_handed_over
        predecessor.complete(self._serving, has_pidfile=has_pidfile)
        if pidfile is not None and has_pidfile:
            pidfile.write()
            stack.callback(pidfile.release)
        self._previous_processes.watch(predecessor)
        event = {"from": predecessor.hello.pid, "connections": predecessor.moved}
        logger.info("taken over", extra={"event": event})

    # ---- the process behind us

    def upgrade(self) -> Deferred:
        """Start a new process that takes over; the reply comes when it has.

        Raises:
            SockdError: none can be started.
        """
        answer = server.Deferred()
        self._begin(lambda result: answer.resolve(sender.upgrade_response(result)))
        return answer

    def upgrade_by_signal(self) -> None:
        """Do the same; errors go to the log."""
        try:
            self._begin(lambda result: None)
        except SockdError as error:
            logger.error("upgrade failed, still serving", extra={"event": {"error": str(error)}})

    def _begin(self, report: Callable[[UpgradeResult], None]) -> None:
        if self._sender is None:
            raise SystemFault("this daemon runs within another program; restart that program")
        if self._lineage.is_contained:
            text = "process 1 of this container exits with this process, and a new process would be killed with it"
            raise SystemFault(f"{text}; start a new container")
        daemon = self._lineage.settings.daemon
        if daemon.chroot is not None:
            text = "the program cannot be started from within the root directory (daemon.chroot)"
            raise SystemFault(f"{text} {daemon.chroot}; restart the daemon")
        self._reloading.check()
        self._serving.refresh()  # workers are asked, and have answered by the time that it is told
        self._sender.begin(report, float(daemon.upgrade_timeout))

    def check(self) -> None:
        """Refuse to change listeners while they are handed over, and afterwards.

        Raises:
            TemporaryFault: says so.
        """
        if self._sender is not None:
            self._sender.check()

    def give_up(self, why: str) -> None:
        """Stop a new process that is starting, and start none: this one stops."""
        self._is_stopping = True
        if self._sender is not None:
            self._sender.give_up(why)

    def reap(self) -> None:
        """See how new processes have ended that were to (SIGCHLD)."""
        if self._sender is not None:
            self._sender.reap()

    def table(self) -> dict[str, object]:
        """Return for JSON the result of the last upgrade, and the number of previous processes that have not
        exited.
        """
        last = self._sender.last if self._sender else None
        return {"upgrade": last.table() if last else None, "previous_processes": len(self._previous_processes)}

    # ---- this process has left

    def _left(self, ready: Ready, channel: Channel) -> None:
        """Live on for the connections that stay, as long as the new process does."""
        if self._answering is not None:
            (self._answering.hand_over if ready.has_control else self._answering.close)()
        if self._lineage.pidfile is not None and ready.has_pidfile:
            self._lineage.pidfile.leave()
        self._previous_processes.close()
        for served in list(self._serving.listeners):  # the new configuration does not have them
            self._reloading.drain(served)
        self._reloading.drain_pages()
        self._loop.add_reader(channel.fileno(), lambda: self._successor_ended(channel))
        TurnWatch(self._loop, self._end_if_empty)
        timeout = self._lineage.settings.daemon.previous_timeout
        if timeout is not None:
            self._loop.call_later(float(timeout), self._end_in_time)

    def _end_in_time(self) -> None:
        """Stop gracefully, which names the connections that are not done by then."""
        event = {"connections": self._serving.count()}
        logger.warning("previous process has served for previous_timeout, stopping", extra={"event": event})
        if not self._is_stopping:
            self._stop()

    def _successor_ended(self, channel: Channel) -> None:
        self._loop.remove_reader(channel.fileno())
        if not self._is_stopping:
            self._stop()

    def _end_if_empty(self) -> None:
        is_asked = self._answering is not None and len(self._answering)
        if not (self._serving.count() or self._serving.draining or is_asked):
            self._loop.stop()

    # ---- over a restart

    def put_away(self) -> None:
        """At a stop, store the connections that can continue with the manager, if configured."""
        if self._lineage.settings.daemon.store_connections and self._lineage.given.store:
            fdstore.put_away(self._serving, self._notifier, self._lineage.given.store)

    def abandon(self) -> None:
        """Close, in a forked process, what the parent continues to use."""
        if self._lineage.predecessor is not None:
            self._lineage.predecessor.channel.close()
        for channel in self._previous_processes.channels:
            channel.close()
        if self._sender is not None:
            self._sender.abandon()
        if self._lineage.pidfile is not None:
            self._lineage.pidfile.leave()  # the lock is the supervisor's: it ends with that, though workers end later

    def let_go(self) -> None:
        """Let the previous processes close their connections gracefully, because this one stops; again does
        nothing.
        """
        self._previous_processes.close()


__all__ = ["Succession"]
