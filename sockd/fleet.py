"""What a supervisor serves: its sockets are lent to worker processes, but for those of the pages, which it serves.

For a start and a reload this is a Serving like any other.  To prepare a configuration is to have a generation of
workers that are ready to serve by it; to start it is to have them accept, and the generation before accept no more.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sockd.crew import Generation
from sockd.net.balance import Balance
from sockd.net.connection_info import Totals
from sockd.net.datagram import DatagramCounts
from sockd.net.lent import Lent
from sockd.net.overload import Quota
from sockd.net.sink import Sink
from sockd.numbers import Numbers
from sockd.services.http import Http
from sockd.serving import Run, Served, Serving

if TYPE_CHECKING:
    import socket
    from collections import Counter
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sockd.crew import Crew, Member
    from sockd.metrics import Histogram
    from sockd.net.address import Address
    from sockd.net.sockets import Listening
    from sockd.planning import Plan
    from sockd.services.http import Pages
    from sockd.serving import Tools

    Opened = tuple[Address, Listening, Plan]
    Work = Callable[[Sequence[Opened], Sequence[Listening], Balance, int, int, socket.socket], int]


class Fleet(Serving):
    """Every socket of the supervisor.

    Args:
        tools, pages: as of Serving, for what the supervisor serves itself.
        crew: the workers.
        size: how many there shall be.
        work: what one does with the sockets that are lent to it.
    """

    def __init__(self, tools: Tools, pages: Pages, crew: Crew, size: int, work: Work) -> None:
        super().__init__(tools, pages)
        self._crew = crew
        self._size = size
        self._work = work
        self._next: Generation | None = None
        self._numbers: dict[Member, Numbers] = {}
        self._ended = self._sum = Numbers()

    def prepare(self, wanted: Iterable[tuple[Address, Listening, Plan, Served | None]]) -> list[Served]:
        """Have a generation of workers; raises as Serving.prepare, or what one of them could not do."""
        wanted = list(wanted)
        own = [one for one in wanted if is_page(one[2])]
        lent = [(address, listening, plan) for address, listening, plan, _ in wanted if not is_page(plan)]
        balance = Balance(self._size)
        pages = [listening for _, listening, _, _ in own]
        generation = Generation(self._size, partial(self._work, lent, pages, balance), balance.leave)
        self._crew.hire(generation)
        try:
            made = super().prepare(own)
        except BaseException:
            self._crew.dismiss(generation)
            raise
        self._next = generation
        runs = {id(plan.service): Run(plan.service, Sink(), Quota(None), b"") for _, _, plan in lent}
        made += [Served(*one, runs[id(one[2].service)], Lent(one[1])) for one in lent]
        order = {id(listening): place for place, (_, listening, _, _) in enumerate(wanted)}
        return sorted(made, key=lambda served: order[id(served.listening)])

    def start(self, made: Sequence[Served], replaced: dict[Served, Served] | None = None) -> None:
        """Have the new generation accept, and the one before no more; it goes on with the connections that it has."""
        super().start(made, replaced)
        if self._next is None:
            return
        begun, before, self._next = self._next, self._crew.take_over(self._next), None
        self._crew.ask("begin", begun.members)
        if before is not None:
            kept = [str(served) for served in replaced or ()]
            before.is_retired = True
            self._crew.ask("retire", before.members, kept=kept)

    def remove(self, served: Served, then: Callable[[], None]) -> None:
        """Take a listener out, of every process."""
        super().remove(served, then)
        if isinstance(served.listener, Lent):
            self._crew.ask("leave", listener=str(served))

    def hand_over(self, handed: Sequence[Served]) -> None:
        """Have the workers accept no more on what another process has; they end with the connections that they have."""
        kept = [str(served) for served in handed]
        members = [member for member in self._crew if not member.generation.is_retired]
        for member in members:
            member.generation.is_retired = True
        self._crew.take_over(None)  # who ends from now on is not replaced
        self._crew.ask("retire", members, kept=kept)
        super().hand_over(handed)

    def beside(self, lent: Sequence[Opened]) -> list[Listening]:
        """Return the sockets that are there and not among those that are lent."""
        given = {id(listening) for _, listening, _ in lent}
        return [served.listening for served in self.every() if id(served.listening) not in given]

    # ---- what the workers have counted

    def look(self) -> None:
        """Ask the workers; what is told of numbers from now on is of all of them."""
        for member, table in self._crew.ask("numbers"):
            self._numbers[member] = Numbers.from_table(table)
        self._sum = sum((one for member, one in self._numbers.items() if member in self._crew), self._ended)
        for served in self.listeners:
            if isinstance(served.listener, Lent):
                served.listener.came = self._sum.came[str(served)]
                served.listener.open = self._sum.open[str(served)]
                if served.listener.counts is not None:
                    served.listener.counts = DatagramCounts(**dict(self._sum.datagrams.get(str(served)) or {}))

    def lost(self, member: Member) -> None:
        """Keep of a worker that has ended what it told last: at its end, or when it was asked before that."""
        numbers = self._numbers.pop(member, None)
        if member.last is not None:
            numbers = Numbers.from_table(member.last)
        if numbers is not None:
            self._ended += numbers.past()

    @property
    def connections(self) -> int:
        """How many connections are open or closing, everywhere."""
        return super().connections + self._sum.connections

    @property
    def memory(self) -> int:
        """How many bytes unfinished frames and unsent output take, everywhere."""
        return super().memory + self._sum.memory

    @property
    def defects(self) -> int:
        """How many failures of sockd itself were survived, in all processes."""
        return super().defects + self._sum.defects

    @property
    def programs(self) -> int:
        """How many programs run."""
        return self._sum.programs

    def descriptors(self) -> Counter[str]:
        """Count the descriptors of each service, in all processes."""
        return super().descriptors() + self._sum.descriptors

    @property
    def usage(self) -> Mapping[str, float]:
        """What the workers take, as Prometheus names it."""
        return self._sum.usage

    def connections_of(self, member: Member) -> int:
        """How many connections one worker has."""
        numbers = self._numbers.get(member)
        return 0 if numbers is None else numbers.connections

    def times(self) -> tuple[dict[str, Histogram], Histogram]:
        """Return how long the handlers of each service take, and the turns of all loops."""
        return {**self.handlers, **self._sum.handlers}, self._sum.turns

    def totals(self) -> dict[str, Totals]:
        """Return what the connections of each service have done since the start, by its name."""
        own = super().totals()
        return own | {name: own.get(name, Totals()) + one for name, one in self._sum.totals.items()}

    # ---- at a stop

    def shut(self) -> None:
        """Let nobody new in anywhere; who is on the way in is accepted still."""
        self.close_leaving()
        for served in self.listeners:
            if isinstance(served.listener, Lent):
                served.listener.take_no_more()


def is_page(plan: Plan) -> bool:
    """Tell whether a listener is for pages about the daemon."""
    return plan.service.protocol is Http


__all__ = ["Fleet"]
