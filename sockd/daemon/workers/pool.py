# SPDX-License-Identifier: MIT
"""Worker processes: forked, awaited, replaced when they die, stopped.

A generation is the workers of one configuration, which serve the same listening sockets.  The next generation serves
before the previous one stops accepting; the previous one exits with its connections. The supervisor blocks for none of
them: replies, readiness and exits are events of its loop.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sockd.daemon.workers.ipc import HAS_ENDED, RequestChannel
from sockd.daemon.workers.member import FIRST_PAUSE_SECONDS, LastWords, WorkerGeneration, WorkerHandle
from sockd.errors import RemoteError, SockdError, TemporaryFault
from sockd.process.fork import fork, how_it_ended
from sockd.process.stop_bound import WORKER_SECONDS
from sockd.wire.control import ControlRequest, as_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sockd.net.loop.loop import EventLoop, Timer
    from sockd.process.signals import Signals
    from sockd.wire.control import ControlResponse, JsonObject

    Results = list[tuple[WorkerHandle, object]]

logger = logging.getLogger("sockd.daemon")

START_SECONDS = 60.0
"""Time limit for a worker to serve: startup hooks may connect to something."""
ANSWER_SECONDS = 0.8
"""Time limit for a reply; a worker whose loop blocks for longer has none."""
KILL_SECONDS = WORKER_SECONDS + 0.15
"""Time after QUIT: a worker whose handler hangs has logged where, and exited."""


class GenerationStart:
    """A generation that is starting: until all of it serves, or one of it cannot.

    Args:
        then: called once: with the error of one, when no process of the generation is left, or with None.
    """

    def __init__(self, generation: WorkerGeneration, then: Callable[[SockdError | None], None]) -> None:
        self.generation = generation
        self._then = then
        self.error: SockdError | None = None
        self.timer: Timer | None = None

    @property
    def is_over(self) -> bool:
        """Whether all serve, or none is left."""
        generation = self.generation
        return not generation.members if self.error else all(one.is_ready for one in generation.members)

    def end(self) -> None:
        """Report the result."""
        if self.timer is not None:
            self.timer.cancel()
        self._then(self.error)


class BroadcastRequest:
    """A request to several workers: until all have replied, or the time is over."""

    def __init__(self, verb: str, members: Iterable[WorkerHandle], then: Callable[[Results], None]) -> None:
        self.verb = verb
        self.left = set(members)
        self.results: Results = []
        self._then: Callable[[Results], None] | None = then

    def end(self) -> None:
        """Continue with the replies so far; again does nothing."""
        then, self._then = self._then, None
        if then is not None:
            then(self.results)

    @property
    def is_over(self) -> bool:
        """Whether all replies have arrived."""
        return self._then is None


class WorkerPool:
    """All worker processes.

    Args:
        loop: of the process that forks them.
        signals: of this process.
        lost: called with one that has exited, before it is removed.

    Attributes:
        current: the generation that accepts.
        prepare: called with a worker that is about to accept, in place of another one.
        passed: gets what a worker says for those who follow the daemon.
        sensed: called with what LastWords.sensed is called with, of each worker.
        replaced: number of replaced workers by reason: "ended" by itself, "memory", "hung", "requests", "age".
    """

    def __init__(self, loop: EventLoop, *, signals: Signals, lost: Callable[[WorkerHandle], None]) -> None:
        self._loop = loop
        self._signals = signals
        self._lost = lost
        self._count = 0
        self._members: dict[int, WorkerHandle] = {}
        self._hiring: GenerationStart | None = None
        self._is_ending = False
        self.sensed: Callable[[str, float], None] = lambda _network, _seconds: None
        self.current: WorkerGeneration | None = None
        self.prepare: Callable[[WorkerHandle], None] = lambda _member: None
        self.passed: Callable[[WorkerHandle, JsonObject], None] = lambda _member, _passed: None
        self.replaced = {"ended": 0, "memory": 0, "hung": 0, "requests": 0, "age": 0}

    def __iter__(self) -> Iterator[WorkerHandle]:
        return iter(list(self._members.values()))

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: WorkerHandle) -> bool:
        return member.pid in self._members

    # ---- begun

    def hire(self, generation: WorkerGeneration, then: Callable[[SockdError | None], None]) -> None:
        """Fork a generation, and call `then` when all of it serves, or when none of it is left because one could
        not.
        """
        hiring = self._hiring = GenerationStart(generation, then)
        hiring.timer = self._loop.call_later(START_SECONDS, lambda: self._fail(hiring, TemporaryFault(_LATE)))
        try:
            for _ in range(generation.size):
                self._fork(generation)
        except SockdError as error:
            self._loop.call_soon(partial(self._fail, hiring, error))

    def give_up(self, error: SockdError) -> None:
        """Stop a generation that is starting."""
        if self._hiring is not None:
            self._fail(self._hiring, error)

    def _fork(self, generation: WorkerGeneration) -> WorkerHandle:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # out of descriptors
            raise TemporaryFault(f"socketpair(2): {error.strerror}") from None
        self._count += 1
        used = {member.place for member in generation.members}
        number, place = self._count, min(set(range(generation.places)) - used)

        def live(signals: Signals) -> int:
            ours.close()
            for other in self:
                other.asking.leave()  # else nobody would learn of our parent's end
            return generation.work(place, number, theirs, signals)

        with theirs:
            try:
                pid = fork(live, self._signals)
            except BaseException:
                ours.close()
                raise
        last = LastWords(lambda passed: self.passed(member, passed), self.sensed)
        asking = RequestChannel(ours, self._loop, last.hear)
        member = WorkerHandle(number, place, pid, generation, self._loop.clock(), asking, last)
        member.asking.expect(partial(self._began, member))
        generation.members.append(member)
        self._members[pid] = member
        self._signals.bound.children(self._members)
        return member

    def _began(self, member: WorkerHandle, answer: ControlResponse) -> None:
        """Wait until one serves, or cannot; then it reports why, and exits."""
        generation, hiring = member.generation, self._hiring
        if not answer.error:
            member.ready_at = self._loop.clock()
            member.first_memory = member.memory = as_object(answer.result)["memory"]
            if generation is self.current and not self._is_ending:
                self.prepare(member)
                self.ask("begin", [member], lambda _: member.accepts())
            self._look(hiring)
        elif answer is HAS_ENDED:
            return  # reap() knows more
        elif hiring is not None and hiring.generation is generation:
            self._fail(hiring, RemoteError(answer.error, answer.exit_code, key=answer.key))
        elif not self._is_ending:
            event = {"error": answer.error, "worker": member.number}
            logger.error("worker did not start", extra={"event": event})
            _kill(member)  # and its end brings the next one

    def can_supersede(self, member: WorkerHandle) -> bool:
        """Tell whether a worker can have a successor now; not while others are missing."""
        generation = member.generation
        has_place = len(generation.members) < generation.places
        return generation is self.current and not self._is_ending and has_place and not generation.is_short()

    def supersede(self, member: WorkerHandle, then: Callable[[], None]) -> None:
        """Fork a successor of a worker, which continues until then.

        Args:
            then: called when the successor accepts; if it dies before, it never is.

        Raises:
            TemporaryFault: there can be no process.
        """
        successor = self._fork(member.generation)
        member.successor, successor.accepts = successor, then
        self._loop.call_later(START_SECONDS, lambda: self._not_begun(successor))

    def _fail(self, hiring: GenerationStart, error: SockdError) -> None:
        """Stop all of it; the first error is reported."""
        if hiring is not self._hiring:
            return
        hiring.error = hiring.error or error
        self.dismiss(hiring.generation)
        self._look(hiring)

    def _look(self, hiring: GenerationStart | None) -> None:
        if hiring is not None and hiring is self._hiring and hiring.is_over:
            self._hiring = None
            hiring.end()

    def dismiss(self, generation: WorkerGeneration) -> None:
        """Stop processes that do not serve yet."""
        generation.is_dismissed = True
        for member in list(generation.members):
            _kill(member)

    def switch_to(self, generation: WorkerGeneration | None) -> WorkerGeneration | None:
        """Make a generation the current one, or none, because another process serves; return the previous one."""
        before, self.current = self.current, generation
        return before

    # ---- asked

    def ask(
        self,
        verb: str,
        members: Iterable[WorkerHandle] | None = None,
        then: Callable[[Results], None] = lambda results: None,
        words: Mapping[str, object] = {},
    ) -> None:
        """Send a request to several at the same time, by default to all that serve.

        Args:
            then: called once, when all have replied or ANSWER_SECONDS are over, with each that replied and its result;
                the others, and errors, are in the log.
        """
        everybody = (one for one in self if one.is_ready) if members is None else members
        asked = BroadcastRequest(verb, everybody, then)
        if not asked.left:
            self._loop.call_soon(asked.end)
            return
        for member in sorted(asked.left, key=lambda one: one.number):
            member.asking.ask(ControlRequest(verb, dict(words)), partial(self._answered, asked, member))
        self._loop.call_later(ANSWER_SECONDS, partial(self._late, asked))

    def _answered(self, asked: BroadcastRequest, member: WorkerHandle, answer: ControlResponse) -> None:
        asked.left.discard(member)
        member.is_silent = False
        if answer.error:
            _log_unanswered(member, asked.verb, answer.error)
        else:
            asked.results.append((member, answer.result))
        if not asked.left:
            asked.end()

    def _late(self, asked: BroadcastRequest) -> None:
        if asked.is_over:
            return
        for member in asked.left:
            if not member.is_silent:
                member.is_silent = True
                _log_unanswered(member, asked.verb, f"did not answer within {ANSWER_SECONDS:g} s")
        asked.end()

    # ---- ended

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all."""
        for member in self:
            os.kill(member.pid, number)  # not reaped yet, so its number is nobody else's

    def reap(self) -> None:
        """Reap exited workers, and replace those that exited unexpectedly."""
        for member in self:
            if os.waitid(os.P_PID, member.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            status = self._wait_for(member)
            generation = member.generation
            generation.note_death(member, self._loop.clock())
            self._loop.attempt(partial(self._forget, member))  # whatever its last words are, it is replaced
            if generation.is_dismissed:
                self._look(self._hiring)
                continue
            self._log_end(member, status)
            if generation is self.current and not self._is_ending:
                if generation.is_short():
                    self._replace(member)
            elif self._hiring is not None and self._hiring.generation is generation:
                self._fail(self._hiring, TemporaryFault(f"worker {member.number}: {_words(status)}"))

    def _wait_for(self, member: WorkerHandle) -> int:
        """Reap one that has exited; its pid may be reused from then on, so it gets no more signals."""
        del self._members[member.pid]
        self._signals.bound.children(self._members)
        return os.waitpid(member.pid, 0)[1]

    def _log_end(self, member: WorkerHandle, status: int) -> None:
        due = self._is_ending or not member.accepts_clients
        level = logging.INFO if due and status == 0 else logging.ERROR
        event = {"worker": member.number, "pid": member.pid, **how_it_ended(status)}
        logger.log(level, "worker ended", extra={"event": event})

    def _forget(self, member: WorkerHandle) -> None:
        member.generation.members.remove(member)
        member.asking.close()  # which hears its last words
        self._lost(member)

    def _replace(self, member: WorkerHandle) -> None:
        """Start a replacement: at once, and with a delay when one after the other exits without having served."""
        generation, place = member.generation, member.place
        pause = generation.pause(place)
        if pause:
            event = {"worker": member.number, "again_seconds": pause}
            logger.error("workers exit as soon as they start", extra={"event": event})
        self._replace_in(pause, generation, member.end_reason)

    def _replace_in(self, seconds: float, generation: WorkerGeneration, reason: str) -> None:
        again = partial(self._replace_in, FIRST_PAUSE_SECONDS, generation, reason)
        self._loop.call_later(seconds, self._loop.guarded(partial(self._replaced, generation, reason), again))

    def _replaced(self, generation: WorkerGeneration, reason: str) -> None:
        if generation is not self.current or self._is_ending or not generation.is_short():
            return
        try:
            member = self._fork(generation)
        except SockdError as error:
            logger.error("worker did not start", extra={"event": {"error": str(error)}})
            self._replace_in(FIRST_PAUSE_SECONDS, generation, reason)
            return
        self.replaced[reason] += 1
        self._loop.call_later(START_SECONDS, lambda: self._not_begun(member))

    def _not_begun(self, member: WorkerHandle) -> None:
        if member in self and not member.is_ready and not self._is_ending:
            logger.error("worker did not start", extra={"event": {"error": _LATE, "worker": member.number}})
            _kill(member)

    def replace_no_more(self) -> None:
        """From now on every exit is expected."""
        self._is_ending = True

    def end(self, number: signal.Signals, seconds: float, is_urgent: Callable[[], bool]) -> int:
        """Stop all, by a signal, and by KILL those that have not exited in time; return how many those were.

        Args:
            seconds: until then.
            is_urgent: whether to stop fast: they get QUIT then, and KILL_SECONDS.
        """
        self._is_ending = True
        self.send(number)
        end, was_urgent = self._loop.clock() + seconds, False
        while self._members and (left := end - self._loop.clock()) > 0:
            if is_urgent() and not was_urgent:
                was_urgent = True
                self.send(signal.SIGQUIT)
                end = min(end, self._loop.clock() + KILL_SECONDS)
            self._loop.run_once(left)
        killed = len(self._members)
        for member in self:
            logger.error("worker did not end in time", extra={"event": {"worker": member.number, "pid": member.pid}})
            _kill(member)
            self._wait_for(member)
            self._forget(member)
        return killed


def _kill(member: WorkerHandle) -> None:
    with suppress(ProcessLookupError):
        os.kill(member.pid, signal.SIGKILL)


def _words(status: int) -> str:
    how = how_it_ended(status)
    return f"exited with code {how['exit_code']}" if "exit_code" in how else f"killed by signal {how['signal']}"


def _log_unanswered(member: WorkerHandle, verb: str, error: str) -> None:
    event = {"worker": member.number, "pid": member.pid, "verb": verb, "error": error}
    logger.warning("worker did not answer", extra={"event": event})


_LATE = f"a worker was not ready within {START_SECONDS:g} s"

__all__ = ["ANSWER_SECONDS", "KILL_SECONDS", "GenerationStart", "Results", "WorkerPool"]
