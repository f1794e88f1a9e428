# SPDX-License-Identifier: MIT
"""A listener whose socket itself is a program's, as inetd's wait has it (FAQ IV.9).

The socket is watched, and nothing is accepted or received here: when a client comes, a program gets the socket as its
standard input and output, and the socket is watched again when it has ended.  With room for more programs another one
is started if what came still waits after ANOTHER_SECONDS, for one that runs may be about to accept it.

While the hours or the load keep everybody out, no program is started, and who comes is refused as soon as none runs.

The socket blocks for the program and thus for this process as well, which shares its file status flags: every look at
it is by poll(2) or MSG_DONTWAIT.  Source: inetd(8), fcntl(2), recv(2), pidfd_open(2).
"""

from __future__ import annotations

import logging
import os
import select
import socket
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.errors import SystemFault, fault
from sockd.net.address.sockaddr import SocketAddress
from sockd.net.kernel import SHORTAGES, accept_queue, is_hung_up
from sockd.net.listen.admission import Networks
from sockd.net.listen.conditions import OpeningConditions
from sockd.net.listen.listener import ListenerCounts
from sockd.net.listen.refusal import Refusals, RefusedClient
from sockd.net.listen.source_filter import check_restrict, restrict
from sockd.net.listen.syn_filter import HANDSHAKE_SECONDS, refuse_new_clients
from sockd.services.exec.restarts import QUICK_SECONDS, Outcome, Restarts, is_power_of_ten, outcome
from sockd.services.exec.service import EndReport, RunReport
from sockd.settings.networks import networks_among
from sockd.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.net.kernel import AcceptQueue
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.listen.refusal import RefusalReason
    from sockd.net.loop.loop import EventLoop, Timer
    from sockd.process.program import Child, ExitStatus
    from sockd.services.exec.program import Program
    from sockd.services.exec.restarts import Head
    from sockd.services.exec.service import ProgramService
    from sockd.settings.listen import ListenSettings

logger = logging.getLogger("sockd.exec")

ANOTHER_SECONDS = 0.1
"""For a running program to accept or receive what has come, before another one is started."""
LAST_SECONDS = 10.0
"""For a program whose socket is no longer ours, or whose configuration is no longer in effect; then it gets TERM."""
RETRY_SECONDS = 1.0
REFUSED_A_TURN = 64
"""Before others have their turn."""
HEAD_BYTES = 256
"""Of a datagram, to see whether the first one is still the same."""


class SocketRun(RunReport):
    """One program on a socket.

    Args:
        runs: that it is one of.
        program: as its service had it.
        head: the first datagram at its start.
    """

    def __init__(self, runs: SocketRuns, program: Program, head: Head | None) -> None:
        self.program = program
        self.child: Child | None = None
        self._runs = runs
        self._head = head
        self._is_muted = runs.restarts.streak > 0
        self.mute_seconds = 0.0 if runs.restarts.is_next_logged else QUICK_SECONDS

    def begun(self, report: Callable[[], None]) -> None:
        """See RunReport: of a streak of quick ends only the first start is told; a run that lives is told late."""
        if self._is_muted:
            self._runs.loop.call_later(QUICK_SECONDS, lambda: report() if self in self._runs.running else None)
        else:
            report()

    def judge(self, how: ExitStatus) -> EndReport:
        """See RunReport; what the end means for the next start is decided here."""
        restarts, watching = self._runs.restarts, self._runs.watching
        if watching is None or watching.is_off:  # it is the last one, and may have been ended by us
            return EndReport()
        is_ready, head = watching.waiting()
        found = outcome(how, before=self._head, after=head, is_ready=is_ready)
        restarts.count(found)
        if found is Outcome.WORKED:
            return EndReport()
        pause = restarts.pause if found is Outcome.FAILED else 0.0
        return EndReport(is_power_of_ten(restarts.streak), restarts.streak, pause)

    def descriptor(self) -> int | None:
        """Return a descriptor of the process, for another one to see its end; None where there are none."""
        with suppress(OSError, AttributeError):  # before Linux 5.3, and elsewhere
            return os.pidfd_open(self.child.pid) if self.child is not None else None
        return None

    def end(self) -> None:
        """Terminate it, if it still runs."""
        if self in self._runs.running and self.child is not None:
            self.child.end()


class AdoptedRun:
    """A program that a previous process has started, which waits for it and ends it."""

    program = None

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def descriptor(self) -> int | None:
        """See SocketRun."""
        return os.dup(self.fd)

    def end(self) -> None:
        """Nothing: it is its parent's."""


@dataclass
class SocketRuns:
    """The programs on one socket, by whichever settings.

    Attributes:
        started: since the start.
        refused: clients that were not served, by the reason.
        watching: the listener that watches the socket now.
    """

    loop: EventLoop
    restarts: Restarts
    started: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    running: list[SocketRun | AdoptedRun] = field(default_factory=list)
    watching: WaitListener | None = None

    def remove(self, run: SocketRun | AdoptedRun) -> None:
        """Note the end of one, and have the socket watched again."""
        self.running.remove(run)
        if self.watching is not None:
            self.watching.watch()


class WaitListener:
    """One listening or datagram socket.

    Args:
        listening: bound; closed by close().
        service: starts programs.
        loop: watches.
        settings: allow and deny, hours and max_load.
        refused: clients that were not served, of all listeners of the service, by the reason.
        former: who watched until now, by other settings; its programs are counted on if the socket is the same.
        died: called when the socket has been shut down by another process, and is closed.

    Attributes:
        is_off: it watches no more.
    """

    def __init__(
        self,
        listening: ServerSocket,
        service: ProgramService,
        loop: EventLoop,
        settings: ListenSettings,
        refused: Counter[str],
        *,
        former: WaitListener | None = None,
        died: Callable[[], None] = lambda: None,
    ) -> None:
        self._listening = listening
        self._socket = listening.socket
        self._service = service
        self._loop = loop
        self._died = died
        self._settings = settings
        self._networks = Networks(settings.allow, settings.deny)
        check_restrict(listening.socket, networks_among(settings.allow), networks_among(settings.deny))
        self._timer: Timer | None = None
        self.is_off = False
        self._is_stream = listening.endpoint.type != socket.SOCK_DGRAM
        before = former._runs if former is not None else None
        is_same = former is not None and former._listening is listening
        fresh = SocketRuns(loop, Restarts(loop.clock), before.started if before is not None else 0)
        fresh.refused = before.refused if before is not None else fresh.refused
        self._runs: SocketRuns = before if before is not None and is_same else fresh
        self._conditions = OpeningConditions(settings)
        self._refusals = Refusals(self._runs.refused, refused, str(listening), service.name, loop.call_later)
        self.groups: Sequence[int] = ()
        self.is_idle = True

    def __str__(self) -> str:
        return str(self._listening)

    # ---- watching

    def start(self) -> None:
        """Watch from now on; programs of another configuration have a while to end."""
        self._runs.watching = self
        try:
            restrict(self._socket, networks_among(self._settings.allow), networks_among(self._settings.deny))
        except SystemFault as error:
            self.detach()  # rather than serve whom it must not
            logger.error(
                "not listening, its allow and deny cannot be enforced",
                extra={"event": {"address": str(self), "error": str(error)}},
            )
            return
        self._end_later(lambda run: run.program not in (None, self._service.program))
        self.watch()

    def watch(self) -> None:
        """Watch, if another program may be started, as soon as it may."""
        self._rest()
        if self.is_off or len(self._runs.running) >= self._service.program.max_instances:
            return
        if pause := self._runs.restarts.pause:
            self._timer = self._loop.call_later(pause, self.watch)
            return
        try:
            self._loop.add_reader(self._socket.fileno(), self._arrived)
        except OSError as error:  # epoll_ctl(2): ENOMEM, ENOSPC
            self._pause(error)

    def _rest(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arrived(self) -> None:
        if self.is_off:  # a reload in this very turn has put another in its place
            return
        if self._is_stream and is_hung_up(self._socket):
            self._die()
            return
        is_ready, head = self.waiting()
        if not is_ready:  # a datagram with a wrong checksum, or another program was faster
            return
        self._rest()
        if not self._runs.running:
            self._launch_if_open(head)
        else:
            self._timer = self._loop.call_later(ANOTHER_SECONDS, self._look_again)

    def _look_again(self) -> None:
        is_ready, head = self.waiting()
        if is_ready and len(self._runs.running) < self._service.program.max_instances:
            self._launch_if_open(head)
        else:
            self.watch()

    def _launch_if_open(self, head: Head | None) -> None:
        reason = self._conditions.judge()
        if reason is None:
            self._launch(head)
            return
        if not self._runs.running:  # or it may accept what waits between a look at it and this one, which would block
            try:
                self._refuse(reason)
            except OSError as error:
                self._pause(error)
                return
        self.watch()

    def _pause(self, error: OSError) -> None:
        logger.error("accept paused", extra={"event": {"address": str(self), "error": str(error)}})
        self._timer = self._loop.call_later(RETRY_SECONDS, self.watch)

    def _refuse(self, reason: RefusalReason) -> None:
        """Refuse some of those who wait; who is left has the socket ready again.

        Raises:
            OSError: there is no descriptor or no memory for them.
        """
        for _ in range(REFUSED_A_TURN):
            if not self.waiting()[0]:
                break
            try:
                if self._is_stream:
                    client, peer = self._socket.accept()
                    client.close()
                else:
                    peer = self._socket.recvfrom(1, socket.MSG_DONTWAIT)[1]
            except OSError as error:
                if error.errno in SHORTAGES:
                    raise
                continue  # it has left
            name = str(SocketAddress.from_sockaddr(peer)) if peer else ""
            self._refusals.count(reason, RefusedClient(peer=name))

    def waiting(self) -> tuple[bool, Head | None]:
        """Return whether a client waits, and the first datagram."""
        if self._socket.fileno() < 0:
            return False, None
        if self._is_stream:
            asked = select.poll()
            asked.register(self._socket, select.POLLIN)
            return bool(asked.poll(0)), None
        try:
            head: Head = self._socket.recvfrom(HEAD_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            while isinstance(head[1], tuple) and not self._networks.admit(head[1][0]):  # it came before the filter
                self._socket.recvfrom(1, socket.MSG_DONTWAIT)
                head = self._socket.recvfrom(HEAD_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            return True, head
        except OSError:  # nothing, or the ICMP answer to an earlier one
            return False, None

    def _launch(self, head: Head | None) -> None:
        runs = self._runs
        run = SocketRun(runs, self._service.program, head)
        try:
            run.child = self._service.serve_socket(self._socket, str(self), lambda _how: runs.remove(run), run)
        except OSError as error:
            runs.restarts.count(Outcome.FAILED)
            self._log_not_started(error)
        else:
            runs.started += 1
            runs.running.append(run)
        self.watch()

    def _log_not_started(self, error: OSError) -> None:
        restarts = self._runs.restarts
        if is_power_of_ten(restarts.streak):
            words = str(fault(error, str(error.filename or self._service.program.path)))
            event = {"service": self._service.name, "address": str(self), "error": words, "times": restarts.streak}
            event |= {"pause_seconds": round(restarts.pause, 3)}
            logger.error("program not started", extra={"event": event})

    def _die(self) -> None:
        self._rest()
        self.is_off = True
        self._listening.close()
        event = {"address": str(self), "service": self._service.name}
        logger.error("listening socket shut down by another process, no longer listening", extra={"event": event})
        self._died()

    # ---- other processes and other settings

    def detach(self) -> None:
        """Watch no more; programs go on."""
        self._rest()
        self.is_off = True
        self._refusals.flush()

    def accept_rest(self) -> None:
        """Have a program serve what waits, if none does: nothing else will come."""
        is_ready, head = self.waiting()
        if is_ready and not self._runs.running and not self._runs.restarts.pause and self._conditions.judge() is None:
            self._launch(head)
        self._end_later(lambda _run: True)

    def _end_later(self, which: Callable[[SocketRun | AdoptedRun], bool]) -> None:
        for run in filter(which, self._runs.running):
            self._loop.call_later(LAST_SECONDS, run.end)

    def running(self) -> list[int]:
        """Return a descriptor of each program that has the socket, the caller's to close."""
        found = (run.descriptor() for run in self._runs.running)
        return [fd for fd in found if fd is not None]

    def await_programs(self, descriptors: Sequence[int]) -> None:
        """Count programs of a previous process, and start none beside them."""
        for fd in descriptors:
            run = AdoptedRun(fd)
            self._runs.running.append(run)
            self._loop.add_reader(fd, lambda run=run: self._adopted_ended(run))  # type: ignore[misc]
        self.watch()

    def _adopted_ended(self, run: AdoptedRun) -> None:
        self._loop.remove_reader(run.fd)
        os.close(run.fd)
        self._runs.remove(run)

    def adopt(self, id: int) -> None:
        """Nothing can be adopted.

        Raises:
            LookupError: always.
        """
        raise LookupError(f"{self} has no connections, and not {id}")

    # ---- counted

    @property
    def counts(self) -> ListenerCounts:
        """Programs that were started on its socket, and that run."""
        runs = self._runs
        programs = {"started": runs.started, "running": len(runs.running), "ended_at_once": runs.restarts.failed}
        return ListenerCounts(runs.started, len(runs.running), refused=runs.refused, programs=programs)

    def count_on(self, counts: ListenerCounts) -> None:
        """Go on from what another process has counted."""
        self._runs.started = counts.accepted
        self._runs.refused.update(counts.refused)

    @property
    def queues(self) -> Sequence[AcceptQueue]:
        """The kernel's accept queue; none if it is not available."""
        queue = accept_queue(self._socket) if self._is_stream and self._socket.fileno() >= 0 else None
        return () if queue is None else (queue,)

    # ---- the end

    def refuse_new_clients(self) -> float:
        """Refuse new clients, and remove the Unix path; a program serves those that are there already."""
        if self._listening.path is not None:
            self._listening.path.unlink_if_ours()
        if self._listening.is_ours and self._is_stream:
            refuse_new_clients(self._socket)
        return HANDSHAKE_SECONDS if self._is_stream else 0.0

    def hand_over(self) -> None:
        """Stop watching and close this descriptor only: another process has the socket."""
        self.detach()
        self._socket.close()

    def close(self) -> None:
        """Have a program serve what has come already, and close this descriptor; programs have a while to end."""
        if self.is_off:
            return
        self._rest()
        self.refuse_new_clients()
        self.is_off = True  # what is launched now is the last one
        self.accept_rest()
        self._refusals.flush()
        self._listening.close()


__all__ = ["WaitListener"]
