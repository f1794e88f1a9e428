# SPDX-License-Identifier: MIT
"""Notifications of the service manager.  Source: sd_notify(3), systemd.exec(5)."""

from __future__ import annotations

import array
import logging
import os
import select
import socket
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sockd.net.loop.loop import EventLoop


logger = logging.getLogger("sockd.systemd")


UNKNOWN = "unknown"  # the name of what has none: sd_listen_fds_with_names(3)


MICROSECONDS = 1_000_000


MAX_QUEUED = 1024


MAX_FDS_AT_ONCE = 128  # the kernel takes 253 in a message (SCM_MAX_FD)


RELOAD_SECONDS = 120.0  # for a manager to wait while handlers are imported


STOP_MARGIN_SECONDS = 5.0  # between the end of our own stop_timeout and the manager's patience


def connect(address: str) -> socket.socket | None:
    """Connect to the manager, before privileges are dropped and the root directory changes.

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
    logger.warning("cannot notify the service manager", extra={"event": {"notify_socket": address, "why": reason}})
    return None


class Notifier:
    """Notifies the service manager of the state.

    Args:
        sock: as connect() returns it; None tells nobody.
        loop: in which what was not taken is said again.
    """

    def __init__(self, sock: socket.socket | None, loop: EventLoop) -> None:
        self._socket = sock
        self._loop = loop
        self._output_pending_bytes: deque[tuple[bytes, socket.socket | None]] = deque()
        self._waiting = False
        self._is_other = False
        self._watchdog = 0.0

    def hand_over(self, pid: int) -> None:
        """Report that another process is the main one from now on, and nothing after that."""
        self._say(f"MAINPID={pid}")
        self._is_other = True

    def stay(self) -> None:
        """Undo that: the upgrade failed."""
        self._is_other = False
        self._say(f"MAINPID={os.getpid()}")

    def ready(self, status: str) -> None:
        """Report that this process serves."""
        self._say("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")

    def reload_begins(self) -> None:
        """Report a reload, during which the loop may block: handlers are imported in it."""
        # Compared with the time at which the manager sent SIGHUP (Type=notify-reload).
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000 if hasattr(time, "CLOCK_MONOTONIC") else 0
        patience = round(RELOAD_SECONDS * MICROSECONDS)
        longer = [f"WATCHDOG_USEC={patience}", "WATCHDOG=1"] if 0 < self._watchdog < RELOAD_SECONDS else []
        self._say("RELOADING=1", f"MONOTONIC_USEC={now}", f"EXTEND_TIMEOUT_USEC={patience}", "STATUS=reloading")
        if longer:
            self._say(*longer)

    def reload_ends(self, status: str) -> None:
        """Report that this process serves, as before or with the new configuration."""
        if 0 < self._watchdog < RELOAD_SECONDS:
            self._say(f"WATCHDOG_USEC={round(self._watchdog * MICROSECONDS)}", "WATCHDOG=1")
        self.ready(status)

    def stopping(self, status: str, seconds: float) -> None:
        """Report that this process stops, and how long that may take."""
        patience = round((seconds + STOP_MARGIN_SECONDS) * MICROSECONDS)
        self._say("STOPPING=1", f"EXTEND_TIMEOUT_USEC={patience}", f"STATUS={status}")

    def watch(self, seconds: float, status: Callable[[], str]) -> None:
        """Report twice per watchdog interval that the loop turns.

        Args:
            seconds: of WATCHDOG_USEC; 0 for no watchdog.
            status: what else to say.
        """
        if not seconds or self._socket is None:
            return
        self._watchdog = seconds

        def ping() -> None:
            self._loop.call_later(seconds / 2, ping)  # first: the manager kills who fails to say it once
            if not self._output_pending_bytes:
                self._say("WATCHDOG=1", f"STATUS={status()}")

        ping()

    def keep(self, sockets: Iterable[tuple[str, socket.socket]], not_any_more: Iterable[str]) -> None:
        """Have the manager keep sockets over a restart; those that it already has are skipped.

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
        if self._socket is None or self._output_pending_bytes:
            return False
        reader, writer = os.pipe()
        try:
            self._socket.settimeout(seconds)
            for name, every in descriptors.items():
                for first in range(0, len(every), MAX_FDS_AT_ONCE):
                    _send_with(self._socket, f"FDSTORE=1\nFDNAME={name}", every[first : first + MAX_FDS_AT_ONCE])
            _send_with(self._socket, "BARRIER=1", [writer])
            os.close(writer)
            writer = -1
            return bool(select.select([reader], [], [], seconds)[0])  # closed by the manager as well
        except OSError as error:
            logger.warning("cannot notify the service manager", extra={"event": {"error": str(error)}})
            return False
        finally:
            self._socket.settimeout(0)
            for fd in (reader, writer):
                if fd >= 0:
                    os.close(fd)

    def _say(self, *fields: str, sock: socket.socket | None = None) -> None:
        if self._socket is None or self._is_other:
            return
        if len(self._output_pending_bytes) < MAX_QUEUED:
            self._output_pending_bytes.append(("\n".join(fields).encode("utf-8", "backslashreplace"), sock))
        if not self._waiting:
            self._send(self._socket)

    def _send(self, manager: socket.socket) -> None:
        """Send what waits; what a manager that is busy does not take is sent when it does."""
        while self._output_pending_bytes:
            text, sock = self._output_pending_bytes[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock.fileno()]))] if sock else []
            try:
                manager.sendmsg([text], rights)
            except BlockingIOError:
                if not self._waiting:
                    self._waiting = True
                    self._loop.add_writer(manager.fileno(), partial(self._send, manager))
                return
            except OSError as error:  # it has gone; a new one has another socket
                logger.warning("cannot notify the service manager", extra={"event": {"error": str(error)}})
            self._output_pending_bytes.popleft()
        if self._waiting:
            self._waiting = False
            self._loop.remove_reader(manager.fileno())


def _send_with(manager: socket.socket, text: str, descriptors: Sequence[int]) -> None:
    manager.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])


__all__ = ["MICROSECONDS", "UNKNOWN", "Notifier", "connect"]
