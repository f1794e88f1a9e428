# SPDX-License-Identifier: MIT
"""`sockctl connections` with workers: each is asked for its connections page by page, and serves clients in between.

A page is a slice of a worker's time (sockd.net.loop.slices), and a request like any other: so a worker that hangs is
noticed as soon as ever, and what else it is asked for does not wait for all of its connections.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sockd.daemon.control.connection_list import ConnectionQuery, encode_in_steps, list_connections
from sockd.daemon.control.server import Deferred
from sockd.net.loop.slices import run_in_slices, run_slice
from sockd.wire.control import as_object, as_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sockd.daemon.control.server import Words
    from sockd.daemon.listeners import ListenerRegistry
    from sockd.daemon.workers.member import WorkerHandle
    from sockd.daemon.workers.pool import Results, WorkerPool
    from sockd.net.loop.loop import EventLoop
    from sockd.wire.control import JsonObject

MAX_LISTS = 16
"""That a worker keeps: as many as there can be clients of the control socket."""


class ConnectionPages:
    """The lists of a worker of which pages are still to come.

    Args:
        serving: whose connections.
    """

    def __init__(self, serving: ListenerRegistry) -> None:
        self._serving = serving
        self._count = 0
        self._lists: dict[int, tuple[ConnectionQuery, Iterator[JsonObject | None]]] = {}  # the oldest first

    def page(self, words: Words) -> JsonObject:
        """Return the rows of the next page, and under `list` the number by which another is asked for; 0: the end."""
        number = words.pop("list", 0)
        if number:
            query, steps = self._lists.pop(number)
        else:
            self._count += 1
            number, query = self._count, ConnectionQuery.read(words)
            steps = list_connections(self._serving, query)
        rows: list[JsonObject] = []
        is_more = run_slice(_collect(steps, rows), self._serving.tools.loop.clock)
        if is_more:
            self._lists[number] = query, steps
            if len(self._lists) > MAX_LISTS:  # nobody asks for the oldest any more
                del self._lists[next(iter(self._lists))]
        return {"rows": query.arrange(rows), "list": number if is_more else 0}


class ConnectionCollection:
    """The connections of all workers, as a reply.

    Args:
        pool: the workers.
        loop: of the supervisor.
        words: of the verb.
        missing: says what is wrong with a worker that has not answered.

    Attributes:
        answer: resolved once every worker has answered, or was too late.
    """

    def __init__(self, pool: WorkerPool, loop: EventLoop, words: Words, missing: Callable[[WorkerHandle], str]) -> None:
        self.answer = Deferred()
        self._pool = pool
        self._loop = loop
        self._words = words
        self._missing = missing
        self._query = ConnectionQuery.read(words)
        self._left: set[WorkerHandle] = set()
        self._pages: dict[int, list[list[JsonObject]]] = {}
        self._programs: list[JsonObject] = []
        self._notes: dict[WorkerHandle, str] = {}

    def collect(self, serving: ListenerRegistry) -> Deferred:
        """Ask; `serving` is the supervisor's own, which has programs."""
        self._programs = self._query.programs(serving)
        members: Sequence[WorkerHandle] = [member for member in self._pool if member.is_ready]
        self._left.update(members)
        for member in members:
            self._ask(member, 0)
        if not members:
            self._finish()
        return self.answer

    def _ask(self, member: WorkerHandle, number: int) -> None:
        self._pool.ask("connections", [member], partial(self._answered, member), {**self._words, "list": number})

    def _answered(self, member: WorkerHandle, results: Results) -> None:
        page: JsonObject = as_object(results[0][1]) if results else {"rows": [], "list": 0}
        if not results:
            self._notes[member] = f"{self._missing(member)}; its connections are not listed"
        rows = [_daemon_wide(member, row) for row in as_objects(page["rows"])]
        self._pages.setdefault(member.number, []).append(rows)
        if page["list"]:
            self._ask(member, page["list"])
            return
        self._left.discard(member)
        if not self._left:
            self._finish()

    def _finish(self) -> None:
        notes = tuple(self._notes[member] for member in sorted(self._notes, key=lambda one: one.number))
        runs = [rows for _, pages in sorted(self._pages.items()) for rows in pages]  # in the order of the workers
        steps = encode_in_steps(self._query, [*runs, self._programs], self.answer, notes)
        run_in_slices(self._loop, steps, partial(self.answer.fail, "connections"))


def _collect(steps: Iterator[JsonObject | None], rows: list[JsonObject]) -> Iterator[None]:
    for row in steps:
        if row is not None:
            rows.append(row)
        yield


def _daemon_wide(member: WorkerHandle, row: JsonObject) -> JsonObject:
    """Return a row with the worker's number, and with an id of the whole daemon, where it has one."""
    number = {} if row.get("id") is None else {"id": member.daemon_wide_id(row["id"])}
    return row | {"worker": member.number} | number


__all__ = ["ConnectionCollection", "ConnectionPages"]
