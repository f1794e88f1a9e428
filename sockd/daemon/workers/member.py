# SPDX-License-Identifier: MIT
"""A worker as its supervisor sees it, and its generation."""

from __future__ import annotations

import random
from enum import Enum
from typing import TYPE_CHECKING

from sockd.net.loop.state_table import StateTable
from sockd.values import dataclass, field

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.daemon.workers.ipc import RequestChannel
    from sockd.process.signals import Signals
    from sockd.wire.control import ControlResponse, JsonObject

LAST = "last"
"""The key of the unsolicited message that a worker sends when it exits gracefully."""
SENSED = "sensed"
"""The key of the one about a source that came to a listener with `deny_time`: its network, and seconds."""
STALLED = "stalled"
"""The key of the one that it sends while its loop stands still."""
PASSED = "passed"
"""The key of what it says for those who follow the daemon (`sockctl trace`)."""
AT_ONCE_SECONDS = 0.2
"""A worker that exits earlier than this, and has accepted no connection, counts as an immediate exit."""
FREE_DEATHS = 2
"""So many in a row at one place are replaced without a pause."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
JITTER = 0.1
"""By so much of a limit workers differ, at most."""
IDS_PER_WORKER = 10_000_000_000
"""In the whole daemon, IDs of connections of worker n begin at n times this; those of a table have 31 bits
(csrc/slots.h).
"""


class WorkerState(Enum):
    """What a worker does with new clients."""

    ACCEPTING = "it accepts them, as soon as it is ready"
    RETIRED = "it leaves them to others, and exits with its last connection"
    STOPPING = "it was told by a signal to exit"


WORKER = StateTable(
    {
        WorkerState.ACCEPTING: (WorkerState.RETIRED, WorkerState.STOPPING),
        WorkerState.RETIRED: (WorkerState.STOPPING,),
        WorkerState.STOPPING: (),
    }
)


@dataclass(eq=False)
class WorkerGeneration:
    """The workers of one configuration.

    Args:
        size: number of processes.
        work: runs in each process, with its place, its number, its end of the channel and its signals; returns the
            exit code.
        left: called with the place of one that has exited, returns whether it had accepted a connection.
        deaths: by place, immediate exits in a row.
    """

    size: int
    work: Callable[[int, int, socket.socket, Signals], int]
    left: Callable[[int], bool]
    members: list[WorkerHandle] = field(default_factory=list)
    deaths: dict[int, int] = field(default_factory=dict)
    is_dismissed: bool = False

    @property
    def places(self) -> int:
        """Maximum number of processes: the configured number, and their successors."""
        return 2 * self.size

    @property
    def has_room(self) -> bool:
        """Whether one can leave with its last connection: a place is left for one that has to go."""
        return len(self.members) < self.places - 1

    def is_short(self) -> bool:
        """Whether there are fewer than configured, not counting those with a successor."""
        alive = [member for member in self.members if member.accepts_clients]
        return sum(member.successor not in alive for member in alive) < self.size

    def pause(self, place: int) -> float:
        """Return how long a place stays empty, in seconds."""
        too_many = self.deaths.get(place, 0) - FREE_DEATHS
        return 0.0 if too_many <= 0 else min(FIRST_PAUSE_SECONDS * 2.0 ** min(too_many - 1, 30), LONGEST_PAUSE_SECONDS)

    def note_death(self, member: WorkerHandle, now: float) -> None:
        """Count one that has exited unexpectedly."""
        had_client = self.left(member.place)
        ready_at = now if member.ready_at is None else member.ready_at
        has_served = member.is_ready and (had_client or now - ready_at >= AT_ONCE_SECONDS)
        self.deaths[member.place] = 0 if has_served else self.deaths.get(member.place, 0) + 1


class LastWords:
    """The unsolicited messages of a worker.

    Args:
        passed: gets what it says for those who follow the daemon.
        sensed: called with the network and the seconds of a source that is to be denied.

    Attributes:
        counted: its counters, as ProcessStats.as_table(); None before, and for one that was killed.
        stalled: what its loop is doing instead of turning, as Worker has sent it; empty while it turns.
    """

    def __init__(
        self,
        passed: Callable[[JsonObject], None],
        sensed: Callable[[str, float], None] = lambda _network, _seconds: None,
    ) -> None:
        self._passed = passed
        self._sensed = sensed
        self.counted: object = None
        self.stalled: JsonObject = {}

    @property
    def where(self) -> str:
        """Return at which line its loop stands still; empty while it turns, or where that is not known."""
        return f"{self.stalled['at']} ({self.stalled['handler']})" if self.stalled else ""

    def hear(self, answer: ControlResponse) -> bool:
        """Keep them; return whether a reply was that message."""
        if isinstance(answer.result, dict) and LAST in answer.result:
            self.counted = answer.result[LAST]
            return True
        if isinstance(answer.result, dict) and STALLED in answer.result:
            self.stalled = answer.result[STALLED]
            return True
        if isinstance(answer.result, dict) and PASSED in answer.result:
            self._passed(answer.result[PASSED])
            return True
        if isinstance(answer.result, dict) and SENSED in answer.result:
            self._sensed(*answer.result[SENSED])
            return True
        self.stalled = {}  # it replies
        return False


@dataclass(eq=False)
class WorkerHandle:
    """One worker process.

    Args:
        number: counted from 1, and never reused.
        place: in its generation; reused after an exit.
        began: by the loop's clock; `ready_at` is when it could serve, None before that.
        asking: on which it is asked.
        last: what it said when it ended.
        is_silent: it has not answered in time, and that is in the log.
        end_reason: why it is replaced, when it has ended: a key of WorkerPool.replaced.
        first_memory, memory: bytes that it took when it could serve, and when it was looked at last.
        share: of limits that are not to be reached by all workers together.
        successor: who serves in its place as soon as possible.
        accepts: called when it does, at the latest ANSWER_SECONDS later.
    """

    number: int
    place: int
    pid: int
    generation: WorkerGeneration
    began: float
    asking: RequestChannel
    last: LastWords
    ready_at: float | None = None
    state: WorkerState = WorkerState.ACCEPTING
    is_silent: bool = False
    end_reason: str = "ended"
    first_memory: int = 0
    memory: int = 0
    share: float = field(default_factory=lambda: 1 - JITTER * random.random())  # noqa: S311 - no secret
    successor: WorkerHandle | None = None
    accepts: Callable[[], None] = lambda: None

    @property
    def is_ready(self) -> bool:
        """Whether it can serve, and be asked."""
        return self.ready_at is not None

    @property
    def accepts_clients(self) -> bool:
        """Whether new clients come to it, or will once it is ready."""
        return self.state is WorkerState.ACCEPTING

    def daemon_wide_id(self, id: int) -> int:
        """Return the ID that one of its connections has in the whole daemon; split_id() is the way back."""
        return self.number * IDS_PER_WORKER + id

    def retire(self) -> None:
        """Note that it leaves new clients to others; one that is to exit does so anyway."""
        if self.accepts_clients:
            self.state = WORKER.step(self.state, WorkerState.RETIRED)

    def stop(self) -> bool:
        """Note that it is to exit; return False where it was told before."""
        if self.state is WorkerState.STOPPING:
            return False
        self.state = WORKER.step(self.state, WorkerState.STOPPING)
        return True


def split_id(id: int) -> tuple[int, int]:
    """Return the number of a worker (0: the supervisor itself) and the ID that a connection has there."""
    return divmod(id, IDS_PER_WORKER)


__all__ = [
    "FIRST_PAUSE_SECONDS",
    "IDS_PER_WORKER",
    "LAST",
    "PASSED",
    "SENSED",
    "STALLED",
    "LastWords",
    "WorkerGeneration",
    "WorkerHandle",
    "WorkerState",
    "split_id",
]
