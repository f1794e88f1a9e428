# SPDX-License-Identifier: MIT
"""The listeners of a supervisor: its sockets are shared with worker processes, except those of the metrics pages and
of programs that get the socket itself, which it serves itself.

For a start and a reload this has the interface of a ListenerRegistry.  To prepare a configuration is to fork a
generation of workers that are ready to serve it; to start it is to have them accept, and the previous generation stop
accepting.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from sockd.daemon.control.stats import ProcessStats
from sockd.daemon.instances import ServiceInstance
from sockd.daemon.listeners import CLOSED_SECONDS, ActiveListener, ListenerRegistry
from sockd.daemon.shared_listener import SharedListener
from sockd.daemon.workers.balance import SharedConnectionCounts
from sockd.daemon.workers.member import WorkerGeneration
from sockd.daemon.workers.override_sender import OverrideSender
from sockd.daemon.workers.pool import ANSWER_SECONDS
from sockd.net.connection.events import ConnectionEvents
from sockd.net.connection.info import Totals
from sockd.net.listen.overload import Quota
from sockd.values import replace
from sockd.wire.control import ControlRequest

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sockd.daemon.instances import Runtime
    from sockd.daemon.metrics import Histogram
    from sockd.daemon.overrides import Override
    from sockd.daemon.plan import ListenerPlan
    from sockd.daemon.workers.member import WorkerHandle
    from sockd.daemon.workers.pool import Results, WorkerPool
    from sockd.errors import SockdError
    from sockd.net.address.address import Address
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.listen.listener import ListenerCounts
    from sockd.process.signals import Signals
    from sockd.wire.control import ControlResponse

    Opened = tuple[Address, ServerSocket, ListenerPlan]
    Work = Callable[
        [Sequence[Opened], Sequence[ServerSocket], SharedConnectionCounts, int, int, socket.socket, Signals], int
    ]


class StatsRequest:
    """A wait for the numbers of several workers."""

    def __init__(self, left: set[WorkerHandle], then: Callable[[], None]) -> None:
        self.left = left
        self._then: Callable[[], None] | None = then

    def answered(self, member: WorkerHandle) -> None:
        """One has reported them."""
        self.left.discard(member)
        if not self.left:
            self.end()

    def end(self) -> None:
        """Continue with what was reported; again does nothing."""
        then, self._then = self._then, None
        if then is not None:
            then()


class WorkerListeners(ListenerRegistry):
    """Every socket of the supervisor.

    Args:
        tools: as of ListenerRegistry, for what the supervisor serves itself.
        worker_pool: the workers.
        size: how many there shall be.
        work: what one does with the sockets that are lent to it.

    Attributes:
        resume: has the traces that are on go on in workers that are about to accept.
    """

    def __init__(self, tools: Runtime, worker_pool: WorkerPool, size: int, work: Work) -> None:
        super().__init__(tools)
        self._worker_pool = worker_pool
        worker_pool.sensed = self.overrides.deny_source
        self._override_sender = OverrideSender(lambda: self.overrides.rows)
        self._size = size
        self._work = work
        self._next: WorkerGeneration | None = None
        self._then: Callable[[SockdError | None], None] | None = None
        self._error: SockdError | None = None
        self._is_waiting = self._is_starting = False
        self._then_started: Callable[[], None] = lambda: None
        self._numbers: dict[WorkerHandle, ProcessStats] = {}
        self._unsure: set[WorkerHandle] = set()
        self._looks: dict[WorkerHandle, list[StatsRequest]] = {}
        self._ended = self._sum = ProcessStats()
        self.resume: Callable[[Iterable[WorkerHandle]], None] = lambda _members: None
        self._peaks: tuple[Counter[str], Counter[str]] = Counter(), Counter()

    def begin(self, opened: Iterable[Opened]) -> list[ActiveListener]:
        """Serve on these sockets, at a start; signals are handled meanwhile; raises as prepare() and when_ready()."""
        made = self.prepare((address, listening, plan, None) for address, listening, plan in opened)
        outcomes: list[SockdError | None] = []
        self.when_ready(made, outcomes.append)
        while not outcomes:
            self.tools.loop.run_once(None)
        if outcomes[0] is not None:
            self.discard(made)
            raise outcomes[0]
        self.start(made)
        while self._is_starting:
            self.tools.loop.run_once(None)
        return made

    def prepare(
        self, wanted: Iterable[tuple[Address, ServerSocket, ListenerPlan, ActiveListener | None]]
    ) -> list[ActiveListener]:
        """Start a generation of workers; raises as ListenerRegistry.prepare; when_ready() reports the rest."""
        wanted = list(wanted)
        own = [one for one in wanted if is_own(one[2])]
        lent = [(address, listening, plan) for address, listening, plan, _ in wanted if not is_own(plan)]
        balance = SharedConnectionCounts(2 * self._size)  # places of a generation
        pages = [listening for _, listening, _, _ in own]
        made = super().prepare(own)
        self._next = WorkerGeneration(self._size, partial(self._work, lent, pages, balance), balance.leave)
        self._then, self._error, self._is_waiting = None, None, True
        self._worker_pool.hire(self._next, self._hired)
        runs = {
            id(plan.service): ServiceInstance(plan.service, ConnectionEvents(), Quota(None), b"") for _, _, plan in lent
        }
        made += [
            ActiveListener(
                *one, runs[id(one[2].service)], SharedListener(one[1]), self.makers.first(one[1], one[2].service)
            )
            for one in lent
        ]
        order = {id(listening): place for place, (_, listening, _, _) in enumerate(wanted)}
        return sorted(made, key=lambda served: order[id(served.listening)])

    def prepare_more(self, opened: Sequence[Opened]) -> list[ActiveListener]:
        """Start a generation of workers that serve these, too; raises as prepare()."""
        serving = [(one.address, one.listening, one.plan, one) for one in self.listeners]
        return self.prepare([*serving, *((*one, None) for one in opened)])

    def module_states(self) -> dict[str, bytes]:
        """Return no state: each worker has its own, and none of them can speak for all."""
        return {}

    def _hired(self, error: SockdError | None) -> None:
        self._error, self._is_waiting = error, False
        if error is not None:
            self._next = None
        then, self._then = self._then, None
        if then is not None:
            then(error)

    def when_ready(self, made: Sequence[ActiveListener], then: Callable[[SockdError | None], None]) -> None:
        """Call back when the workers are ready, or with the error of one of them."""
        if self._is_waiting:
            self._then = then
        else:
            then(self._error)

    def give_up(self, error: SockdError) -> None:
        """Stop the workers that are starting."""
        self._worker_pool.give_up(error)

    def start(
        self, made: Sequence[ActiveListener], replaced: dict[ActiveListener, ActiveListener] | None = None
    ) -> None:
        """Have the new generation accept, and the previous one stop accepting; it keeps its connections."""
        super().start(made, replaced)
        if self._next is None:
            return
        begun, before, self._next = self._next, self._worker_pool.switch_to(self._next), None
        kept = [str(served) for served in replaced or ()]
        self._is_starting = True

        def retire(_: object) -> None:
            if before is None:
                self._started()
            else:
                self._retire_members(before.members, kept, self._started)

        self.resume(begun.members)
        if self.overrides.rows:
            self._override_sender.send(begun.members)
        self._worker_pool.ask("begin", begun.members, retire)

    def _started(self) -> None:
        self._is_starting = False
        then, self._then_started = self._then_started, lambda: None
        then()

    def when_started(self, then: Callable[[], None]) -> None:
        """Call back when the workers have done so, or after a time limit."""
        if self._is_starting:
            self._then_started = then
        else:
            then()

    def retire(self, member: WorkerHandle, then: Callable[[], None]) -> None:
        """Have one worker accept no more; the others do, on the same sockets.

        Args:
            then: called when all have replied, or after a time limit.
        """
        self._retire_members([member], [str(served) for served in self.listeners], then)

    def _retire_members(self, members: Sequence[WorkerHandle], kept: Sequence[str], then: Callable[[], None]) -> None:
        for member in members:
            member.retire()
        self._unsure.update(members)  # clients may have come since they were asked; until they say so, they have some
        self._worker_pool.ask("retire", members, partial(self._retired, then), {"kept": kept})

    def _retired(self, then: Callable[[], None], results: Results) -> None:
        for member, table in results:
            self._numbers[member] = ProcessStats.from_table(table)
            self._unsure.discard(member)
        self._add_up()
        then()

    def remove(self, served: ActiveListener, then: Callable[[], None]) -> None:
        """Drain a listener, in every process."""
        super().remove(served, then)
        if not is_own(served.plan):
            self._leave(None, str(served))
            self.lent_until = self.tools.loop.clock() + CLOSED_SECONDS

    def hand_over(self, handed: Sequence[ActiveListener]) -> None:
        """Have the workers stop accepting on sockets that another process has; they exit with their last
        connections.
        """
        self._worker_pool.switch_to(None)  # who ends from now on is not replaced
        members = [member for member in self._worker_pool if member.accepts_clients]
        self._retire_members(members, [str(served) for served in handed], lambda: None)
        super().hand_over(handed)

    def lent_still(self, lent: Sequence[Opened]) -> list[Opened]:
        """Return those whose listeners have not been taken out of service since their generation began."""
        draining = {id(served.listening) for served in self.draining}
        return [one for one in lent if one[1].socket.fileno() >= 0 and id(one[1]) not in draining]

    def beside(self, lent: Sequence[Opened]) -> list[ServerSocket]:
        """Return the sockets that are open and not shared with workers."""
        given = {id(listening) for _, listening, _ in lent}
        return [served.listening for served in self.every() if id(served.listening) not in given]

    # ---- what the workers have counted

    def look(self, then: Callable[[], None] = lambda: None) -> None:
        """Query the workers; numbers are of all of them once `then` is called, or of their last reply.

        Args:
            then: called when all have replied, or after a time limit.
        """
        look = StatsRequest({member for member in self._worker_pool if member.is_ready}, then)
        if not look.left:
            self._add_up()
            self.tools.loop.call_soon(look.end)
            return
        for member in look.left:
            if member in self._looks:  # it has been asked, and answers for all
                self._looks[member].append(look)
            else:
                self._looks[member] = [look]
                member.asking.ask(ControlRequest("numbers"), partial(self._update_numbers, member))
        self.tools.loop.call_later(ANSWER_SECONDS, look.end)

    def _update_numbers(self, member: WorkerHandle, answer: ControlResponse) -> None:
        member.is_silent, looks = False, self._looks.pop(member, [])
        try:
            if not answer.error:
                self._numbers[member] = ProcessStats.from_table(answer.result)
                self._unsure.discard(member)
            self._add_up()
        finally:  # else it would count as silent for ever
            for look in looks:
                look.answered(member)

    def _add_up(self, *last: ProcessStats) -> None:
        """Add up the numbers of all; peaks with the last numbers of one that has exited, too."""
        total = sum((one for member, one in self._numbers.items() if member in self._worker_pool), self._ended)
        both = sum(last, total)
        self._peaks = self._peaks[0] | both.peaks, self._peaks[1] | both.peaks_by_service
        self._sum = replace(total, peaks=self._peaks[0], peaks_by_service=self._peaks[1])
        for served in self.listeners:
            if not is_own(served.plan):
                served.listener.count_on(self._sum.listener_counts(str(served)))

    def is_silent(self, member: WorkerHandle) -> bool:
        """Whether a worker has not replied to the last query, or has reported a stall since: its numbers are old."""
        return member in self._looks or bool(member.last.stalled)

    def lost(self, member: WorkerHandle) -> None:
        """Keep the last numbers of a worker that has exited: reported at its end, or in an earlier reply."""
        numbers = self._numbers.pop(member, None)
        self._unsure.discard(member)
        if member.last.counted is not None:
            numbers = ProcessStats.from_table(member.last.counted)
        if numbers is None:
            self._add_up()
        else:
            self._ended += numbers.past()
            self._add_up(numbers)

    @property
    def connections(self) -> int:
        """Number of connections that are open or closing, in all processes."""
        unsure = sum(1 for one in self._unsure if not self._numbers.get(one, ProcessStats()).connections)
        return super().connections + self._sum.connections + unsure

    def refresh(self) -> None:
        """Ask the workers, for the next time."""
        self.look()

    @property
    def memory(self) -> int:
        """Bytes of memory used by incomplete frames and pending output, in all processes."""
        return super().memory + self._sum.memory

    @property
    def defects(self) -> int:
        """Number of defects survived, in all processes."""
        return super().defects + self._sum.defects

    @property
    def replaced(self) -> Mapping[str, int]:
        """How many workers were replaced, by the reason."""
        return self._worker_pool.replaced

    @property
    def programs(self) -> int:
        """Number of running programs."""
        return super().programs + self._sum.programs

    def running(self) -> list[dict[str, object]]:
        """Return each running program, of all processes."""
        return [*super().running(), *self._sum.running]

    def descriptors(self) -> Counter[str]:
        """Count the descriptors of each service, in all processes."""
        return super().descriptors() + self._sum.descriptors

    @property
    def usage(self) -> Mapping[str, float]:
        """The workers' resource usage, as Prometheus names it."""
        return self._sum.usage

    def worker_connections(self, member: WorkerHandle) -> int:
        """Number of connections of one worker."""
        numbers = self._numbers.get(member)
        return 0 if numbers is None else numbers.connections

    def worker_frames(self, member: WorkerHandle) -> int:
        """Number of frames that one worker has received, as of its last reply."""
        numbers = self._numbers.get(member)
        return 0 if numbers is None else sum(one.frames for one in numbers.totals.values())

    def times(self) -> tuple[dict[str, Histogram], Histogram]:
        """Return the handler times of each service, and the times of all loops' turns."""
        return {**self.handlers, **self._sum.handlers}, self._sum.turns

    def refused(self) -> dict[str, Counter[str]]:
        """Count the clients that each service's listeners have not served, by the reason, in all processes."""
        own = super().refused()
        return own | {name: own.get(name, Counter()) + one for name, one in self._sum.refused_by_service.items()}

    def peaks(self) -> Mapping[str, int]:
        """Return an upper bound of the most connections of each service at once: the sum of the processes' own."""
        return Counter(super().peaks()) + self._sum.peaks_by_service

    def totals(self) -> dict[str, Totals]:
        """Return the counts of each service's connections since the start, by its name."""
        own = super().totals()
        return own | {name: own.get(name, Totals()) + one for name, one in self._sum.totals.items()}

    def count_on(self, served: ActiveListener, counts: ListenerCounts) -> None:
        """Add what a listener has counted in another process, to what the workers count from now on."""
        if is_own(served.plan):
            super().count_on(served, counts)
            return
        self._ended += ProcessStats.from_counts(str(served), served.run.spec.name, counts)
        self._add_up()

    def apply_overrides(self, rows: Sequence[Override]) -> None:
        """Have these changes hold in all processes, also in workers that start later."""
        super().apply_overrides(rows)
        self._override_sender.send([one for one in self._worker_pool if one.is_ready])

    def bring_up_to_date(self, member: WorkerHandle) -> None:
        """Have the changes hold in a worker that is about to accept."""
        self.resume([member])
        if self.overrides.rows:
            self._override_sender.send([member])
        for one in self.absent:  # it may have been forked before that was drained; it has it only once it accepts
            if not one.why:
                self.tools.loop.call_soon(partial(self._leave, [member], one.endpoint))

    def _leave(self, members: Iterable[WorkerHandle] | None, address: str) -> None:
        self._worker_pool.ask("leave", members, words={"listener": address})

    # ---- at a stop

    def shut(self) -> None:
        """Refuse new clients everywhere; those already connecting are still accepted."""
        self.close_draining()
        for served in self.listeners:
            if not is_own(served.plan):
                served.listener.refuse_new_clients()


def is_own(plan: ListenerPlan) -> bool:
    """Return whether the supervisor serves a listener itself: pages about the daemon, and programs with wait."""
    return plan.service.kind.is_in_one_process


__all__ = ["WorkerListeners"]
