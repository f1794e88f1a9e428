# SPDX-License-Identifier: MIT
"""Which process holds an address that is in use: by name, or TIME_WAIT (FAQ II.4, IV.1).

Only called when bind() or listen() failed: reading every process of the host takes a while.  Best effort: processes
that this one may not see are reported as not visible.  psutil is imported when needed: it takes 50 ms, and nearly no
start needs it.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from sockd.lazy import psutil
from sockd.net.address.sockaddr import AF_VSOCK
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockd.net.address.sockaddr import Endpoint

MAX_COMMAND_CHARS = 120  # a message stays readable; ps(1) has the rest
MAX_NAMED = 3  # of the workers that share one socket
ANY: Final = ("::", "0.0.0.0")  # noqa: S104 - compared with, never bound
ITSELF = "it already listens there, or on every address ([::] also accepts IPv4 clients, unless ipv6_only = true)"
UNSEEN = "held by a process that is not visible (try as root)"

# Connections that outlive their process, whose port is taken all the same (RFC 9293); psutil's names.
ORPHANED = ("TIME_WAIT", "FIN_WAIT1", "FIN_WAIT2", "CLOSING", "LAST_ACK")


@dataclass(frozen=True)
class LocalSocket:
    """A local address of the host, as /proc shows it; pid None is not visible."""

    host: str
    port: int
    status: str
    pid: int | None


def describe_process(pid: int) -> str:
    """Name a process: `pid 123 (nc), command line: nc -l 7000`."""
    if pid == os.getpid():
        return f"pid {pid}, this process: {ITSELF}"
    try:
        process = psutil.Process(pid)
        name, words = process.name(), process.cmdline()
    except psutil.Error:
        return f"pid {pid}"
    command = _one_line(" ".join(words))
    return f"pid {pid} ({_one_line(name)})" + (f", command line: {command}" if command else "")


def describe_holder(endpoint: Endpoint) -> str:
    """Describe what occupies an address that bind() or listen() found in use.

    Args:
        endpoint: with the port or path that was refused.

    Returns:
        One clause: the holding processes, that they are not visible, or that no process holds it and how many
        connections are in TIME_WAIT.
    """
    if endpoint.family == socket.AF_UNIX:
        return describe_pids(path_pids(str(endpoint.sockaddr).replace("\0", "@")))
    if endpoint.family == AF_VSOCK:  # /proc has no table of these
        return UNSEEN
    rows = [row for row in _bound(endpoint) if _collides(row, endpoint)]
    living = [row for row in rows if row.status not in ORPHANED]
    listening = [row for row in living if row.status == "LISTEN"]
    if living:
        return describe_pids(row.pid for row in listening or living)
    if rows:
        waiting = sum(row.status == "TIME_WAIT" for row in rows)
        words = f"{waiting} connection{'' if waiting == 1 else 's'} in TIME_WAIT"
        if waiting < len(rows):
            words += f", {len(rows) - waiting} closing"
        return f"no process holds it: {words}, free within a minute (tcp(7))"
    return UNSEEN


def describe_pids(pids: Iterable[int | None]) -> str:
    """Describe the first few of them as `held by pid ...`; None is one that is not visible."""
    known = sorted({pid for pid in pids if pid is not None})
    if not known:
        return UNSEEN
    more = f" and {len(known) - MAX_NAMED} more" if len(known) > MAX_NAMED else ""
    return "held by " + "; ".join(describe_process(pid) for pid in known[:MAX_NAMED]) + more


def path_pids(path: str) -> list[int]:
    """List the processes that have a socket bound to a Unix path, as far as visible."""
    try:
        rows = psutil.net_connections("unix")
    except (psutil.Error, OSError):
        return []
    return [row.pid for row in rows if str(row.laddr) == path and row.pid is not None]


def _bound(endpoint: Endpoint) -> list[LocalSocket]:
    try:
        rows = psutil.net_connections("tcp" if endpoint.type == socket.SOCK_STREAM else "udp")
    except (psutil.Error, OSError):
        return []
    return [LocalSocket(row.laddr.ip, row.laddr.port, row.status, row.pid) for row in rows if row.laddr]


def _collides(bound: LocalSocket, endpoint: Endpoint) -> bool:
    """Return whether two local addresses exclude each other: same port, and same or any host."""
    ours, theirs = endpoint.sockaddr[0], bound.host.removeprefix("::ffff:")
    return bound.port == endpoint.port and (ours == theirs or ours in ANY or theirs in ANY)


def _one_line(text: str) -> str:
    """Escape another process's command line for printing: it chose it itself."""
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    return text if len(text) <= MAX_COMMAND_CHARS else text[: MAX_COMMAND_CHARS - 3] + "..."
