# SPDX-License-Identifier: MIT
"""systemd's environment variables, and the daemon's notifications to systemd.

`claim()` reads the variables once, before anything else is opened, and removes them, so that no
child of ours believes they were meant for it.  `Notifier` speaks sd_notify(3) from inside the
loop: that is why a watchdog's ping proves that the loop turns.  Its socket is connected before
rights are dropped and the root changes, and it never blocks: what the manager does not take now
is said again a little later.  Without a manager all of it does nothing.
What becomes of sockets that were passed is told in sockd.process.inherited_sockets.
Source: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3), FILE DESCRIPTOR STORE of systemd.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError
from sockd.process.descriptors import FIRST_OTHER
from sockd.process.sd_notify import MICROSECONDS, UNKNOWN
from sockd.text import show
from sockd.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping


logger = logging.getLogger("sockd.systemd")

MAX_PASSED_FDS = 1 << 16  # more than any manager passes; a mistake in the variable is not tried out

VARIABLES = (
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "FDSTORE",
)


@dataclass(frozen=True)
class Owner:
    """A listening socket of the previous process, and how it is to be treated.

    Args:
        passed: the name under which a manager passed it; empty where sockd opened it.
        is_ours: nobody else holds it.
        path: path, device and inode of a Unix socket that sockd bound, and removes at its end.
    """

    passed: str
    is_ours: bool
    path: tuple[str, int, int] | None


@dataclass(frozen=True)
class Inherited:
    """The content of the environment.

    Args:
        descriptors: (name, number) of each that was passed to this process.
        why_none: for messages, where there is none.
        notify: the manager's socket, as in NOTIFY_SOCKET; empty for none.
        watchdog: seconds after which the manager ends a process that is silent; 0 for never.
        store: how many descriptors the manager keeps for us over a restart.
        owners: of descriptors that the process before us handed over, by their number.
        is_lent: whether these are that process's still.
        drained: endpoints that an administrator has drained there, each with the name of its listener (stored_name).
    """

    descriptors: tuple[tuple[str, int], ...] = ()
    why_none: str = "LISTEN_FDS is not set"
    notify: str = ""
    watchdog: float = 0
    store: int = 0
    owners: Mapping[int, Owner] = field(default_factory=dict)
    is_lent: Callable[[], bool] = lambda: False
    drained: Mapping[str, str] = field(default_factory=dict)


def claim(environment: MutableMapping[str, str], pid: int) -> Inherited:
    """Read what is meant for this process, and remove the variables in any case.

    Args:
        environment: os.environ; changed.
        pid: of this process, before it forks.

    Returns:
        What it said; the descriptors are close-on-exec from now on.

    Raises:
        ConfigurationError: a variable has a value that it cannot have.
    """
    said = {name: environment.pop(name) for name in VARIABLES if name in environment}
    descriptors, why_none = _descriptors(said, pid)
    for _, fd in descriptors:
        _close_on_exec(fd)
    return Inherited(descriptors, why_none, said.get("NOTIFY_SOCKET", ""), _watchdog(said, pid), _store(said))


def passed_to(environment: Mapping[str, str], pid: int) -> range:
    """Return the numbers of the descriptors that were passed to a process; none where that cannot be read."""
    try:
        return range(FIRST_OTHER, FIRST_OTHER + len(_descriptors(dict(environment), pid)[0]))
    except ConfigurationError:  # which whoever claims them reports
        return range(0)


def forget(environment: MutableMapping[str, str]) -> None:
    """Remove the variables unread."""
    for name in VARIABLES:
        environment.pop(name, None)


def _descriptors(said: dict[str, str], pid: int) -> tuple[tuple[tuple[str, int], ...], str]:
    if "LISTEN_FDS" not in said:
        return (), "LISTEN_FDS is not set"
    meant = said.get("LISTEN_PID")
    if meant != str(pid):
        who = f"LISTEN_PID is {meant}, but this process is {pid}" if meant else "LISTEN_PID is not set"
        return (), f"{who}, so LISTEN_FDS is not meant for this process"
    count = _number(said, "LISTEN_FDS", MAX_PASSED_FDS)
    names = said["LISTEN_FDNAMES"].split(":") if said.get("LISTEN_FDNAMES") else [UNKNOWN] * count
    if len(names) != count:
        text = f"has {len(names)} names for LISTEN_FDS={count} descriptors; write name:name:..., one for each"
        raise ConfigurationError(f"LISTEN_FDNAMES: {show(said['LISTEN_FDNAMES'])} {text}")
    return tuple(zip(names, range(FIRST_OTHER, FIRST_OTHER + count), strict=True)), "LISTEN_FDS is 0"


def _close_on_exec(fd: int) -> None:
    try:
        os.set_inheritable(fd, False)
    except OSError as error:
        text = (
            f"descriptor {fd} is not open ({os.strerror(error.errno or 0)}), "
            "although LISTEN_FDS says that it was passed"
        )
        raise ConfigurationError(f"LISTEN_FDS: {text}") from None


def _watchdog(said: dict[str, str], pid: int) -> float:
    if "WATCHDOG_USEC" not in said or said.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0
    return _number(said, "WATCHDOG_USEC", 2**63) / MICROSECONDS


def _store(said: dict[str, str]) -> int:
    return _number(said, "FDSTORE", 2**32) if "FDSTORE" in said else 0


def _number(said: dict[str, str], name: str, maximum: int) -> int:
    text = said[name]
    if text.isascii() and text.isdigit() and len(text) <= len(str(maximum)) and int(text) <= maximum:
        return int(text)
    raise ConfigurationError(
        f"{name}: {show(text)} is not a number from 0 to {maximum}; the process that starts sockd sets it"
    )


# ---- to the manager


__all__ = ["Inherited", "Owner", "claim", "forget", "passed_to"]
