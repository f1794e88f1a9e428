# SPDX-License-Identifier: MIT
"""The options of `sockd` as a table, and a reader of plain command lines.

A command line that is right and plain is read here; --help, a mistake and every other form (`-fc FILE`) are for
argparse, whose parser is made from the same table (sockd.cli.sockd_parser): a twelfth of a short run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.settings.daemon import LogFormat, LogLevel, Multiplexer


@dataclass(frozen=True)
class Options:
    """What a command line says; its attributes are those that OPTIONS names."""

    config: str | None = None
    foreground: bool = False
    user: str | None = None
    group: str | None = None
    chroot: str | None = None
    pidfile: str | None = None
    listen: tuple[str, ...] = ()
    inetd: str | None = None
    check: bool = False
    show: bool = False
    multiplexer: Multiplexer | None = None
    log_level: LogLevel | None = None
    log_format: LogFormat | None = None
    notify_fd: str | None = None
    reload: bool = False
    trace: bool = False


OPTIONS = (
    ("-c --config", "config", "FILE", "read this configuration"),
    ("-f --foreground", "foreground", "", "stay in the foreground; log to standard error, unless log.to is set"),
    ("-u --user", "user", "USER", "switch to this user after binding"),
    ("-g --group", "group", "GROUP", "switch to this group instead of the user's own"),
    ("--chroot", "chroot", "DIR", "use this directory as the root directory while serving (chroot(2))"),
    ("--pidfile", "pidfile", "FILE", "write the pid to this file and lock it against a second daemon"),
    (
        "-l --listen",
        "listen",
        "ADDRESS=SERVICE",
        "serve SERVICE (a built-in service or module:attribute) on ADDRESS; repeatable, no configuration needed",
    ),
    (
        "--inetd",
        "inetd",
        "SERVICE",
        "serve standard input: a connection, a listening socket, a datagram socket, a pipe or a terminal",
    ),
    ("-t --check", "check", "", "check the configuration and the handlers without binding anything"),
    ("-T --print", "show", "", "check, then print the effective configuration"),
    ("--multiplexer", "multiplexer", "NAME", "I/O multiplexer: auto, epoll, poll or select"),
    ("--log-level", "log_level", "LEVEL", "minimum severity to log: debug, info, warning or error"),
    ("--log-format", "log_format", "FORMAT", "format of the log: text or json"),
    ("--notify-fd", "notify_fd", "NUMBER", "write a newline to this descriptor once it serves (s6, dinit)"),
    ("--reload", "reload", "", "restart when a source file changes (development)"),
    ("--trace", "trace", "", "log each frame with its content (development)"),
)
"""Flags, attribute of Options, what the value is called (empty without one), and text of --help; in its order."""

REPEATABLE = "listen"


def read_plain(words: Sequence[str]) -> Options | None:
    """Read a command line of exact options, each value after `=` or as a word of its own.

    Returns:
        None if argparse is to read it: there is something else, maybe a mistake.
    """
    known = {flag: (name, metavar) for flags, name, metavar, _ in OPTIONS for flag in flags.split()}
    found: dict[str, str | bool] = {}
    listen: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, mark, value = word.partition("=")
        name, metavar = known.get(flag, ("", ""))
        if not name or (mark and not (metavar and flag.startswith("--") and value)):
            return None
        if not metavar:
            found[name] = True
            continue
        if not mark:
            value = next(rest, "")
            if not value or value.startswith("-"):
                return None
        if name == REPEATABLE:
            listen.append(value)
        else:
            found[name] = value
    return Options(**found, listen=tuple(listen))  # type: ignore[arg-type]  # checked by sockd.config.command_line


__all__ = ["OPTIONS", "REPEATABLE", "Options", "read_plain"]
