# SPDX-License-Identifier: MIT
"""A program that serves a connection, as values: what it inherits, and how it ended.

Services decide what is executed (sockd.services.exec.service), sockd.process.children executes it; these values are
shared by both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from sockd.values import dataclass, field

DEFAULT_UMASK = 0o022
DEFAULT_DIRECTORY = "/"


@dataclass(frozen=True)
class Identity:
    """The user of a program; `groups` are the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SpawnCommand:
    """The command, and everything that it inherits.

    Attributes:
        path: of the program.
        argv: its words; the first is the name that it gets as its own.
        environment: NAME=value, and nothing else.
        descriptors: what become its 0, 1 and 2; the caller's to close.
        identity: None: as the daemon.
        limits: (RLIMIT_*, soft, hard) of setrlimit(2), -1 for none; what does not exist is as for the daemon.
        umask: of umask(2).
        nice: of setpriority(2); None: as the daemon.
        directory: that it runs in.
        about: whose it is, for people: service, and peer or address.
    """

    path: str
    argv: tuple[str, ...]
    environment: tuple[str, ...]
    descriptors: tuple[int, int, int]
    identity: Identity | None = None
    limits: tuple[tuple[int, int, int], ...] = ()
    umask: int = DEFAULT_UMASK
    nice: int | None = None
    directory: str = DEFAULT_DIRECTORY
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ExitStatus:
    """How a program ended: by its exit code, by a signal, or (neither) unknown; times in seconds."""

    exit_code: int | None
    signal: int | None
    seconds: float
    cpu_seconds: float


WhenEnded: TypeAlias = Callable[[ExitStatus], None]


class Child(Protocol):
    """A running program."""

    pid: int

    def end(self) -> None:
        """Terminate its process group: TERM, then KILL."""


class Spawn(Protocol):
    """Executes a command."""

    def __call__(self, command: SpawnCommand, ended: WhenEnded) -> Child:
        """Start it; ended(how) is called once, later, in the loop.

        Raises:
            OSError: it cannot be started; `filename` is what failed.
        """
