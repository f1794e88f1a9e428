# SPDX-License-Identifier: MIT
"""The old process of an upgrade: starts the program anew, hands over what is served, and leaves.

The new process does everything that can fail before it says that it is ready; then, between two turns of the loop, it
gets the connections that can move, and only when it has them this process accepts no more and forgets them.  A new
process that fails, hangs or ends is told in words, and nothing has happened.  See sockd.daemon.upgrade.messages.

Connections that cannot move - programs, relays, SOCKS, coroutines, protocol classes without snapshot() and
restore() - go on here until they have ended, as long as the new process lives.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockd.daemon.upgrade import transfer
from sockd.daemon.upgrade.messages import (
    Adopted,
    Commit,
    Connections,
    ConnectionState,
    Counters,
    Hello,
    Ready,
    UpgradeFailed,
    UpgradeResult,
)
from sockd.errors import EX_OSERR, EX_TEMPFAIL, RemoteError, SockdError, TemporaryFault
from sockd.process.socket_activation import Owner
from sockd.wire.control import ControlResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sockd.daemon.listeners import ActiveListener, ListenerRegistry
    from sockd.daemon.upgrade.channel import Channel
    from sockd.daemon.upgrade.respawn import ChildProcess, StartCommand
    from sockd.net.connection.info import Totals
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.loop.loop import Timer
    from sockd.process.pidfile import PidFile
    from sockd.process.sd_notify import Notifier
    from sockd.process.socket_activation import Inherited

logger = logging.getLogger("sockd.daemon")

ROWS = 128
ROWS_BYTES = 1 << 20
"""In one message at most, but for a connection that alone has more."""
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 2.0
"""For a new process that has failed to end by itself."""


@dataclass(frozen=True)
class HandoffState:
    """What goes to the new process beside listening sockets and connections.

    Args:
        given: by a manager, for whom this is the same service.
        control: the control socket.
        pidfile: with its lock.
        starter: uid that started the daemon.
        started: when, in seconds since 1970.
        elders: channels to processes that have left before.
        files: RLIMIT_NOFILE at the start.
    """

    given: Inherited
    control: ServerSocket | None
    pidfile: PidFile | None
    starter: int
    started: float
    previous_processes: list[Channel]
    files: tuple[int, int]


class UpgradeSender:
    """Carries upgrades out.

    Args:
        command: how this process was started.
        serving: what is handed over.
        belongings: likewise; asked at the moment.
        notifier: is told who the main process is.
        count: how many connections there are, whoever serves them.
        left: is called once the new process serves, with what it has; this one then ends when nothing is left.

    Attributes:
        last: how the last one went; None before the first one.
    """

    def __init__(
        self,
        command: StartCommand,
        serving: ListenerRegistry,
        belongings: Callable[[], HandoffState],
        notifier: Notifier,
        count: Callable[[], int],
        left: Callable[[Ready, Channel], None],
    ) -> None:
        self._command = command
        self._serving = serving
        self._loop = serving.tools.loop
        self._belongings = belongings
        self._notifier = notifier
        self._count = count
        self._left = left
        self._successor: ChildProcess | None = None
        self._gone: ChildProcess | None = None
        self._handed: list[ActiveListener] = []
        self._tell: Callable[[UpgradeResult], None] = lambda result: None
        self._timer: Timer | None = None
        self.last: UpgradeResult | None = None
        self._refusal = ""

    @property
    def is_under_way(self) -> bool:
        """Tell whether a new process is on its way."""
        return self._successor is not None

    def begin(self, tell: Callable[[UpgradeResult], None], timeout: float) -> None:
        """Start the new process.

        Args:
            tell: is called once, with how it went.
            timeout: seconds for the new process to be ready.

        Raises:
            TemporaryFault: this is not the time for it.
        """
        self.check()
        if self._refusal:
            raise TemporaryFault(self._refusal)
        logger.info("upgrading", extra={"event": {"program": " ".join(self._command.words)}})
        self._tell = tell
        try:
            successor = self._command.start()
        except SockdError as error:
            self._note(UpgradeResult(time.time(), str(error), error.exit_code))
            return
        self._successor = successor
        self._timer = self._loop.call_later(timeout, lambda: self._late(timeout))
        self._loop.add_reader(successor.channel.fileno(), self._said)
        try:
            successor.channel.send(*self._hello())
        except SockdError:
            return  # it has ended, and how will be seen

    def check(self) -> None:
        """Raise while listeners are handed over, and once they are.

        Raises:
            TemporaryFault: says so.
        """
        if self.is_under_way:
            raise TemporaryFault("an upgrade is under way; try again when it is done")
        if self._gone is not None:
            raise TemporaryFault(f"process {self._gone.pid} serves in place of this one; ask that")

    def give_up(self, why: str) -> None:
        """End a new process that is on its way, and start no other."""
        self._refusal = why
        if self._successor is not None:
            self._successor.process.kill()
            self._fail(why, EX_TEMPFAIL)

    def abandon(self) -> None:
        """Close, in a process that was forked, what the one it was forked from goes on with."""
        for successor in (self._successor, self._gone):
            if successor is not None:
                successor.channel.close()

    # ---- what is handed over

    def _hello(self) -> tuple[Hello, list[int]]:
        own = self._belongings()
        self._handed = list(self._serving.listeners)
        descriptors = [served.listening.socket.fileno() for served in self._handed]
        if own.control is not None:
            descriptors.append(own.control.socket.fileno())
        if own.pidfile is not None:
            descriptors.append(own.pidfile.fileno())
        keeper = own.pidfile.keeper if own.pidfile is not None else None
        descriptors += [keeper.fileno()] if keeper is not None else []
        descriptors += [elder.fileno() for elder in own.previous_processes]
        hello = Hello(
            names=[transfer.name_of(served) for served in self._handed],
            owners=[
                Owner(one.listening.passed, one.listening.is_ours, _path_of(one.listening)) for one in self._handed
            ],
            control=str(own.control.endpoint.sockaddr) if own.control is not None else None,
            control_path=_path_of(own.control) if own.control is not None else None,
            pidfile=own.pidfile.path if own.pidfile is not None else None,
            notify=own.given.notify,
            watchdog=own.given.watchdog,
            store=own.given.store,
            starter=own.starter,
            started=own.started,
            pid=os.getpid(),
            files=own.files,
            keeper=keeper is not None,
        )
        return hello, descriptors

    def _said(self) -> None:
        successor = self._successor
        assert successor is not None
        self._loop.remove_reader(successor.channel.fileno())
        try:
            said, _ = successor.channel.receive(Ready, UpgradeFailed)
        except EOFError:
            self._ended(self._loop.clock() + PATIENCE_SECONDS)
        except SockdError as error:
            self._fail(str(error), error.exit_code)
        else:
            if isinstance(said, Ready):
                self._try_to_hand_over(successor, said)
            else:
                assert isinstance(said, UpgradeFailed)
                self._fail(said.error, said.exit_code)

    def _try_to_hand_over(self, successor: ChildProcess, ready: Ready) -> None:
        try:
            self._hand_over(successor, ready)
        except Exception as error:
            logger.error("upgrade failed by a defect", exc_info=error)
            if self.is_under_way:
                self._fail(f"{type(error).__name__}: {error}", EX_OSERR)

    def _hand_over(self, successor: ChildProcess, ready: Ready) -> None:
        """Hand the connections over; nothing is received or sent meanwhile."""
        connections, channel = self._serving.tools.connections, successor.channel
        transfer.settle(connections)
        moved: list[int] = []
        try:
            for ids, rows in self._batches(ready):
                channel.send(Connections(rows=rows), [connections.info(id).fd for id in ids])
                answer, _ = channel.receive(Adopted, UpgradeFailed)
                if isinstance(answer, UpgradeFailed):
                    raise RemoteError(answer.error, answer.exit_code)
                assert isinstance(answer, Adopted)
                moved += [id for id, is_kept in zip(ids, answer.kept, strict=True) if is_kept]
            self._notifier.hand_over(successor.pid)
            try:
                channel.send(Commit())
            except SockdError:
                self._notifier.stay()
                raise
        except EOFError:
            self._ended(self._loop.clock() + PATIENCE_SECONDS)
        except SockdError as error:
            self._fail(str(error), error.exit_code)
        else:
            self._go(successor, ready, moved)

    def _batches(self, ready: Ready) -> Iterator[tuple[list[int], list[ConnectionState]]]:
        ids: list[int] = []
        rows: list[ConnectionState] = []
        size = 0
        for row_id, row in self._rows(ready):
            ids.append(row_id)
            rows.append(row)
            size += len(row.input_pending_bytes) + len(row.output_pending_bytes)
            if len(ids) == ROWS or size > ROWS_BYTES:
                yield ids, rows
                ids, rows, size = [], [], 0
        if ids:
            yield ids, rows

    def _rows(self, ready: Ready) -> Iterator[tuple[int, ConnectionState]]:
        """Yield each connection that can go on in the new process."""
        connections = self._serving.tools.connections
        taken = {one.number: one for one in ready.taken}
        numbers = {served.listening: number for number, served in enumerate(self._handed)}
        for served in list(self._serving.every()):
            number, spec = numbers.get(served.listening, -1), served.plan.service
            there = taken.get(number)
            if there is not None and (there.service, there.way) == (spec.name, spec.way):
                yield from transfer.rows(connections, served, number)

    def _go(self, successor: ChildProcess, ready: Ready, moved: list[int]) -> None:
        """Forget what the new process has."""
        self._successor, self._gone = None, successor
        serving, connections = self._serving, self._serving.tools.connections
        for id in moved:
            transfer.forget(connections, id)
        self._stop_timer()
        stay = self._count()
        result = UpgradeResult(time.time(), pid=successor.pid, moved=len(moved), stay=stay)
        try:
            successor.channel.send(self._numbers(len(moved), stay))
        except SockdError as error:  # it ends, and the manager starts another
            logger.error("the new process has ended", extra={"event": {"error": str(error)}})
        taken = {one.number for one in ready.taken}
        serving.hand_over([served for number, served in enumerate(self._handed) if number in taken])
        self._left(ready, successor.channel)
        logger.info("upgraded", extra={"event": {"pid": result.pid, "moved": result.moved, "stay": result.stay}})
        self._note(result)

    def _numbers(self, moved: int, stay: int) -> Counters:
        return Counters(
            totals={name: _told(totals) for name, totals in self._serving.totals().items()},
            accepted=[one.listener.counts.as_numbers() for one in self._handed],
            moved=moved,
            stay=stay,
            defects=self._serving.defects,
        )

    # ---- when it comes to nothing

    def _late(self, timeout: float) -> None:
        successor = self._successor
        if successor is not None:
            successor.process.kill()
            self._fail(f"the new process was not ready within {timeout:g} s", EX_TEMPFAIL)

    def _ended(self, until: float) -> None:
        """Say how a new process ended that said nothing, as soon as that is known."""
        successor = self._successor
        if successor is None:
            return
        how = successor.ended()
        if not how and self._loop.clock() < until:
            self._loop.call_later(LOOK_SECONDS, lambda: self._ended(until))
            return
        self._fail(
            f"the new process was not ready: {how or 'it said nothing'}; its standard error tells more", EX_OSERR
        )

    def _fail(self, why: str, exit_code: int) -> None:
        successor, self._successor = self._successor, None
        assert successor is not None
        self._stop_timer()
        self._loop.remove_reader(successor.channel.fileno())
        successor.channel.close()
        self._reap(successor, self._loop.clock() + PATIENCE_SECONDS)
        self._note(UpgradeResult(time.time(), why, exit_code))

    def _reap(self, successor: ChildProcess, until: float) -> None:
        again = self._loop.call_later(LOOK_SECONDS, lambda: self._reap(successor, until))
        if successor.ended():
            again.cancel()
        elif self._loop.clock() >= until:
            successor.process.kill()

    def _note(self, result: UpgradeResult) -> None:
        self.last = result
        for line in result.error.splitlines():
            logger.error("not upgraded, going on as before", extra={"event": {"error": line}})
        tell, self._tell = self._tell, lambda result: None
        tell(result)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _path_of(listening: ServerSocket) -> tuple[str, int, int] | None:
    path = listening.path
    return None if path is None else (path.path, path.device, path.inode)


def _told(totals: Totals) -> list[int]:
    """Return totals without what is there now: that is counted where it is."""
    return [totals.accepted, totals.received, totals.sent, totals.frames, *totals.reasons]


def answer_of(result: UpgradeResult) -> ControlResponse:
    """Return the answer to who asked for an upgrade."""
    return (
        ControlResponse(error=result.error, exit_code=result.exit_code)
        if result.error
        else ControlResponse(result.table())
    )


__all__ = ["HandoffState", "UpgradeSender", "answer_of"]
