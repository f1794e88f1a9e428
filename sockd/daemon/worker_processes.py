# SPDX-License-Identifier: MIT
"""What a daemon has to do with processes that serve for it, and the part of one that serves alone.

A supervisor (sockd.daemon.workers.supervisor) has such processes; in all else it is a daemon like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sockd.daemon.control.commands import ControlCommands
    from sockd.daemon.control.server import Verb
    from sockd.services.builtin.http import Page, Pages
    from sockd.settings import Settings


class WorkerRow(TypedDict):
    """What is shown of a worker.

    worker: its number; pid, seconds, connections, memory (bytes): of its process; accepts: whether it has new clients;
    answers: whether it has replied to the last query in time; stalled: what its loop does instead, where that is known.
    """

    worker: int
    pid: int
    seconds: float
    connections: int
    memory: int
    accepts: bool
    answers: bool
    stalled: str


class WorkerProcesses(Protocol):
    """Other processes that serve; this one is queried and controlled for all of them."""

    def reap(self) -> None:
        """Reap exited processes (SIGCHLD)."""

    def log_reopened(self) -> None:
        """Have them open their logs anew, as this process has."""

    def replaced(self, settings: Settings) -> None:
        """Have others take effect there, as here."""

    def verbs(self, own: ControlCommands) -> Mapping[str, Verb]:
        """Return the verbs of the control socket that are answered for all, in place of this process's own."""

    def pages(self, own: Callable[[str], Page | None]) -> Pages:
        """Return pages about all of them, made from those of this process."""

    def usage(self) -> Mapping[str, float]:
        """Return their resource usage."""

    def rows(self) -> Sequence[WorkerRow]:
        """Return what is shown of each."""

    def replace_no_more(self) -> None:
        """From now on every exit is expected."""

    def end(self, is_urgent: Callable[[], bool]) -> bool:
        """Stop them gracefully, or fast once it is urgent; return whether there were any."""


class NoWorkers:
    """Of a daemon that serves by itself."""

    def reap(self) -> None:
        """There are none."""

    def log_reopened(self) -> None:
        """There are none."""

    def replaced(self, settings: Settings) -> None:
        """There are none."""

    def verbs(self, own: ControlCommands) -> Mapping[str, Verb]:
        """Return none: the daemon's own numbers are complete."""
        return {}

    def pages(self, own: Callable[[str], Page | None]) -> Pages:
        """Return its own."""
        return own

    def usage(self) -> Mapping[str, float]:
        """Return nothing."""
        return {}

    def rows(self) -> Sequence[WorkerRow]:
        """Return none."""
        return ()

    def replace_no_more(self) -> None:
        """Nobody is replaced."""

    def end(self, is_urgent: Callable[[], bool]) -> bool:
        """Return that there are none."""
        return False


__all__ = ["NoWorkers", "WorkerProcesses", "WorkerRow"]
