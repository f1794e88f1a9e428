# SPDX-License-Identifier: MIT
"""The old process of an upgrade: starts the program again, hands over what it serves, and stops.

The new process does everything that can fail before it reports that it is ready; then, between two turns of the loop,
it gets the connections that can move, and only when it has adopted them this process stops accepting and drops them.
If the new process fails, hangs or exits, that is reported, and nothing changes.  See sockd.daemon.upgrade.messages.

Its states are SenderState's.  Until COMMITTED, the single point of no return, every way out leads back to IDLE, and
this process serves as before; behind it there is none: this process only ends what stayed.

Connections that cannot move - programs, relays, SOCKS, coroutines, protocol classes without snapshot() and restore() -
stay here until they close, as long as the new process lives.
"""

from __future__ import annotations

import logging
import os
import time
from enum import Enum
from itertools import chain
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
from sockd.net.loop.state_table import StateTable
from sockd.process.socket_activation import Owner
from sockd.values import dataclass, field
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
"""Maximum bytes in one message, except for a connection that alone has more."""
PATIENCE_SECONDS = 2.0
"""Time for a new process that has failed to exit by itself."""


class SenderState(Enum):
    """How far an upgrade has come, in the old process."""

    IDLE = "no new process is there"
    STARTING = "a new process is on its way; nothing has been given away"
    HANDING = "it is ready, and connections are being told to it; nothing happens beside that"
    ENDING = "it has ended without a word, and how is not known yet"
    COMMITTED = "it serves; this process goes on for what stayed"
    REFUSED = "this process stops, and starts none any more"


NEXT = StateTable(
    {
        SenderState.IDLE: {SenderState.STARTING, SenderState.REFUSED},
        SenderState.STARTING: {SenderState.HANDING, SenderState.ENDING, SenderState.IDLE, SenderState.REFUSED},
        SenderState.HANDING: {SenderState.COMMITTED, SenderState.ENDING, SenderState.IDLE},
        SenderState.ENDING: {SenderState.IDLE, SenderState.REFUSED},
        SenderState.COMMITTED: (),
        SenderState.REFUSED: (),
    }
)
"""What may follow."""
ON_ITS_WAY = (SenderState.STARTING, SenderState.HANDING, SenderState.ENDING)


@dataclass(frozen=True)
class HandoffState:
    """What the new process gets besides listening sockets and connections.

    Args:
        given: by a manager, for whom this is the same service.
        control: the control socket.
        pidfile: with its lock.
        starter: uid that started the daemon.
        started: when, in seconds since 1970.
        previous_processes: channels to those that have left before.
        files: RLIMIT_NOFILE at the start.
    """

    given: Inherited
    control: ServerSocket | None
    pidfile: PidFile | None
    starter: int
    started: float
    previous_processes: list[Channel]
    files: tuple[int, int]


@dataclass(eq=False)
class Attempt:
    """One new process.

    Args:
        process: that is to go on.
        report: is called once, with how it went.
        late: when it has adopted too long; later, when how it ended is not waited for any longer.
        handed: listeners whose sockets it has.
    """

    process: ChildProcess
    report: Callable[[UpgradeResult], None]
    late: Timer
    handed: list[ActiveListener] = field(default_factory=list)


class UpgradeSender:
    """Runs upgrades.

    Args:
        command: how this process was started.
        serving: what is handed over.
        belongings: likewise; asked at the moment.
        notifier: is told who the main process is.
        left: is called once the new process serves, with what it has; this one then ends when nothing is left.

    Attributes:
        state: how far it has come.
        last: how the last one went; None before the first one.
    """

    def __init__(
        self,
        command: StartCommand,
        serving: ListenerRegistry,
        belongings: Callable[[], HandoffState],
        notifier: Notifier,
        left: Callable[[Ready, Channel], None],
    ) -> None:
        self._command = command
        self._serving = serving
        self._loop = serving.tools.loop
        self._belongings = belongings
        self._notifier = notifier
        self._left = left
        self.state = SenderState.IDLE
        self._attempt: Attempt | None = None
        self._failed: dict[ChildProcess, Timer] = {}
        self._refusal = ""
        self.last: UpgradeResult | None = None

    def begin(self, report: Callable[[UpgradeResult], None], timeout: float) -> None:
        """Start the new process.

        Args:
            report: called once, with the result.
            timeout: seconds for the new process to be ready.

        Raises:
            TemporaryFault: an upgrade is not possible now.
        """
        self.check()
        if self.state is SenderState.REFUSED:
            raise TemporaryFault(self._refusal)
        logger.info("upgrading", extra={"event": {"program": " ".join(self._command.words)}})
        try:
            process = self._command.start()
        except SockdError as error:
            self._note(UpgradeResult(time.time(), str(error), error.exit_code), report)
            return
        self.state = NEXT.step(self.state, SenderState.STARTING)
        late = self._loop.call_later(timeout, lambda: self._late(attempt, timeout))
        self._attempt = attempt = Attempt(process, report, late)
        self._loop.add_reader(process.channel.fileno(), lambda: self._said(attempt))
        try:
            process.channel.send(*self._hello(attempt))
        except SockdError:
            return  # it has ended, and how will be seen

    def check(self) -> None:
        """Raise while listeners are handed over, and afterwards.

        Raises:
            TemporaryFault: says so.
        """
        if self.state in ON_ITS_WAY:
            raise TemporaryFault("an upgrade is in progress; try again when it is done")
        if self.state is SenderState.COMMITTED and self._attempt is not None:
            raise TemporaryFault(f"process {self._attempt.process.pid} serves in place of this one; ask that")

    def give_up(self, why: str) -> None:
        """Stop a new process that is starting, and start no other."""
        self._refusal = why
        if self.state in ON_ITS_WAY and self._attempt is not None:
            self._attempt.process.kill()
            self._fail(self._attempt, why, EX_TEMPFAIL, SenderState.REFUSED)
        elif self.state is SenderState.IDLE:
            self.state = NEXT.step(self.state, SenderState.REFUSED)

    def abandon(self) -> None:
        """Close, in a forked process, what the parent continues to use."""
        if self._attempt is not None:
            self._attempt.process.channel.close()

    def reap(self) -> None:
        """See how new processes have ended that were to (SIGCHLD)."""
        for process, kill in list(self._failed.items()):
            if process.ended():
                kill.cancel()
                del self._failed[process]
        if self.state is SenderState.ENDING and self._attempt is not None:
            self._fail_if_ended(self._attempt)

    # ---- what is handed over

    def _hello(self, attempt: Attempt) -> tuple[Hello, list[int]]:
        own = self._belongings()
        attempt.handed = handed = list(self._serving.listeners)
        descriptors = [served.listening.socket.fileno() for served in handed]
        if own.control is not None:
            descriptors.append(own.control.socket.fileno())
        if own.pidfile is not None:
            descriptors.append(own.pidfile.fileno())
        keeper = own.pidfile.keeper if own.pidfile is not None else None
        descriptors += [keeper.fileno()] if keeper is not None else []
        descriptors += [one.fileno() for one in own.previous_processes]
        hello = Hello(
            names=[transfer.listener_name(served) for served in handed],
            owners=[
                Owner(one.listening.passed, one.listening.is_ours, _path_identity(one.listening)) for one in handed
            ],
            control=str(own.control.endpoint.sockaddr) if own.control is not None else None,
            control_path=_path_identity(own.control) if own.control is not None else None,
            pidfile=own.pidfile.path if own.pidfile is not None else None,
            notify=own.given.notify,
            watchdog=own.given.watchdog,
            store=own.given.store,
            starter=own.starter,
            started=own.started,
            pid=os.getpid(),
            files=own.files,
            keeper=keeper is not None,
            drained={one.endpoint: one.plan.find_name(one.address) for one in self._serving.absent if not one.why},
            overrides=self._serving.overrides.rows,
        )
        return hello, descriptors

    def _said(self, attempt: Attempt) -> None:
        channel = attempt.process.channel
        self._loop.remove_reader(channel.fileno())
        try:
            said, _ = channel.receive(Ready, UpgradeFailed)
        except EOFError:
            self._ended(attempt)
        except SockdError as error:
            self._fail(attempt, str(error), error.exit_code)
        else:
            match said:
                case Ready():
                    self._try_to_hand_over(attempt, said)
                case UpgradeFailed():
                    self._fail(attempt, said.error, said.exit_code)

    def _try_to_hand_over(self, attempt: Attempt, ready: Ready) -> None:
        try:
            self._hand_over(attempt, ready)
        except Exception as error:
            logger.error("upgrade failed: internal error", exc_info=error)
            if self.state in ON_ITS_WAY:
                self._fail(attempt, f"{type(error).__name__}: {error}", EX_OSERR)

    def _hand_over(self, attempt: Attempt, ready: Ready) -> None:
        """Hand the connections over; nothing is received or sent meanwhile."""
        self.state = NEXT.step(self.state, SenderState.HANDING)
        connections, channel = self._serving.tools.connections, attempt.process.channel
        transfer.flush_all(connections)
        moved: list[int] = []
        try:
            states = self._serving.module_states()
            for ids, rows in chain([([], [])] if states else [], self._batches(attempt, ready)):
                channel.send(Connections(rows=rows, states=states), [connections.info(id).fd for id in ids])
                states = {}
                answer, _ = channel.receive(Adopted, UpgradeFailed)
                match answer:
                    case Adopted():
                        moved += [id for id, is_kept in zip(ids, answer.kept, strict=True) if is_kept]
                    case UpgradeFailed():
                        raise RemoteError(answer.error, answer.exit_code)
            attempt.process.release(ready.pid)  # the main process is to be a child of the manager
            self._notifier.hand_over(ready.pid)
            try:
                channel.send(Commit())
            except SockdError:
                self._notifier.stay()
                raise
        except EOFError:
            self._ended(attempt)
        except SockdError as error:
            self._fail(attempt, str(error), error.exit_code)
        else:
            self._go(attempt, ready, moved)

    def _batches(self, attempt: Attempt, ready: Ready) -> Iterator[tuple[list[int], list[ConnectionState]]]:
        ids: list[int] = []
        rows: list[ConnectionState] = []
        size = 0
        for row_id, row in self._rows(attempt, ready):
            ids.append(row_id)
            rows.append(row)
            size += len(row.input_pending_bytes) + len(row.output_pending_bytes)
            if len(ids) == ROWS or size > ROWS_BYTES:
                yield ids, rows
                ids, rows, size = [], [], 0
        if ids:
            yield ids, rows

    def _rows(self, attempt: Attempt, ready: Ready) -> Iterator[tuple[int, ConnectionState]]:
        """Yield each connection that can move to the new process."""
        connections = self._serving.tools.connections
        adopted = {one.number: one for one in ready.adopted}
        numbers = {served.listening: number for number, served in enumerate(attempt.handed)}
        for served in list(self._serving.every()):
            number, spec = numbers.get(served.listening, -1), served.plan.service
            there = adopted.get(number)
            if there is not None and (there.service, there.way) == (spec.name, spec.way):
                yield from transfer.rows(connections, served, number)

    def _go(self, attempt: Attempt, ready: Ready, moved: list[int]) -> None:
        """Drop what the new process has adopted."""
        self.state = NEXT.step(self.state, SenderState.COMMITTED)
        serving, connections, process = self._serving, self._serving.tools.connections, attempt.process
        for id in moved:
            transfer.forget(connections, id)
        attempt.late.cancel()
        stay = serving.count()
        result = UpgradeResult(time.time(), pid=process.pid, moved=len(moved), stay=stay)
        programs = [(n, fd) for n, served in enumerate(attempt.handed) for fd in served.listener.running()]
        try:
            numbers = self._numbers(attempt, len(moved), stay, [number for number, _ in programs])
            process.channel.send(numbers, [fd for _, fd in programs])
        except SockdError as error:  # it ends, and the manager starts another
            logger.error("the new process has exited", extra={"event": {"error": str(error)}})
        finally:
            for _, fd in programs:
                os.close(fd)
        adopted = {one.number for one in ready.adopted}
        serving.hand_over([served for number, served in enumerate(attempt.handed) if number in adopted])
        self._left(ready, process.channel)
        logger.info("upgraded", extra={"event": {"pid": result.pid, "moved": result.moved, "stay": result.stay}})
        self._note(result, attempt.report)

    def _numbers(self, attempt: Attempt, moved: int, stay: int, programs: list[int]) -> Counters:
        return Counters(
            totals={name: _final_totals(totals) for name, totals in self._serving.totals().items()},
            accepted=[one.listener.counts.as_numbers() for one in attempt.handed],
            moved=moved,
            stay=stay,
            defects=self._serving.defects,
            refused=[dict(one.listener.counts.refused) for one in attempt.handed],
            programs=programs,
            overrides=self._serving.overrides.rows,
        )

    # ---- when it comes to nothing

    def _late(self, attempt: Attempt, timeout: float) -> None:
        attempt.process.kill()
        self._fail(attempt, f"the new process was not ready within {timeout:g} s", EX_TEMPFAIL)

    def _ended(self, attempt: Attempt) -> None:
        """Return how a new process ended that sent nothing, as soon as that is known."""
        self.state = NEXT.step(self.state, SenderState.ENDING)
        attempt.late.cancel()
        attempt.late = self._loop.call_later(PATIENCE_SECONDS, lambda: self._fail_if_ended(attempt, "it said nothing"))
        self._fail_if_ended(attempt)  # else at the next SIGCHLD

    def _fail_if_ended(self, attempt: Attempt, otherwise: str = "") -> None:
        how = attempt.process.ended() or otherwise
        if how:
            why = f"the new process was not ready: {how}; its standard error tells more"
            self._fail(attempt, why, EX_OSERR)

    def _fail(self, attempt: Attempt, why: str, exit_code: int, state: SenderState = SenderState.IDLE) -> None:
        self.state = NEXT.step(self.state, state)
        self._attempt = None
        attempt.late.cancel()
        process = attempt.process
        self._loop.remove_reader(process.channel.fileno())
        process.channel.close()
        if not process.ended():
            self._failed[process] = self._loop.call_later(PATIENCE_SECONDS, process.kill)  # reap() sees its end
        self._note(UpgradeResult(time.time(), why, exit_code), attempt.report)

    def _note(self, result: UpgradeResult, report: Callable[[UpgradeResult], None]) -> None:
        self.last = result
        for line in result.error.splitlines():
            logger.error("upgrade failed, still serving", extra={"event": {"error": line}})
        report(result)


def _path_identity(listening: ServerSocket) -> tuple[str, int, int] | None:
    path = listening.path
    return None if path is None else (path.path, path.device, path.inode)


def _final_totals(totals: Totals) -> list[int]:
    """Return totals without the open connections: each is counted where it is."""
    return [totals.accepted, totals.received, totals.sent, totals.frames, *totals.reasons]


def upgrade_response(result: UpgradeResult) -> ControlResponse:
    """Return the reply to the client that requested an upgrade."""
    return (
        ControlResponse(error=result.error, exit_code=result.exit_code)
        if result.error
        else ControlResponse(result.table())
    )


__all__ = ["HandoffState", "UpgradeSender", "upgrade_response"]
