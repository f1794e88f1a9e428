# SPDX-License-Identifier: MIT
"""Threads for blocking calls, so that the loop never blocks: name look-ups, password hashes.

Each result arrives in the loop, at its deadline at the latest; a later one is dropped, and its thread continues with
the next call.  A function that hangs occupies one thread, and when all are occupied, calls end with their deadlines.

Threads and waiting places are shared among sources (sockd.net.loop.shares): a source with very many calls, or with
calls that hang, gets half of them at most, and the calls of others are next in rotation.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from sockd.net.loop.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from sockd.net.loop.loop import EventLoop, Timer

    Work = Callable[[], None]

T = TypeVar("T")


class NoAnswer(Exception):
    """There was no reply in time."""


class Overloaded(NoAnswer):
    """Too many calls are waiting already, so that this one was not made: it says nothing about the result."""


class Task(Generic[T]):
    """One pending call; cancel() drops it."""

    def __init__(self, done: Callable[[T | BaseException], None]) -> None:
        self._done: Callable[[T | BaseException], None] | None = done
        self.timer: Timer | None = None
        self.when_closed: Callable[[], None] | None = None
        """Releases its waiting place, if it has one."""

    @property
    def is_open(self) -> bool:
        """Whether the result is still wanted."""
        return self._done is not None

    def cancel(self) -> None:
        """Drop it: nothing is called."""
        self._done = None
        if self.timer is not None:
            self.timer.cancel()
        when_closed, self.when_closed = self.when_closed, None
        if when_closed is not None:
            when_closed()

    def answer(self, value: T | BaseException) -> None:
        """Deliver the result, the first one only (in the loop)."""
        done = self._done
        self.cancel()
        if done is not None:
            done(value)


class BlockingCalls:
    """A few threads of one kind, started when first needed.

    Args:
        loop: in which results arrive; its clock measures.
        name: of the threads.
        threads: maximum number.
        waiting: calls that may wait for a thread; more end with Overloaded at once.
    """

    def __init__(self, loop: EventLoop, name: str, *, threads: int, waiting: int) -> None:
        self._loop = loop
        self._name = name
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._threads = 0
        self._running = Shares(threads)
        self._places = Shares(waiting)
        self._waiting: dict[Hashable, deque[tuple[Task[object], Work]]] = {}  # whose turn is first
        self._resting: dict[Hashable, Timer] = {}

    def ask(
        self,
        function: Callable[[], T],
        done: Callable[[T | BaseException], None],
        deadline: float,
        source: Hashable = None,
    ) -> Task[T]:
        """Call a function in a thread.

        Args:
            function: blocks.
            done: called once in the loop, never before this method has returned, with the result or exception of the
                function, or with NoAnswer.
            deadline: seconds from now.
            source: of the call; one with more than its share of threads or places waits.
        """
        question: Task[T] = Task(done)
        if not self._places.may(source):
            full = Overloaded(
                f"already {self._places.has(source)} calls of this source wait, {len(self._places)} in all"
            )
            self._loop.call_soon(lambda: question.answer(full))
            return question
        late = NoAnswer(f"no answer within {deadline:g} s")
        question.timer = self._loop.call_later(deadline, lambda: question.answer(late))

        def work() -> None:
            try:
                value: T | BaseException = function()
            except BaseException as error:  # whatever it is, it is the asker's to hear
                value = error
            self._loop.call_soon_threadsafe(lambda: self._answered(question, value, source))

        self._places.acquire(source)
        question.when_closed = lambda: self._places.give_back(source)
        self._waiting.setdefault(source, deque()).append((question, work))  # type: ignore[arg-type]  # whatever is asked
        self._start_calls()
        return question

    def rest(self, source: Hashable, seconds: float) -> None:
        """Start no call of a source for so long."""
        if source in self._resting:
            self._resting[source].cancel()
        self._resting[source] = self._loop.call_later(seconds, lambda: self._rested(source))

    def _rested(self, source: Hashable) -> None:
        del self._resting[source]
        self._start_calls()

    # ---- who is next

    def _start_calls(self) -> None:
        """Start calls while possible, one of each source in turn."""
        while (source := self._next()) is not None:
            self._begin(*source)

    def _next(self) -> tuple[Hashable] | None:
        for source, waiting in list(self._waiting.items()):
            while waiting and not waiting[0][0].is_open:
                waiting.popleft()
            if not waiting:
                del self._waiting[source]
            elif source not in self._resting and self._running.may(source):
                return (source,)  # None is a source as well
        return None

    def _begin(self, source: Hashable) -> None:
        waiting = self._waiting.pop(source)
        question, work = waiting.popleft()
        if waiting:
            self._waiting[source] = waiting  # behind the others
        given_back, question.when_closed = question.when_closed, None
        if given_back is not None:
            given_back()
        if len(self._running) >= self._threads:
            self._start()
        if not self._threads:
            self._loop.call_soon(lambda: question.answer(Overloaded("no thread can be started")))
            return
        self._running.acquire(source)
        self._work.put(work)

    def _answered(self, question: Task[T], value: T | BaseException, source: Hashable) -> None:
        self._running.give_back(source)
        question.answer(value)
        self._start_calls()

    # ---- threads

    def _start(self) -> None:
        name = f"{self._name}-{self._threads + 1}"
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except (RuntimeError, MemoryError):  # EAGAIN of pthread_create(3); those that are there do it
            return
        self._threads += 1

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def close(self) -> None:
        """Let the threads end with their current call."""
        for _ in range(self._threads):
            self._work.put(None)
        self._threads = 0  # a question that comes nevertheless gets a thread of its own
        for timer in self._resting.values():
            timer.cancel()
        self._resting.clear()


__all__ = ["BlockingCalls", "NoAnswer", "Overloaded", "Task"]
