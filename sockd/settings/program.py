# SPDX-License-Identifier: MIT
"""Settings of a service that executes a program."""

# ruff: noqa: TC001 - setting() is a field specifier, typed and used like dataclasses.field; annotations are read

from __future__ import annotations

from sockd.settings.client_variables import ClientVariable, read_client_variable
from sockd.settings.field import KIB, MIB, setting, textual
from sockd.units import Duration, Size
from sockd.values import dataclass


@dataclass(frozen=True, kw_only=True)
class ProgramLimits:
    """limits = { ... } of a service that executes a program (setrlimit(2)); unset: as the daemon was started."""

    cpu: Duration | None = setting(
        None,
        help="CPU time of one process; at the limit SIGXCPU, and SIGKILL one second later",
        source="RLIMIT_CPU",
        unit="seconds",
        low=1,
        high=86_400,
    )
    memory: Size | None = setting(
        None,
        help="address space of one process",
        source="RLIMIT_AS",
        unit="bytes",
        low=MIB,
        high=1024 * 1024 * MIB,
    )
    data: Size | None = setting(
        None,
        help="data segment of one process: what it allocates",
        source="RLIMIT_DATA",
        unit="bytes",
        low=KIB,
        high=1024 * 1024 * MIB,
    )
    stack: Size | None = setting(
        None,
        help="stack of one process",
        source="RLIMIT_STACK",
        unit="bytes",
        low=KIB,
        high=1024 * 1024 * MIB,
    )
    files: int | None = setting(
        None, help="open files of one process", source="RLIMIT_NOFILE", unit="descriptors", low=3, high=1_000_000
    )
    processes: int | None = setting(
        None,
        help="total processes of the program's user; no limit for root",
        source="RLIMIT_NPROC",
        unit="processes",
        low=1,
        high=1_000_000,
    )
    file_size: Size | None = setting(
        None,
        help="maximum size of a file that it writes",
        source="RLIMIT_FSIZE",
        unit="bytes",
        low=0,
        high=1024 * 1024 * MIB,
    )
    wall: Duration | None = setting(
        None,
        help="run time after which its process group gets SIGTERM, and SIGKILL 5 seconds later",
        source="systemd.service(5), RuntimeMaxSec; xinetd has no such limit",
        unit="seconds",
        low=0.001,
        high=7 * 86_400,
    )


@dataclass(frozen=True, kw_only=True)
class ProgramSettings:
    """The keys of [service.NAME] that only a service with `exec` has."""

    user: str | None = setting(
        None, help="user that the program runs as; only a daemon that stays root can switch users", source=""
    )
    group: str | None = setting(None, help="group that the program runs as; unset: the user's own", source="")
    environment: tuple[str, ...] | None = setting(
        None,
        help="environment of a program besides the connection's variables: NAME is passed on, NAME=value is set",
        source="default PATH only: the daemon's environment is not for programs to see",
        otherwise=("PATH",),
    )
    client_environment: tuple[ClientVariable, ...] | None = setting(
        None,
        help='variables by the client\'s network: "10.0.0.0/8 NAME=value"; the smallest network with entries decides, '
        'and "10.1.0.0/16" alone sets none',
        source="tcprules(1)",
        parse=textual(read_client_variable),
    )
    argv0: str | None = setting(
        None, help="name that the program gets as its own, argv[0]; unset: its path", source="inetd(8), execve(2)"
    )
    groups: tuple[str, ...] | None = setting(
        None,
        help="supplementary groups of the program, in place of those that its user has on this host; [] for none",
        source="setgroups(2); xinetd.conf(5), groups",
    )
    directory: str | None = setting(
        None,
        help="directory that the program runs in",
        source='default "/": any other one could not be unmounted meanwhile',
        otherwise="/",
    )
    umask: str | None = setting(
        None, help="umask of the program, in octal", source="default 022; umask(2)", otherwise="022"
    )
    nice: int | None = setting(
        None,
        help="scheduling priority of the program; only root can set one below that of the daemon",
        source="setpriority(2)",
        low=-20,
        high=19,
    )
    stderr: str | None = setting(
        None,
        help="destination of the program's standard error: log, socket, null or the absolute path of a file",
        source="default log: the default of inetd, the socket, shows errors to the client",
        otherwise="log",
    )
    limits: ProgramLimits | None = setting(None, help="resource limits of the program", source="")
    wait: bool | None = setting(
        None,
        help="true: the program gets the listening or datagram socket itself, and accepts or receives until it exits",
        source="inetd(8), wait; default false: a program for each connection",
    )
    max_instances: int | None = setting(
        None,
        help="maximum programs running at once, for all listeners; at the maximum, at_limit applies to new "
        "connections; with wait, for each listener, and the default is 1",
        source="default 64: systemd.socket(5), MaxConnections",
        otherwise=64,
        unit="programs",
        low=1,
        high=100_000,
    )


__all__ = ["ProgramLimits", "ProgramSettings"]
