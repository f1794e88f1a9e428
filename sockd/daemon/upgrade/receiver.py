# SPDX-License-Identifier: MIT
"""The new process of an upgrade: adopts what the old one hands over, and takes over when it is ready.

See sockd.daemon.upgrade.messages for the order of things.  Its states are ReceiverState's.  Whatever fails before
COMMITTED is told to the old process, which then goes on as if nothing had happened; behind it that process has nothing
to go on with, so this one serves whatever becomes of the old one.
"""

from __future__ import annotations

import logging
import os
import socket
import traceback
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from sockd.daemon.upgrade import transfer
from sockd.daemon.upgrade.channel import Channel, inherited_channel
from sockd.daemon.upgrade.messages import (
    AcceptedListener,
    Adopted,
    Commit,
    Connections,
    Counters,
    Hello,
    Ready,
    UpgradeFailed,
)
from sockd.errors import EX_OSERR, SockdError, SystemFault, TemporaryFault
from sockd.net.connection.info import Totals
from sockd.net.listen.bind import ServerSocket
from sockd.net.listen.listener import ListenerCounts
from sockd.net.listen.unix_path import InheritedPath
from sockd.net.loop.state_table import StateTable
from sockd.process.inherited_sockets import examine
from sockd.process.pid_keeper import PidKeeper
from sockd.process.socket_activation import Inherited
from sockd.services import module_state

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping, Sequence

    from sockd.daemon.listeners import ActiveListener, ListenerRegistry


logger = logging.getLogger("sockd.daemon")


class ReceiverState(Enum):
    """How far an upgrade has come, in the new process."""

    STARTING = "all that can fail is being done"
    READY = "that is told, and connections come; not a byte of theirs is read"
    COMMITTED = "the old process has said that this one serves"
    SERVING = "what was counted before is known, or will not be"
    FAILED = "the old process goes on itself"


NEXT = StateTable(
    {
        ReceiverState.STARTING: {ReceiverState.READY, ReceiverState.FAILED},
        ReceiverState.READY: {ReceiverState.COMMITTED, ReceiverState.FAILED},
        ReceiverState.COMMITTED: {ReceiverState.SERVING},
        ReceiverState.SERVING: (),
        ReceiverState.FAILED: (),
    }
)
"""What may follow."""


class UpgradeReceiver:
    """The previous process.

    Args:
        channel: to it.
        hello: its first message.
        descriptors: those of that message.

    Attributes:
        hello: see above.
        given: the listening sockets, and what a manager had told that process.
        previous_processes: channels to processes that had left before it.
        state: how far it has come.
        moved: connections that came along; set by complete().
    """

    def __init__(self, channel: Channel, hello: Hello, descriptors: list[int]) -> None:
        self.channel = channel
        self.hello = hello
        left = list(descriptors)
        self._listening = [left.pop(0) for _ in hello.names]
        self._control = left.pop(0) if hello.control is not None else None
        self._pidfile = left.pop(0) if hello.pidfile is not None else None
        self._keeper = PidKeeper(socket.socket(fileno=left.pop(0))) if hello.keeper else None
        self.previous_processes = [Channel(socket.socket(fileno=fd)) for fd in left]
        self.given = Inherited(
            descriptors=tuple(zip(hello.names, self._listening, strict=True)),
            notify=hello.notify,
            watchdog=hello.watchdog,
            store=hello.store,
            owners=dict(zip(self._listening, hello.owners, strict=True)),
            is_lent=self._is_lent,
            drained=hello.drained,
        )
        self.moved = 0
        self.state = ReceiverState.STARTING
        self._has_control = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> UpgradeReceiver | None:
        """Return the previous process; None at a plain start.

        Raises:
            SockdError: it sent nothing.
        """
        channel = inherited_channel(environment)
        if channel is None:
            return None
        try:
            hello, descriptors = channel.receive(Hello)
        except EOFError:
            channel.close()
            raise TemporaryFault("the previous process has exited") from None
        except BaseException:
            channel.close()
            raise
        return cls(channel, hello, descriptors)

    def _is_lent(self) -> bool:
        return self.state not in (ReceiverState.COMMITTED, ReceiverState.SERVING)

    @contextmanager
    def reporting_failure(self) -> Iterator[None]:
        """Report a failure of the body to it, as long as it waits."""
        try:
            yield
        except SockdError as error:
            self._report_failure(str(error), error.exit_code)
            raise
        except BaseException as error:
            self._report_failure("".join(traceback.format_exception_only(error)).strip(), EX_OSERR)
            raise

    def _report_failure(self, error: str, exit_code: int) -> None:
        if self.state not in (ReceiverState.STARTING, ReceiverState.READY):
            return
        self.state = NEXT.step(self.state, ReceiverState.FAILED)
        try:
            self.channel.send(UpgradeFailed(error=error, exit_code=exit_code))
        except TemporaryFault:
            return  # nobody waits

    # ---- inherited at a start

    def control(self, path: str) -> ServerSocket | None:
        """Return the control socket, if it is at this path."""
        if self._control is None or path != self.hello.control:
            return None
        one = examine("control", self._control)
        if one.socket is None or one.endpoint is None:
            text = f"{path}: what was handed over cannot be served: {one.problem}"
            raise SystemFault(text, key=("daemon", "control"))
        self._has_control = True
        owned = InheritedPath(*self.hello.control_path, self._is_lent) if self.hello.control_path else None
        return ServerSocket(one.socket, one.endpoint, owned)

    def pidfile(self, path: str) -> tuple[int | None, PidKeeper | None]:
        """Return a descriptor of the pid file at this path, with its lock, and the helper that writes it."""
        if path != self.hello.pidfile:
            return None, None
        keeper, self._keeper = self._keeper, None
        return self._pidfile, keeper

    # ---- in its place

    def complete(self, serving: ListenerRegistry, *, has_pidfile: bool) -> None:
        """Report that this process is ready, adopt the connections, and return once the old process no longer serves.

        Raises:
            TemporaryFault: the old process keeps serving.
        """
        numbers = {fd: number for number, fd in enumerate(self._listening)}
        adopted = {numbers[fd]: one for one in serving.listeners if (fd := one.listening.socket.fileno()) in numbers}
        rows = [
            AcceptedListener(number=number, service=one.run.spec.name, way=transfer.way_at(one))
            for number, one in adopted.items()
        ]
        try:
            ready = Ready(pid=os.getpid(), adopted=rows, has_control=self._has_control, has_pidfile=has_pidfile)
            self.channel.send(ready)
            self.state = NEXT.step(self.state, ReceiverState.READY)
            self._adopt(serving, adopted)
        except EOFError:
            self.state = NEXT.step(self.state, ReceiverState.FAILED)
            raise TemporaryFault("the previous process keeps serving") from None
        self.state = NEXT.step(self.state, ReceiverState.COMMITTED)
        self._count_on(serving, adopted)
        self.state = NEXT.step(self.state, ReceiverState.SERVING)
        for left in (self._control if not self._has_control else None, self._pidfile):
            if left is not None:
                os.close(left)
        if self._keeper is not None:
            self._keeper.close()

    def _adopt(self, serving: ListenerRegistry, adopted: dict[int, ActiveListener]) -> None:
        """Take connections, as long as some come; return once the old process has given all up."""
        while True:
            said, descriptors = self.channel.receive(Connections, Commit)
            match said:
                case Connections():
                    module_state.restore([served.run.spec for served in serving.listeners], said.states)
                    pairs = zip(said.rows, descriptors, strict=True)
                    kept = [
                        transfer.adopt(serving.tools.connections, adopted[row.listener], row, fd) for row, fd in pairs
                    ]
                    self.moved += sum(kept)
                    self.channel.send(Adopted(kept=kept))
                case Commit():
                    return

    def _count_on(self, serving: ListenerRegistry, adopted: dict[int, ActiveListener]) -> None:
        """Count on what the old process has counted; nothing else is left to it, so its end costs the counts alone."""
        try:
            counted, descriptors = self.channel.receive(Counters)
        except (EOFError, TemporaryFault) as error:
            why = str(error) or "the connection has ended"
            logger.warning("counts of the process before are not known", extra={"event": {"error": why}})
        else:
            self.moved = counted.moved
            _count_on(serving, adopted, counted)
            _await_programs(adopted, counted.programs, descriptors)


def _count_on(serving: ListenerRegistry, adopted: dict[int, ActiveListener], counted: Counters) -> None:
    serving.tools.loop.defects.count += counted.defects
    serving.overrides.adopt(counted.overrides)
    for name, (accepted, received, sent, frames, *reasons) in counted.totals.items():
        known = len(Totals().reasons)  # another version may know more of them, or fewer
        among = (*reasons, *Totals().reasons)[:known]
        serving.add_past(name, Totals(accepted, 0, received, sent, frames, 0, among))
    refused = counted.refused or [{}] * len(counted.accepted)  # an older version does not tell
    for number, served in adopted.items():
        serving.count_on(served, ListenerCounts.from_numbers(counted.accepted[number], refused[number]))


def _await_programs(adopted: dict[int, ActiveListener], numbers: Sequence[int], descriptors: Sequence[int]) -> None:
    """Have each listener know the programs of the old process that have its socket."""
    for number, fd in zip(numbers, descriptors, strict=True):
        if number in adopted:
            adopted[number].listener.await_programs([fd])
        else:
            os.close(fd)


__all__ = ["UpgradeReceiver"]
