"""What two processes say to each other when one takes over what the other serves (sockd.upgrading, sockd.predecessor).

    old: Hello     listening sockets, control socket, lock of the pid file, and processes that have left before
    new: Ready     everything that can fail has been done; or Failed
    old: Rows      connections, again and again
    new: Kept      which of these it has now
    old: Go        the new one serves; the old one accepts no more, and forgets the connections
    old: Numbers   what was counted so far

Until Go the new process receives and sends not a byte, so that the old one can go on at any moment.
"""

from __future__ import annotations

from sockd.net.moving import Row
from sockd.process.systemd import Owner  # noqa: TC001 - msgspec reads annotations
from sockd.process.upgrade import Message


class Hello(Message):
    """What the new process gets.

    Args:
        names: of the listening sockets, as for PassedSockets; these are the first descriptors.
        owners: of each of these.
        control: path of the control socket, the next descriptor; None for none.
        control_path: path, device and inode, if it is removed at the end.
        pidfile: path of the pid file, whose descriptor is the next; None for none.
        keeper: whether who writes that file is the next one.
            All other descriptors are channels to processes that have left before.
        notify, watchdog, store: as in sockd.process.systemd.Given.
        starter: uid that started the daemon, which may control it.
        started: when, in seconds since 1970.
        pid: of the old process.
        files: RLIMIT_NOFILE, soft and hard, as the first process was started with it; programs get it back.
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


class Taken(Message):
    """A listening socket that goes on being served.

    Args:
        number: its place in Hello.names.
        service: what serves there.
        way: see sockd.handing.way_of().
    """

    number: int
    service: str
    way: str


class Ready(Message):
    """The new process can serve; what it has of what was handed to it."""

    taken: list[Taken]
    has_control: bool
    has_pidfile: bool


class Failed(Message):
    """The new process cannot serve."""

    error: str
    exit_code: int


class Rows(Message):
    """Connections, each with a descriptor."""

    rows: list[Row]


class Kept(Message):
    """For each of these, whether the new process has it now."""

    kept: list[bool]


class Go(Message):
    """Serve."""


class Numbers(Message):
    """What was counted until now.

    Args:
        totals: by service, came, received, sent and frames of sockd.net.connection_info.Totals, and its reasons.
        came: by listening socket, connections that were let in, or the counts of datagrams.
        moved: connections that go on in the new process.
        stay: connections that end in the old one.
        defects: failures of sockd itself that were survived.
    """

    totals: dict[str, list[int]]
    came: list[list[int]]
    moved: int
    stay: int
    defects: int = 0


__all__ = ["Failed", "Go", "Hello", "Kept", "Numbers", "Ready", "Row", "Rows", "Taken"]
