# SPDX-License-Identifier: MIT
"""Traces in all workers: begun in each that serves or will serve, and what they see comes together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.daemon.control.tracing import MAX_ID
from sockd.daemon.workers.member import IDS_PER_WORKER, split_id
from sockd.units import parse_whole
from sockd.wire.control import ControlRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sockd.daemon.control.follow import Begin, Emit
    from sockd.daemon.workers.member import WorkerHandle
    from sockd.daemon.workers.pool import WorkerPool
    from sockd.wire.control import JsonObject


class WorkerTraces:
    """The traces that are on, by their number.

    Args:
        pool: the workers.
        own: begins one in the supervisor, for what it serves itself.
    """

    def __init__(self, pool: WorkerPool, own: Begin) -> None:
        self._pool = pool
        self._own = own
        self._count = 0
        self._begun: dict[int, tuple[Mapping[str, object], Emit]] = {}

    def begin(self, words: Mapping[str, object], emit: Emit, then: Callable[[], None]) -> Callable[[], None]:
        """Begin one in every process; return what ends it.

        Args:
            words: of the verb.
            emit: gets what is seen.
            then: called once it is on in all of them that answer in time.

        Raises:
            UsageError, TemporaryFault: as Trace and Tracer.
        """
        end_own = self._own(words, emit, lambda: None)
        self._count += 1
        key = self._count
        self._begun[key] = words, emit
        self.resume(one for one in self._pool if one.is_ready)
        self._pool.ask("alive", then=lambda _results: then())  # replies come in the order of the requests

        def end() -> None:
            end_own()
            self._begun.pop(key, None)
            for member in self._pool:
                if member.is_ready:
                    member.asking.ask(ControlRequest("untrace", {"key": key}), lambda _answer: None)

        return end

    def resume(self, members: Iterable[WorkerHandle]) -> None:
        """Begin those that are on in workers, where they are not on yet."""
        for member in members:
            for key, (words, _) in self._begun.items():
                own = {"key": key, **words, "subject": _in_worker(str(words["subject"]), member.number)}
                member.asking.ask(ControlRequest("trace", own), lambda _answer: None)

    def hear(self, member: WorkerHandle, seen: JsonObject) -> None:
        """Send on what a worker has seen."""
        _, emit = self._begun.get(seen["trace"], ({}, None))
        if emit is not None:
            records = [
                one | {"connection": member.daemon_wide_id(one["connection"]), "worker": member.number}
                for one in seen["records"]
            ]
            emit(records, seen["left_out"])


def _in_worker(subject: str, number: int) -> str:
    """Return a subject as a worker knows it: a connection by its own id, and one of another worker by none's."""
    wanted = parse_whole(subject, MAX_ID)
    owner, id = split_id(wanted or 0)
    if not owner:
        return subject
    return str(id if owner == number else IDS_PER_WORKER - 1)


__all__ = ["WorkerTraces"]
