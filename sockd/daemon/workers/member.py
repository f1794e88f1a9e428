# SPDX-License-Identifier: MIT
"""A worker as its supervisor sees it, and the generation that it is of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.daemon.workers.ipc import RequestChannel
    from sockd.process.signals import Signals
    from sockd.wire.control import ControlResponse

LAST = "last"
"""The key of what a worker says unasked, when it ends in order."""
AT_ONCE_SECONDS = 0.2
"""What dies younger than this, and has accepted nobody, has died at once."""
FREE_DEATHS = 2
"""So many in a row at one place are replaced without a pause."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


@dataclass(eq=False)
class WorkerGeneration:
    """What one configuration has made.

    Args:
        size: how many processes.
        work: what one does: called there with its place, its number, its end of the channel and its signals; returns
            the exit code.
        left: told the place of one that has ended, returns whether that one had accepted a client.
        deaths: by place, how many have died at once in a row.
    """

    size: int
    work: Callable[[int, int, socket.socket, Signals], int]
    left: Callable[[int], bool]
    members: list[WorkerHandle] = field(default_factory=list)
    deaths: dict[int, int] = field(default_factory=dict)
    is_dismissed: bool = False

    @property
    def places(self) -> int:
        """How many there can be: as many as there shall be, and their successors."""
        return 2 * self.size

    def is_short(self) -> bool:
        """Whether there are fewer than there shall be, those not counted that have a successor."""
        alive = [member for member in self.members if not member.is_retired]
        return sum(member.successor not in alive for member in alive) < self.size

    def pause(self, place: int) -> float:
        """Say how long a place stays empty, in seconds."""
        too_many = self.deaths.get(place, 0) - FREE_DEATHS
        return 0.0 if too_many <= 0 else min(FIRST_PAUSE_SECONDS * 2.0 ** min(too_many - 1, 30), LONGEST_PAUSE_SECONDS)

    def note_death(self, member: WorkerHandle, now: float) -> None:
        """Count one that has ended though it should not have."""
        had_client = self.left(member.place)
        has_served = member.is_ready and (had_client or now - member.ready_at >= AT_ONCE_SECONDS)
        self.deaths[member.place] = 0 if has_served else self.deaths.get(member.place, 0) + 1


class LastWords:
    """What a worker says unasked, when it ends in order.

    Attributes:
        counted: what it had counted, as ProcessStats.as_table(); None before, and for one that was killed.
    """

    def __init__(self) -> None:
        self.counted: object = None

    def hear(self, answer: ControlResponse) -> bool:
        """Keep them; tell whether an answer was that."""
        if isinstance(answer.result, dict) and LAST in answer.result:
            self.counted = answer.result[LAST]
            return True
        return False


@dataclass(eq=False)
class WorkerHandle:
    """One process.

    Args:
        number: counted from 1, and never given twice.
        place: in its generation; that of one that has ended is given again.
        began: by the loop's clock; `ready_at` is when it could serve.
        asking: on which it is asked.
        last: what it said when it ended.
        is_silent: it has not answered in time, and that is in the log.
        is_retired: it accepts no more; is_stopping: it was told to end.
        first_memory, memory: bytes that it took when it could serve, and when it was looked at last.
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
    ready_at: float = 0.0
    is_ready: bool = False
    is_silent: bool = False
    is_retired: bool = False
    is_stopping: bool = False
    first_memory: int = 0
    memory: int = 0
    successor: WorkerHandle | None = None
    accepts: Callable[[], None] = lambda: None


__all__ = ["LAST", "LastWords", "WorkerGeneration", "WorkerHandle"]
