# SPDX-License-Identifier: MIT
"""A program that serves a connection, as values: what it is given, and how it ended.

Services say what shall be executed (sockd.services.exec.service), sockd.process.children executes
it; this is what they agree on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True)
class Identity:
    """Whom a program runs as; `groups` are the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SpawnCommand:
    """What is executed, and all that it has.

    Attributes:
        argv: its words; the first is the path.
        environment: NAME=value, and nothing else.
        descriptors: what become its 0, 1 and 2; the caller's to close.
        identity: None: as the daemon.
        limits: (RLIMIT_*, soft, hard) of setrlimit(2), -1 for none; what is not there is as for the daemon.
    """

    argv: tuple[str, ...]
    environment: tuple[str, ...]
    descriptors: tuple[int, int, int]
    identity: Identity | None = None
    limits: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class ExitStatus:
    """How a program ended: by its exit code, by a signal, or (neither) in a way nobody knows; times in seconds."""

    exit_code: int | None
    signal: int | None
    seconds: float
    cpu_seconds: float


WhenEnded: TypeAlias = Callable[[ExitStatus], None]


class Child(Protocol):
    """A program that runs."""

    pid: int

    def end(self) -> None:
        """Ask its process group to end: TERM, and KILL when that does not help."""


class Spawn(Protocol):
    """Executes a command."""

    def __call__(self, command: SpawnCommand, ended: WhenEnded) -> Child:
        """Start it; ended(how) is called once, later, in the loop.

        Raises:
            OSError: it cannot be started; `filename` is what failed.
        """
