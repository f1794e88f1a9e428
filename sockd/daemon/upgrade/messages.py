# SPDX-License-Identifier: MIT
"""Messages of an upgrade between the old process (sockd.daemon.upgrade.sender) and the new one (receiver).

    old: Hello         listening sockets, control socket, lock of the pid file, and processes that have left before
    new: Ready         everything that can fail has been done; or UpgradeFailed
    old: Connections   again and again; with the first ones, the state of the handlers' modules
    new: Adopted       which of these it has now; or UpgradeFailed
    old: Commit        the new one serves; the old one accepts no more, and forgets the connections
    old: Counters      what was counted so far

Until Commit the new process neither receives nor sends a byte, so that the old one can continue at any moment.
"""

from __future__ import annotations

import msgspec

from sockd.daemon.overrides import Override  # noqa: TC001 - msgspec reads annotations
from sockd.daemon.upgrade.channel import Message
from sockd.log import format as log_format
from sockd.net.connection.transfer import ConnectionState
from sockd.process.socket_activation import Owner  # noqa: TC001 - msgspec reads annotations
from sockd.values import dataclass


class Hello(Message):
    """What the new process gets.

    Args:
        names: of the listening sockets, as Inherited.descriptors has them; these are the first descriptors.
        owners: of each of these.
        control: path of the control socket, the next descriptor; None for none.
        control_path: path, device and inode, if it is removed at the end.
        pidfile: path of the pid file, whose descriptor is the next; None for none.
        keeper: whether the helper that writes that file is the next one.
            All other descriptors are channels to previous processes.
        drained: as in sockd.process.socket_activation.Inherited.
        notify, watchdog, store: as in sockd.process.socket_activation.Inherited.
        starter: uid that started the daemon, which may control it.
        started: when, in seconds since 1970.
        pid: of the old process.
        files: RLIMIT_NOFILE, soft and hard, as the first process was started with it; programs get it back.
        overrides: what sockctl has changed, for workers that accept before the Counters come.
    """

    names: list[str]
    owners: list[Owner]
    control: str | None
    control_path: tuple[str, int, int] | None
    pidfile: str | None
    notify: str
    watchdog: float
    store: int
    starter: int
    started: float
    pid: int
    files: tuple[int, int] | None = None
    keeper: bool = False
    drained: dict[str, str] = msgspec.field(default_factory=dict)
    overrides: list[Override] = msgspec.field(default_factory=list)


class AcceptedListener(Message):
    """A listening socket that is served further.

    Args:
        number: its place in Hello.names.
        service: what serves there.
        way: see sockd.services.spec.ServiceSpec.
    """

    number: int
    service: str
    way: str


class Ready(Message):
    """The new process can serve.

    Args:
        pid: of it; the process that was started is its parent, see sockd.process.intermediate.
        adopted: which listening sockets it serves.
    """

    pid: int
    adopted: list[AcceptedListener]
    has_control: bool
    has_pidfile: bool


class UpgradeFailed(Message):
    """The new process cannot serve."""

    error: str
    exit_code: int


class Connections(Message):
    """Connections, each with a descriptor.

    Args:
        states: of the modules of handlers, by service, as in sockd.services.module_state; in the first one.
    """

    rows: list[ConnectionState]
    states: dict[str, bytes] = msgspec.field(default_factory=dict)


class Adopted(Message):
    """For each of these, whether the new process has adopted it."""

    kept: list[bool]


class Commit(Message):
    """The point of no return: the new process serves."""


class Counters(Message):
    """The counters up to now.

    Args:
        totals: by service, accepted, received, sent and frames of sockd.net.connection.info.Totals, and its reasons.
        accepted: by listening socket, accepted connections, or the counts of datagrams.
        moved: connections that continue in the new process.
        stay: connections that end in the old one.
        defects: internal errors that were survived.
        overrides: what sockctl has changed, and holds still.
        refused: by listening socket, as `accepted`: clients that were not served, by the reason.
        programs: the number of the listening socket that each of the descriptors of this message, pidfds, has.
    """

    totals: dict[str, list[int]]
    accepted: list[list[int]]
    moved: int
    stay: int
    defects: int = 0
    refused: list[dict[str, int]] = msgspec.field(default_factory=list)
    overrides: list[Override] = msgspec.field(default_factory=list)
    programs: list[int] = msgspec.field(default_factory=list)


@dataclass(frozen=True)
class UpgradeResult:
    """The result of an upgrade.

    Args:
        when: seconds since 1970.
        error: why it failed; empty if it succeeded.
        exit_code: of the error.
        pid: of the other process.
        moved: connections that continue there.
        stay: connections that continue here.
    """

    when: float
    error: str = ""
    exit_code: int = 0
    pid: int = 0
    moved: int = 0
    stay: int = 0

    def table(self) -> dict[str, object]:
        """Return it for JSON."""
        known = {"when": log_format.timestamp(self.when), "ok": not self.error}
        if self.error:
            return known | {"error": self.error}
        return known | {"pid": self.pid, "moved": self.moved, "stay": self.stay}


__all__ = [
    "AcceptedListener",
    "Adopted",
    "Commit",
    "ConnectionState",
    "Connections",
    "Counters",
    "Hello",
    "Ready",
    "UpgradeFailed",
    "UpgradeResult",
]
