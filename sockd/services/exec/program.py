# SPDX-License-Identifier: MIT
"""A program as it will be executed: what the keys of its service come to."""

from __future__ import annotations

import math
import resource
from functools import partial
from typing import TYPE_CHECKING

from sockd.settings.field import setting_default
from sockd.settings.program import ProgramLimits, ProgramSettings
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.process.program import Identity
    from sockd.settings.client_variables import ClientVariable


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program.

    Attributes:
        path: of the program.
        argv: its name for itself, and its arguments.
        user, group: as written; `identity` is what they came to, None: as the daemon.
        environment: NAME of what is kept, NAME=value of what is set.
        client_environment: variables by the client's network.
        stderr: log, socket, null or a path.
        limits: (RLIMIT_*, soft, hard).
        wall: seconds; None for no limit.
        max_instances: that run at once.
        groups: supplementary ones as written; None: those of the user.
        directory, umask, nice: see SpawnCommand.
        login: HOME and its kin, where it has a user of its own.
    """

    path: str
    argv: tuple[str, ...]
    user: str | None
    group: str | None
    environment: tuple[str, ...]
    client_environment: tuple[ClientVariable, ...]
    stderr: str
    limits: tuple[tuple[int, int, int], ...]
    wall: float | None
    max_instances: int
    groups: tuple[str, ...] | None
    directory: str
    umask: int
    nice: int | None
    identity: Identity | None = None
    login: tuple[str, ...] = ()


def make_program(table: ProgramSettings, argv: tuple[str, ...]) -> Program:
    """Define everything about a program except its user."""
    limits, otherwise = table.limits or ProgramLimits(), partial(setting_default, ProgramSettings)
    return Program(
        path=argv[0],
        argv=(table.argv0 or argv[0], *argv[1:]),
        user=table.user,
        group=table.group,
        environment=otherwise("environment") if table.environment is None else table.environment,
        client_environment=table.client_environment or (),
        stderr=table.stderr or otherwise("stderr"),
        limits=tuple(_resource_limits(limits)),
        wall=limits.wall,
        max_instances=table.max_instances or (1 if table.wait else otherwise("max_instances")),
        groups=table.groups,
        directory=table.directory or otherwise("directory"),
        umask=int(table.umask or otherwise("umask"), 8),
        nice=table.nice,
    )


def _resource_limits(limits: ProgramLimits) -> Iterator[tuple[int, int, int]]:
    """Yield (RLIMIT_*, soft, hard); processor time has a second between XCPU and KILL (setrlimit(2))."""
    if limits.cpu is not None:
        seconds = math.ceil(limits.cpu)
        yield resource.RLIMIT_CPU, seconds, seconds + 1
    for kind, limit in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_DATA, limits.data),
        (resource.RLIMIT_STACK, limits.stack),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_FSIZE, limits.file_size),
    ):
        if limit is not None:
            yield kind, int(limit), int(limit)


__all__ = ["Program", "make_program"]
