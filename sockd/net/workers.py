"""Threads for what blocks, so that the loop does not: look-ups of names, hashes of passwords.

Each answer comes in the loop, and at its deadline at the latest; one that comes later is dropped, and its
thread goes on with the next question.  A function that hangs holds up one thread, and when all are held
up, questions are answered by their deadlines.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop import EventLoop, Timer

    Work = Callable[[], None]

T = TypeVar("T")


class NoAnswer(Exception):
    """There was no answer in time, or too many questions wait already."""


class Question(Generic[T]):
    """One question on its way; cancel() takes it back."""

    def __init__(self, done: Callable[[T | BaseException], None]) -> None:
        self._done: Callable[[T | BaseException], None] | None = done
        self.timer: Timer | None = None

    @property
    def is_open(self) -> bool:
        """Whether somebody waits for the answer still."""
        return self._done is not None

    def cancel(self) -> None:
        """Take it back: nobody is told."""
        self._done = None
        if self.timer is not None:
            self.timer.cancel()

    def answer(self, value: T | BaseException) -> None:
        """Tell the answer, the first one only (in the loop)."""
        done = self._done
        self.cancel()
        if done is not None:
            done(value)


class Workers:
    """A few threads of one kind, started when they are first needed.

    Args:
        loop: told of answers; its clock measures.
        name: of the threads.
        most: threads.
        waiting: questions that may wait for a thread; more are answered by NoAnswer at once.
    """

    def __init__(self, loop: EventLoop, name: str, *, most: int, waiting: int) -> None:
        self._loop = loop
        self._name = name
        self._most = most
        self._waiting = waiting
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0

    def ask(self, function: Callable[[], T], done: Callable[[T | BaseException], None], deadline: float) -> Question[T]:
        """Call a function in a thread.

        Args:
            function: blocks.
            done: is called once in the loop, never before this method has returned, with what the function returned
                or raised, or with NoAnswer.
            deadline: seconds from now.
        """
        question: Question[T] = Question(done)
        if self._queue.qsize() >= self._waiting:
            self._loop.call_soon(lambda: question.answer(NoAnswer(f"{self._waiting} wait already")))
            return question
        late = NoAnswer(f"no answer within {deadline:g} s")
        question.timer = self._loop.call_later(deadline, lambda: question.answer(late))

        def work() -> None:
            if not question.is_open:
                return
            try:
                value: T | BaseException = function()
            except BaseException as error:  # whatever it is, it is the asker's to hear
                value = error
            self._loop.call_soon_threadsafe(lambda: question.answer(value))

        if self._threads < self._most and self._queue.qsize() >= self._idle:
            self._start()
        if self._threads:
            self._queue.put(work)
        else:
            self._loop.call_soon(lambda: question.answer(NoAnswer("no thread can be started")))
        return question

    def _start(self) -> None:
        name = f"{self._name}-{self._threads + 1}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except (RuntimeError, MemoryError):  # EAGAIN of pthread_create(3); those that are there do it
            return
        self._threads += 1

    def _work(self) -> None:
        while True:
            self._idle += 1  # a hint only: a thread too many or too few is no harm
            work = self._queue.get()
            self._idle -= 1
            if work is None:
                return
            work()

    def close(self) -> None:
        """Let the threads end when what they do does."""
        for _ in range(self._threads):
            self._queue.put(None)
        self._threads = 0  # a question that comes nevertheless gets a thread of its own


__all__ = ["NoAnswer", "Question", "Workers"]
