# SPDX-License-Identifier: MIT
"""Rules between the keys of [daemon], as far as the text alone decides.

Whether a user or a directory exists depends on the host; sockd.process checks that.
"""

from __future__ import annotations

import os
from math import ceil
from typing import TYPE_CHECKING

from sockd.config.convert import Problem
from sockd.lazy import pattern, urls
from sockd.settings.daemon import NO_CONTROL
from sockd.text import show, suggest
from sockd.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.settings import DaemonSettings, LogSettings

OUTPUTS = ("/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2", "/proc/self/fd/1", "/proc/self/fd/2")
LOG_TARGETS = ("stderr", "syslog", "journal")

IDENT = pattern(r"[!-9;-Z\\^-~]{1,48}")
"""APP-NAME of RFC 5424, 6.2.5, without what ends a tag (RFC 3164, 4.1.3)."""


def check_daemon(daemon: DaemonSettings) -> Iterator[Problem]:
    """Check [daemon] beyond its single values.

    Args:
        daemon: as read.

    Returns:
        The problems, each with the path of its key.
    """
    for key in ("user", "group"):
        name = getattr(daemon, key)
        if name is not None and (not name or not name.isprintable() or ":" in name):
            text = f'is not a valid {key}; write a name such as "nobody", or a number' if key == "user" else ""
            text = text or 'is not a valid group; write a name such as "nogroup", or a number'
            yield Problem(("daemon", key), f"{show(name)} {text}", name)
    if daemon.group is not None and daemon.user is None:
        text = f'{show(daemon.group)} requires a user; add user = "nobody" or another one'
        yield Problem(("daemon", "group"), text, daemon.group)
    for key, example in (
        ("chroot", "/var/empty"),
        ("pidfile", "/run/sockd/sockd.pid"),
        ("control", "/run/sockd/control.sock"),
    ):
        path = getattr(daemon, key)
        if path is not None and not os.path.isabs(path) and (key, path) != ("control", NO_CONTROL):
            text = (
                f"{show(path)} is not an absolute path, and a daemon changes its "
                f"working directory; write one, such as {example}"
            )
            yield Problem(("daemon", key), text, path)
    for key in ("pidfile", "control"):
        path = getattr(daemon, key)
        if path is not None and os.path.isabs(path) and not os.path.basename(path):
            yield Problem(("daemon", key), f"{show(path)} is a directory; name a file in it", path)
    yield from _check_workers(daemon)
    to = daemon.log.to
    if to is not None and to.startswith("udp://"):
        if not _is_collector(to):
            yield Problem(
                ("daemon", "log", "to"), f"{show(to)} is not the address of a collector; write udp://host:port", to
            )
    elif to in OUTPUTS:
        text = f'{show(to)} is an inherited descriptor, not a file; write "stderr", and use --foreground'
        yield Problem(("daemon", "log", "to"), text, to)
    elif to is not None and to not in LOG_TARGETS and not os.path.isabs(to):
        text = f"{show(to)} is neither {', '.join(LOG_TARGETS)}, udp://host:port nor an absolute path"
        text += suggest(to, LOG_TARGETS)
        yield Problem(("daemon", "log", "to"), text, to)
    yield from _check_log(daemon.log)


def _check_log(log: LogSettings) -> Iterator[Problem]:
    """Name keys of the log that have no meaning for its target."""
    is_file = log.to is not None and os.path.isabs(log.to)
    for key in ("warn_size", "max_size"):
        if getattr(log, key) is not None and not is_file:
            yield Problem(("daemon", "log", key), 'applies to a file; write to = "/var/log/x.log", or remove it')
    for key in ("facility", "ident"):
        if getattr(log, key) is not None and (is_file or log.to == "stderr"):
            yield Problem(("daemon", "log", key), "applies to syslog, journal and udp://host:port; remove it")
    if log.ident is not None and not IDENT.fullmatch(log.ident):
        text = "is no name for syslog; use 1 to 48 printable ASCII characters without blanks, colons and brackets"
        yield Problem(("daemon", "log", "ident"), f"{show(log.ident)} {text}", log.ident)
    if log.warn_size is not None and log.max_size is not None and log.warn_size > log.max_size:
        yield Problem(("daemon", "log", "warn_size"), "is above max_size, so that it is never reached")


def _check_workers(daemon: DaemonSettings) -> Iterator[Problem]:
    if daemon.handler_timeout is not None and daemon.workers == 1:
        text = "without workers nobody can replace the process; set workers = 2 or more, or WatchdogSec of systemd"
        yield Problem(("daemon", "handler_timeout"), text, daemon.handler_timeout)
    for key in ("max_worker_requests", "max_worker_age"):
        if getattr(daemon, key) is not None and daemon.workers == 1:
            text = "without workers the process cannot be replaced; set workers = 2 or more"
            yield Problem(("daemon", key), text, getattr(daemon, key))
    limit, where = daemon.max_worker_memory, ("daemon", "max_worker_memory")
    if limit is None:
        return
    share = ceil(daemon.max_memory / daemon.workers)
    if daemon.workers == 1:
        yield Problem(where, "without workers the process cannot be replaced; set workers = 2 or more", limit)
    elif limit <= share:
        text = f"{format_size(limit)} is no more than a worker's share of max_memory, {format_size(share)}, "
        text += "which clients can fill; write more, or set max_memory lower"
        yield Problem(where, text, limit)


def _is_collector(to: str) -> bool:
    try:
        where = urls.urlsplit(to)
        return bool(where.hostname) and where.port != 0 and not where.path
    except ValueError:  # of the port
        return False
