# SPDX-License-Identifier: MIT
"""A listener, whichever kind it is: what the daemon does with one, and what one has counted.

There are four: one that accepts connections (sockd.net.listen.stream_listener), one that answers datagrams
(sockd.net.udp.listener), one that starts programs, which accept or receive (sockd.services.exec.wait_listener), and one
that only keeps its socket open, because other processes accept from it (sockd.daemon.shared_listener).  Nobody asks
which kind one is: what a kind does not have is empty or does nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sockd.values import asdict, dataclass, field, fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sockd.net.kernel import AcceptQueue


@dataclass
class DatagramCounts:
    """Datagrams by outcome, since the start; each counts in `received` and at most once below."""

    received: int = 0
    answered: int = 0
    truncated: int = 0
    denied: int = 0
    service_port: int = 0
    over_budget: int = 0
    failed: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class ListenerCounts:
    """What a listener has counted, and those before it on the same socket.

    Attributes:
        accepted: connections that were let in, datagrams that have come, or programs started, since the start.
        open: connections that came through its socket and have not ended.
        refused: clients that were not served, by the value of RefusalReason (sockd.net.listen.refusal).
        datagrams: by the field of DatagramCounts; empty where connections are accepted.
        programs: started, running, ended_at_once; empty where no program has the socket itself.
        peak: the most connections that were open at once; of several processes, the sum of theirs.
    """

    accepted: int = 0
    open: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    datagrams: Mapping[str, int] = field(default_factory=dict)
    programs: Mapping[str, int] = field(default_factory=dict)
    peak: int = 0

    @classmethod
    def from_datagrams(cls, counts: DatagramCounts) -> ListenerCounts:
        """Return the counts of a listener for datagrams."""
        return cls(counts.received, datagrams=asdict(counts))

    def as_numbers(self) -> list[int]:
        """Return what another process counts on from: of connections one number, of datagrams all of them."""
        return [*self.datagrams.values()] or [self.accepted]

    @classmethod
    def from_numbers(cls, numbers: Sequence[int], refused: Mapping[str, int] | None = None) -> ListenerCounts:
        """Undo as_numbers(); another version may have more fields, or fewer."""
        names = [field.name for field in fields(DatagramCounts)] if len(numbers) > 1 else []
        return cls(numbers[0], refused=refused or {}, datagrams=dict(zip(names, numbers, strict=False)))


class Listener(Protocol):
    """One socket that is listened on; its text is its address."""

    @property
    def groups(self) -> Sequence[int]:
        """The groups of the connection table that its connections are in: one, or none where it has no connections."""

    @property
    def counts(self) -> ListenerCounts:
        """What it has counted by now."""

    @property
    def queues(self) -> Sequence[AcceptQueue]:
        """The kernel's accept queue; none where there is none, or the kernel does not tell."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing that has come is on its way to whoever serves it."""

    def start(self) -> None:
        """Accept or receive from now on."""

    def accept_rest(self) -> None:
        """Take what waits in the queue: nothing else will come."""

    def detach(self) -> None:
        """Accept and receive no more, for another listener or process does; what is on its way still comes."""

    def adopt(self, id: int) -> None:
        """Count a connection of one of its groups that another process let in."""

    def count_on(self, counts: ListenerCounts) -> None:
        """Go on from what others have counted on the same socket."""

    def running(self) -> list[int]:
        """Return a descriptor (pidfd) of each program that has its socket, the caller's to close; most have none."""

    def await_programs(self, descriptors: Sequence[int]) -> None:
        """Count such programs of a previous process; the descriptors are the listener's from now on."""

    def refuse_new_clients(self) -> float:
        """Let no new client in, and remove its Unix path; return for how many seconds some may be on their way in."""

    def hand_over(self) -> None:
        """Close the socket, and nothing else: another process has it, and goes on with it."""

    def close(self) -> None:
        """Serve what has come already, then listen no more."""


__all__ = ["DatagramCounts", "Listener", "ListenerCounts"]
