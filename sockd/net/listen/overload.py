# SPDX-License-Identifier: MIT
"""How many connections may be open at once, and what those are told that are not let in."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockd.net.connection.events import ConnectionEvents
from sockd.net.connection.info import log_end
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connection.group import GroupOptions
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.listen.listener import Listener

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.8
"""A shortage is over when others close, not by asking again; service is back within a second."""


class Accepting:
    """Which listener accepts from a socket now; shared by all that have done so, none of which keeps another.

    Attributes:
        listener: None until the first has started.
    """

    def __init__(self) -> None:
        self.listener: Listener | None = None


@dataclass
class Quota:
    """Connections open at once, and how many may be; shared by the listeners of a service."""

    most: int | None
    count: int = 0

    @property
    def room(self) -> int:
        """How many more may come."""
        return 2**31 - 1 if self.most is None else self.most - self.count


class RejectedConnections(ConnectionEvents):
    """Connections that were not let in, while they are told so; what they say is discarded.

    Args:
        limits: of the group that they go into.
        most: how many may be told at once, so that they leave room for those that are let in.
    """

    def __init__(self, connections: ConnectionTable, limits: GroupOptions, most: int) -> None:
        self._set = connections
        self._quota = Quota(most)
        self._group = connections.add_group(limits, self)

    def take(self, sock: socket.socket, peer: SocketAddress, banner: bytes) -> None:
        """Say the banner, then close in order; past `most` of them, at once."""
        id = self._set.add(sock, self._group, peer) if self._quota.room > 0 else None
        if id is None:
            sock.close()
            return
        self._quota.count += 1
        self._set.write(id, banner)
        self._set.shut(id, CloseReason.REFUSED)

    def closed(self, id: int, reason: CloseReason) -> None:
        """Log the end."""
        self._quota.count -= 1
        log_end("", self._set, id, reason)


KIND = socket.SOCK_DGRAM | getattr(socket, "SOCK_NONBLOCK", 0)


class SpareDescriptor:
    """One spare descriptor of the process, shared by all listeners."""

    def __init__(self) -> None:
        self._fd = -1
        self._fill()

    def _fill(self) -> None:
        if self._fd < 0:
            try:
                self._fd = socket.socket(socket.AF_UNIX, KIND).detach()  # needs no path, so it works after chroot(2)
            except OSError:
                self._fd = -1  # somebody was quicker; the next shed() tries again

    def shed(self, accept: Callable[[], tuple[socket.socket, object]]) -> bool:
        """Accept one connection with the spare descriptor, and close it at once.

        Returns:
            Whether there was one.
        """
        self.close()
        try:
            accept()[0].close()
        except OSError:
            return False
        finally:
            self._fill()
        return True

    def close(self) -> None:
        """Give it back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # closed all the same (close(2))
                os.close(fd)


__all__ = ["FIRST_PAUSE_SECONDS", "KIND", "LONGEST_PAUSE_SECONDS", "Quota", "RejectedConnections", "SpareDescriptor"]
