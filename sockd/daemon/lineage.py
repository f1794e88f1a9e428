# SPDX-License-Identifier: MIT
"""Where a process comes from: the one before it, whose name, pid file and control socket it may have.

The next process is the subject of sockd.daemon.succession.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sockd.errors import SockdError
from sockd.lazy import lazily

if TYPE_CHECKING:
    from sockd.daemon.context import StartContext
    from sockd.daemon.control import server
    from sockd.daemon.control.server import ControlServer
    from sockd.daemon.effective import EffectiveSettings
    from sockd.daemon.upgrade import sender
    from sockd.daemon.upgrade.channel import Channel
    from sockd.daemon.upgrade.sender import HandoffState
    from sockd.net.listen.bind import ServerSocket
    from sockd.process import pidfile
    from sockd.process.pidfile import PidFile
    from sockd.process.privileges import Account
else:
    server = lazily("sockd.daemon.control.server")
    sender = lazily("sockd.daemon.upgrade.sender")
    pidfile = lazily("sockd.process.pidfile")

logger = logging.getLogger("sockd.daemon")


class Lineage:
    """The process before this one, and what this one has that the next may have.

    Args:
        settings: in effect.
        context: of this process.
        files: RLIMIT_NOFILE as the first of these processes was started with it, if that is known already.

    Attributes:
        predecessor: the process before us, in an upgrade.
        stored: connections of the process before us, in a restart.
        command: how this process was started, for an upgrade; None where it cannot be started again.
        given: what systemd, or whoever started us, passed.
        is_contained: process 1 of the namespace, which ends with this one, stands before it.
        starter: uid that started the first of them, and may control them all.
        started: when that was, in seconds since 1970.
        files: RLIMIT_NOFILE then.
        pidfile: that is held; None for none.
    """

    def __init__(
        self, settings: EffectiveSettings, context: StartContext, files: tuple[int, int] | None = None
    ) -> None:
        predecessor = context.predecessor
        self.settings = settings
        self.given = context.given
        self.command = context.command
        self.predecessor = predecessor
        self.stored = context.stored
        self.is_contained = context.contained
        self.starter = predecessor.hello.starter if predecessor else os.geteuid()
        self.started = predecessor.hello.started if predecessor else time.time()
        handed = predecessor.hello.files if predecessor else files
        self.files = handed or resource.getrlimit(resource.RLIMIT_NOFILE)
        self.pidfile: PidFile | None = None
        self._control: ServerSocket | None = None

    def lock(self, path: str, stack: ExitStack, *, account: Account | None) -> None:
        """Hold the pid file, as sockd.process.pidfile; its number is written by Succession.complete(), if handed over.

        Raises:
            SystemFault, PermissionFault: as PidFile.
        """
        held, keeper = self.predecessor.pidfile(path) if self.predecessor else (None, None)
        self.pidfile = pidfile.PidFile(path, account=account, held=held, keeper=keeper)
        stack.callback(self.pidfile.leave if self.pidfile.is_handed_over else self.pidfile.release)

    def listen(self, path: str, stack: ExitStack) -> ServerSocket:
        """Return the control socket, handed over or of sockd.daemon.control.server.listen()."""
        handed = self.predecessor.control(path) if self.predecessor else None
        self._control = handed or server.listen(path, stack)
        return self._control

    def renew_control(self, answering: ControlServer | None) -> None:
        """Bind the control socket again if its path was lost; not after chroot(2)."""
        if self._control is None or answering is None or self.settings.daemon.chroot is not None:
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
                logger.error("path of a Unix socket lost, cannot bind it again", extra={"event": event})
                return
            undo.pop_all()
        answering.renew(self._control)
        logger.warning("path of a Unix socket lost, bound again", extra={"event": {"address": path, "why": problem}})

    def handoff(self, previous_processes: list[Channel]) -> HandoffState:
        """Return what goes to the next process beside listening sockets and connections."""
        return sender.HandoffState(
            self.given, self._control, self.pidfile, self.starter, self.started, previous_processes, self.files
        )


__all__ = ["Lineage"]
