# SPDX-License-Identifier: MIT
"""Threads for blocking calls, so that the loop never blocks: name look-ups, password hashes.

Each result arrives in the loop, at its deadline at the latest; a later one is dropped, and its thread continues with
the next call.  A function that hangs occupies one thread, and when all are occupied, calls end with their deadlines.

The threads are those of a pool (sockd.net.loop.thread_pool).  Threads and waiting places are shared among sources: one
with very many calls, or with calls that hang, gets half of them at most, and the calls of others are next in rotation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from sockd.net.loop.shares import Shares
from sockd.net.loop.thread_pool import ThreadPool, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from sockd.net.loop.loop import EventLoop, Timer

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
        self.work: Work | None = None
        self.when_closed: Callable[[], None] | None = None
        """Releases its waiting place, if it has one."""

    def cancel(self) -> None:
        """Drop it: nothing is called."""
        self._done = None
        if self.timer is not None:
            self.timer.cancel()
        if self.work is not None:
            self.work.is_wanted = False
        self.give_place_back()

    def give_place_back(self) -> None:
        """Wait no more, for it begins, or nobody wants it."""
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
        self._pool = ThreadPool(threads, loop, name, weight=1, computes=False)
        self._places = Shares(waiting)

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

        def run() -> T | BaseException:
            try:
                return function()
            except BaseException as error:  # whatever it is, it is the asker's to hear
                return error

        self._places.acquire(source)
        question.when_closed = lambda: self._places.give_back(source)
        question.work = work = Work(self._name, run, question.answer)
        work.begun = question.give_place_back
        if not self._pool.submit(work, _key(source)):
            self._loop.call_soon(lambda: question.answer(Overloaded("no thread can be started")))
        return question

    def rest(self, source: Hashable, seconds: float) -> None:
        """Start no call of a source for so long."""
        self._pool.rest(_key(source), seconds)

    def close(self) -> None:
        """Let the threads end with their current call."""
        self._pool.close()


def _key(source: Hashable) -> Hashable:
    """Return a source of the pool, to which None is none, but here one like others."""
    return (source,)


__all__ = ["BlockingCalls", "NoAnswer", "Overloaded", "Task"]
