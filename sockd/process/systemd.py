"""What systemd says to a service by its environment, and what a service says to systemd.

`take()` reads the variables once, before anything else is opened, and removes them, so that no
child of ours believes they were meant for it.  `Notifier` speaks sd_notify(3) from inside the
loop: that is why a watchdog's ping proves that the loop turns.  Its socket is connected before
rights are dropped and the root changes, and it never blocks: what the manager does not take now
is said again a little later.  Without a manager all of it does nothing.
What becomes of sockets that were passed is told in sockd.process.passed.
Source: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3), FILE DESCRIPTOR STORE of systemd.
"""

from __future__ import annotations

import array
import logging
import os
import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sockd.config_values import show
from sockd.errors import ConfigurationError
from sockd.process.descriptors import FIRST_OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence

    from sockd.net.loop import EventLoop

logger = logging.getLogger("sockd.systemd")

MOST_FDS = 1 << 16  # more than any manager passes; a mistake in the variable is not tried out
UNKNOWN = "unknown"  # the name of what has none: sd_listen_fds_with_names(3)
MICROSECONDS = 1_000_000
RETRY_SECONDS = 0.1  # a manager that is busy takes what waits within milliseconds
MOST_UNSENT = 1024
MOST_FDS_AT_ONCE = 128  # the kernel takes 253 in a message (SCM_MAX_FD)
RELOAD_SECONDS = 120.0  # for a manager to wait while handlers are imported
STOP_MARGIN_SECONDS = 5.0  # between the end of our own stop_timeout and the manager's patience

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
    """What becomes of a listening socket that the process before us had, as that process was to treat it.

    Args:
        passed: the name under which a manager passed it; empty where sockd opened it.
        is_ours: nobody else holds it.
        path: path, device and inode of a Unix socket that sockd bound, and removes at its end.
    """

    passed: str
    is_ours: bool
    path: tuple[str, int, int] | None


@dataclass(frozen=True)
class Given:
    """What the environment said.

    Args:
        descriptors: (name, number) of each that was passed to this process.
        why_none: for messages, where there is none.
        notify: the manager's socket, as in NOTIFY_SOCKET; empty for none.
        watchdog: seconds after which the manager ends a process that is silent; 0 for never.
        store: how many descriptors the manager keeps for us over a restart.
        owners: of descriptors that the process before us handed over, by their number.
        is_lent: whether these are that process's still.
    """

    descriptors: tuple[tuple[str, int], ...] = ()
    why_none: str = "LISTEN_FDS is not set"
    notify: str = ""
    watchdog: float = 0
    store: int = 0
    owners: Mapping[int, Owner] = field(default_factory=dict)
    is_lent: Callable[[], bool] = lambda: False


def take(environment: MutableMapping[str, str], pid: int) -> Given:
    """Read what is meant for this process, and remove the variables whomever they are meant for.

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
    return Given(descriptors, why_none, said.get("NOTIFY_SOCKET", ""), _watchdog(said, pid), _store(said))


def forget(environment: MutableMapping[str, str]) -> None:
    """Remove the variables unread."""
    for name in VARIABLES:
        environment.pop(name, None)


def _descriptors(said: dict[str, str], pid: int) -> tuple[tuple[tuple[str, int], ...], str]:
    if "LISTEN_FDS" not in said:
        return (), "LISTEN_FDS is not set"
    meant = said.get("LISTEN_PID")
    if meant != str(pid):
        who = f"LISTEN_PID is {meant}, and this process is {pid}" if meant else "LISTEN_PID is not set"
        return (), f"{who}, so what LISTEN_FDS says is not meant for it"
    count = _number(said, "LISTEN_FDS", MOST_FDS)
    names = said["LISTEN_FDNAMES"].split(":") if said.get("LISTEN_FDNAMES") else [UNKNOWN] * count
    if len(names) != count:
        text = f"has {len(names)} names for LISTEN_FDS={count} descriptors; it is name:name:..., one each"
        raise ConfigurationError(f"LISTEN_FDNAMES: {show(said['LISTEN_FDNAMES'])} {text}")
    return tuple(zip(names, range(FIRST_OTHER, FIRST_OTHER + count), strict=True)), "LISTEN_FDS is 0"


def _close_on_exec(fd: int) -> None:
    try:
        os.set_inheritable(fd, False)
    except OSError as error:
        text = f"descriptor {fd} is not open ({os.strerror(error.errno or 0)}), and LISTEN_FDS says that it was passed"
        raise ConfigurationError(f"LISTEN_FDS: {text}") from None


def _watchdog(said: dict[str, str], pid: int) -> float:
    if "WATCHDOG_USEC" not in said or said.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0
    return _number(said, "WATCHDOG_USEC", 2**63) / MICROSECONDS


def _store(said: dict[str, str]) -> int:
    return _number(said, "FDSTORE", 2**32) if "FDSTORE" in said else 0


def _number(said: dict[str, str], name: str, most: int) -> int:
    text = said[name]
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most:
        return int(text)
    raise ConfigurationError(f"{name}: {show(text)} is no number from 0 to {most}; whoever starts sockd sets it")


# ---- to the manager


def connect(address: str) -> socket.socket | None:
    """Open the way to the manager, with the rights and the root folder that it needs.

    Args:
        address: of NOTIFY_SOCKET: a path, or @ and an abstract name (unix(7)).

    Returns:
        A connected datagram socket, non-blocking; None without a manager, or, with a
        warning in the log, where it cannot be reached.
    """
    if not address:
        return None
    reason = "only a path and @NAME are supported, vsock is not"
    if address[0] in "/@" and len(address) > 1:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect("\0" + address[1:] if address[0] == "@" else address)
        except OSError as error:  # also of a path that is too long, which has no errno
            sock.close()
            reason = str(error)
        else:
            return sock
    logger.warning("the manager is not told", extra={"event": {"notify_socket": address, "why": reason}})
    return None


class Notifier:
    """Tells the service manager how it goes.

    Args:
        sock: as connect() returns it; None tells nobody.
        loop: in which what was not taken is said again.
    """

    def __init__(self, sock: socket.socket | None, loop: EventLoop) -> None:
        self._socket = sock
        self._loop = loop
        self._unsent: deque[tuple[bytes, socket.socket | None]] = deque()
        self._waiting = False
        self._is_other = False
        self._watchdog = 0.0

    def hand_over(self, pid: int) -> None:
        """Say that another process is the main one from now on, and nothing any more behind that."""
        self._say(f"MAINPID={pid}")
        self._is_other = True

    def stay(self) -> None:
        """Take that back: it came to nothing."""
        self._is_other = False
        self._say(f"MAINPID={os.getpid()}")

    def ready(self, status: str) -> None:
        """Say that this process serves."""
        self._say("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")

    def reload_begins(self) -> None:
        """Say that this process reloads, and that its loop may stand still meanwhile: handlers are imported in it."""
        # Compared with the time at which the manager sent SIGHUP (Type=notify-reload).
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000 if hasattr(time, "CLOCK_MONOTONIC") else 0
        patience = round(RELOAD_SECONDS * MICROSECONDS)
        longer = [f"WATCHDOG_USEC={patience}", "WATCHDOG=1"] if 0 < self._watchdog < RELOAD_SECONDS else []
        self._say("RELOADING=1", f"MONOTONIC_USEC={now}", f"EXTEND_TIMEOUT_USEC={patience}", "STATUS=reloading")
        if longer:
            self._say(*longer)

    def reload_ends(self, status: str) -> None:
        """Say that this process serves, as before or by the new configuration."""
        if 0 < self._watchdog < RELOAD_SECONDS:
            self._say(f"WATCHDOG_USEC={round(self._watchdog * MICROSECONDS)}", "WATCHDOG=1")
        self.ready(status)

    def stopping(self, status: str, seconds: float) -> None:
        """Say that this process stops, and how long that may take."""
        patience = round((seconds + STOP_MARGIN_SECONDS) * MICROSECONDS)
        self._say("STOPPING=1", f"EXTEND_TIMEOUT_USEC={patience}", f"STATUS={status}")

    def watch(self, seconds: float, status: Callable[[], str]) -> None:
        """Say every half of the watchdog's time that the loop turns.

        Args:
            seconds: of WATCHDOG_USEC; 0 for no watchdog.
            status: what else to say.
        """
        if not seconds or self._socket is None:
            return
        self._watchdog = seconds

        def ping() -> None:
            self._loop.call_later(seconds / 2, ping)  # first: the manager kills who fails to say it once
            if not self._unsent:
                self._say("WATCHDOG=1", f"STATUS={status()}")

        ping()

    def keep(self, sockets: Iterable[tuple[str, socket.socket]], not_any_more: Iterable[str]) -> None:
        """Have the manager keep sockets over a restart; it knows what it has already.

        Args:
            sockets: (name, socket).
            not_any_more: names of what it shall close.
        """
        for name in dict.fromkeys(not_any_more):
            self._say("FDSTOREREMOVE=1", f"FDNAME={name}")
        for name, sock in sockets:
            self._say("FDSTORE=1", f"FDNAME={name}", sock=sock)

    def store(self, descriptors: Mapping[str, Sequence[int]], seconds: float) -> bool:
        """Have the manager keep descriptors over a restart, and wait until it has them; BLOCKS.

        Args:
            descriptors: by the name that they get.
            seconds: to wait at most.

        Returns:
            Whether it has; there may be no manager.
        """
        if self._socket is None or self._unsent:
            return False
        reader, writer = os.pipe()
        try:
            self._socket.settimeout(seconds)
            for name, all_of_it in descriptors.items():
                for first in range(0, len(all_of_it), MOST_FDS_AT_ONCE):
                    self._send_with(f"FDSTORE=1\nFDNAME={name}", all_of_it[first : first + MOST_FDS_AT_ONCE])
            self._send_with("BARRIER=1", [writer])
            os.close(writer)
            writer = -1
            return bool(select.select([reader], [], [], seconds)[0])  # closed by the manager as well
        except OSError as error:
            logger.warning("the manager is not told", extra={"event": {"error": str(error)}})
            return False
        finally:
            self._socket.settimeout(0)
            for fd in (reader, writer):
                if fd >= 0:
                    os.close(fd)

    def _send_with(self, text: str, descriptors: Sequence[int]) -> None:
        assert self._socket is not None
        self._socket.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])

    def _say(self, *fields: str, sock: socket.socket | None = None) -> None:
        if self._socket is None or self._is_other:
            return
        if len(self._unsent) < MOST_UNSENT:
            self._unsent.append(("\n".join(fields).encode("utf-8", "backslashreplace"), sock))
        if not self._waiting:
            self._send()

    def _send(self) -> None:
        self._waiting = False
        assert self._socket is not None
        while self._unsent:
            text, sock = self._unsent[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock.fileno()]))] if sock else []
            try:
                self._socket.sendmsg([text], rights)
            except BlockingIOError:
                self._waiting = True
                self._loop.call_later(RETRY_SECONDS, self._send)
                return
            except OSError as error:  # it has gone; a new one has another socket
                logger.warning("the manager is not told", extra={"event": {"error": str(error)}})
            self._unsent.popleft()


__all__ = ["Given", "Notifier", "Owner", "connect", "forget", "take"]
