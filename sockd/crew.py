"""Worker processes: forked, waited for until they serve, replaced when they die, ended.

A generation is what one configuration has made: so many processes that serve the same listening sockets.  The next
one is there, and serves, before the one before is told to accept no more; that one ends with its connections.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sockd.errors import SockdError, TemporaryFault
from sockd.process.channel import Asking
from sockd.process.fork import fork, how_it_ended
from sockd.wire.control import Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sockd.net.loop import EventLoop
    from sockd.wire.control import Answer

logger = logging.getLogger("sockd.daemon")

START_SECONDS = 60.0
"""For a worker to serve: startup hooks may connect to something."""
ANSWER_SECONDS = 5.0
"""For an answer; a worker whose loop stands still for that long has none."""
STEADY_SECONDS = 10.0
"""What dies younger than this is not replaced at once again and again."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


LAST = "last"
"""The key of what a worker says unasked, when it ends in order."""


@dataclass(eq=False)
class Generation:
    """What one configuration has made.

    Args:
        size: how many processes.
        work: what one does: called there with its place, its number and its end of the channel, returns the exit code.
        left: told the place of one that has ended.
    """

    size: int
    work: Callable[[int, int, socket.socket], int]
    left: Callable[[int], None]
    members: list[Member] = field(default_factory=list)
    is_retired: bool = False

    @property
    def free_place(self) -> int:
        """A place, from 0 to size - 1, that is nobody's."""
        return min(set(range(self.size)) - {member.place for member in self.members})


@dataclass(eq=False)
class Member:
    """One process.

    Args:
        number: counted from 1, and never given twice.
        place: in its generation; that of one that has ended is given again.
        began: by the loop's clock.
        last: what it said when it ended; None before, and for one that was killed.
        owed: questions that it has not answered yet.
    """

    number: int
    place: int
    pid: int
    asking: Asking
    generation: Generation
    began: float
    last: Any = None
    owed: int = 0

    def send(self, question: Question) -> None:
        """Ask; receive() is to follow; raises TemporaryFault as Asking.send."""
        self.asking.send(question)
        self.owed += 1

    def receive(self, seconds: float) -> Answer:
        """Wait for the answer to the last question; those that come too late, to ones before it, are passed over.

        Raises:
            TemporaryFault: there is none, also of one that has ended in order.
        """
        while True:
            answer = self.asking.receive(seconds)
            if isinstance(answer.result, dict) and LAST in answer.result:
                self.last = answer.result[LAST]
                raise TemporaryFault(f"worker {self.number}: has ended")
            is_late, self.owed = self.owed > 1, max(0, self.owed - 1)
            if not is_late:
                return answer


class Crew:
    """All worker processes.

    Args:
        loop: of the process that they are forked from.
        handled: signals that this process has handlers for.
        lost: told of one that has ended, before it is forgotten.

    Attributes:
        current: the generation that accepts.
    """

    def __init__(self, loop: EventLoop, *, handled: Iterable[signal.Signals], lost: Callable[[Member], None]) -> None:
        self._loop = loop
        self._handled = tuple(handled)
        self._lost = lost
        self._count = 0
        self._members: dict[int, Member] = {}
        self._young = 0
        self._is_ending = False
        self.current: Generation | None = None

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: Member) -> bool:
        return member.pid in self._members

    # ---- begun

    def hire(self, generation: Generation) -> None:
        """Fork a generation, and wait until all of it serves; where one cannot, none of it is left.

        Raises:
            SockdError: what one could not do, with its exit code.
        """
        try:
            for _ in range(generation.size):
                self._fork(generation)
            for member in generation.members:
                _await(member)
        except BaseException:
            self.dismiss(generation)
            raise

    def _fork(self, generation: Generation) -> Member:
        ours, theirs = socket.socketpair()
        self._count += 1
        number, place = self._count, generation.free_place

        def live() -> int:
            ours.close()
            for other in self:
                other.asking.close()  # else nobody would learn of our parent's end
            return generation.work(place, number, theirs)

        with theirs:
            try:
                pid = fork(live, self._handled)
            except BaseException:
                ours.close()
                raise
        member = Member(number, place, pid, Asking(ours, f"worker {number}"), generation, self._loop.clock())
        generation.members.append(member)
        self._members[pid] = member
        return member

    def dismiss(self, generation: Generation) -> None:
        """End processes that have not served yet, and wait for their end."""
        for member in list(generation.members):
            os.kill(member.pid, signal.SIGKILL)
            os.waitpid(member.pid, 0)
            self._forget(member)

    def take_over(self, generation: Generation | None) -> Generation | None:
        """Let a generation be the current one, or none, for another process serves; return the one before."""
        before, self.current = self.current, generation
        self._young = 0
        return before

    # ---- asked

    def ask(self, verb: str, members: Iterable[Member] | None = None, **words: object) -> list[tuple[Member, Any]]:
        """Ask several at the same time, all of them if nothing is said.

        Returns:
            Each that answered, with its result; who did not, or answered with an error, is in the log.
        """
        asked, results = [], []
        for member in self if members is None else list(members):
            try:
                member.send(Question(verb, words))
                asked.append(member)
            except TemporaryFault as error:
                _tell(member, verb, str(error))
        for member in asked:
            try:
                answer = member.receive(ANSWER_SECONDS)
            except TemporaryFault as error:
                _tell(member, verb, str(error))
                continue
            if answer.error:
                _tell(member, verb, answer.error)
            else:
                results.append((member, answer.result))
        return results

    # ---- ended

    def send(self, number: signal.Signals) -> None:
        """Send all a signal."""
        for member in self:
            os.kill(member.pid, number)  # not reaped yet, so its number is nobody else's

    def reap(self) -> None:
        """See who has ended, and replace who should not have."""
        for member in self:
            pid, status = os.waitpid(member.pid, os.WNOHANG)
            if pid == 0:
                continue
            self._forget(member)
            how = how_it_ended(status)
            due = self._is_ending or member.generation.is_retired
            level = logging.INFO if due and status == 0 else logging.ERROR
            logger.log(level, "worker ended", extra={"event": {"worker": member.number, "pid": pid, **how}})
            if member.generation is self.current and not self._is_ending:
                self._replace(member)

    def _forget(self, member: Member) -> None:
        with suppress(TemporaryFault):
            while True:  # behind answers that came too late there may be its last words
                member.receive(0)
        self._lost(member)
        member.asking.close()
        member.generation.members.remove(member)
        member.generation.left(member.place)
        del self._members[member.pid]

    def _replace(self, member: Member) -> None:
        """Have another in its place: at once, and ever later when more than there are have died young."""
        self._young = self._young + 1 if self._loop.clock() - member.began < STEADY_SECONDS else 0
        self._loop.call_later(self._pause, lambda: self._replaced(member.generation))

    @property
    def _pause(self) -> float:
        """How long the next one that is missing stays so, in seconds."""
        too_many = self._young - (self.current.size if self.current else 0)
        return 0.0 if too_many <= 0 else min(FIRST_PAUSE_SECONDS * 2.0 ** min(too_many - 1, 30), LONGEST_PAUSE_SECONDS)

    def _replaced(self, generation: Generation) -> None:
        if generation is not self.current or self._is_ending:
            return
        member = None
        try:
            member = self._fork(generation)
            _await(member)
            self.ask("begin", [member])
        except SockdError as error:
            logger.error("worker did not start", extra={"event": {"error": str(error), "again_seconds": self._pause}})
            self._young += 1
            if member is None:
                self._loop.call_later(self._pause, lambda: self._replaced(generation))
            else:
                os.kill(member.pid, signal.SIGKILL)  # and its end brings the next one

    def end(self, number: signal.Signals, seconds: float, is_urgent: Callable[[], bool]) -> int:
        """End all, by a signal, and by KILL who has not ended in time; return how many those were.

        Args:
            seconds: until then.
            is_urgent: whether it shall be fast now; they get QUIT then.
        """
        self._is_ending = True
        self.send(number)
        end, was_urgent = self._loop.clock() + seconds, False
        while self._members and (left := end - self._loop.clock()) > 0:
            if is_urgent() and not was_urgent:
                was_urgent = True
                self.send(signal.SIGQUIT)
            self._loop.run_once(left)
        killed = len(self._members)
        for member in self:
            logger.error("worker did not end in time", extra={"event": {"worker": member.number, "pid": member.pid}})
            os.kill(member.pid, signal.SIGKILL)
            os.waitpid(member.pid, 0)
            self._forget(member)
        return killed


def _await(member: Member) -> None:
    """Wait until a process serves.

    Raises:
        SockdError: it does not; with the words and the exit code that it gave.
    """
    answer = member.receive(START_SECONDS)
    if answer.error:
        error = SockdError(answer.error)
        error.exit_code = answer.exit_code
        raise error


def _tell(member: Member, verb: str, error: str) -> None:
    event = {"worker": member.number, "pid": member.pid, "verb": verb, "error": error}
    logger.warning("worker gave no answer", extra={"event": event})


__all__ = ["Crew", "Generation", "Member"]
