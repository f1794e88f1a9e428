# SPDX-License-Identifier: MIT
"""Limits on open connections, and the refusal of those above them."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from sockd.lazy import lazily
from sockd.net.connection.events import ConnectionEvents
from sockd.values import dataclass
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connection.group import GroupOptions
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.listen import refusal
    from sockd.net.listen.pipeline import AcceptedConnection
    from sockd.net.tls import socket_pair
    from sockd.settings.listen import ListenSettings
else:
    socket_pair = lazily("sockd.net.tls.socket_pair", resident=True)
    refusal = lazily("sockd.net.listen.refusal", resident=True)

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.8
"""A shortage ends when other connections close, not by trying again; service resumes within a second."""


@dataclass
class Quota:
    """Open connections, their limit, and the most that there have been; shared by the listeners of a service."""

    limit: int | None
    count: int = 0
    peak: int = 0

    @property
    def room(self) -> int:
        """How many more are allowed."""
        return 2**31 - 1 if self.limit is None else self.limit - self.count

    def add(self, places: int) -> None:
        """Count so many more, or less."""
        self.count += places
        self.peak = max(self.peak, self.count)


class RejectedConnections(ConnectionEvents):
    """Connections refused, by reason, while they are told so; what they say is discarded.

    Args:
        limits: of the group into which they go.
        limit: how many at once, so that they leave room for accepted connections.
    """

    def __init__(self, connections: ConnectionTable, limits: GroupOptions, limit: int) -> None:
        self._table = connections
        self._quota = Quota(limit)
        self._group = connections.groups.add(limits, self)

    def reject(self, sock: socket.socket, peer: SocketAddress, banner: bytes) -> None:
        """Send the banner, then close gracefully; above `limit` of them, at once."""
        id = self._table.add(sock, self._group, peer) if self._quota.room > 0 else None
        if id is None:
            sock.close()
            return
        self._quota.count += 1
        self._table.write(id, banner)
        self._table.shut(id, CloseReason.REFUSED)

    def closed(self, id: int, reason: CloseReason) -> None:
        """Note that there is room for another one; the log has had it as refused."""
        self._quota.count -= 1


class Refusing:
    """How one listener refuses: counted by the reason, and told to the peer as `at_limit` says.

    Args:
        settings: `at_limit` and `banner`.
        rejected: takes those that are told so.
        refusals: counts and logs them.
        farewell: sent before the banner.
    """

    def __init__(
        self,
        settings: ListenSettings,
        rejected: RejectedConnections,
        refusals: refusal.Refusals,
        farewell: bytes = b"",
    ) -> None:
        self._is_reset = settings.at_limit == "reset"
        self._banner = farewell + (settings.banner.encode() + b"\n" if settings.banner else b"")
        self._rejected = rejected
        self._refusals = refusals

    def refuse(self, one: AcceptedConnection) -> None:
        """Refuse a connection for what its `refusal` says."""
        self.count(one, one.refusal or refusal.RefusalReason.ERROR)
        if self._is_reset:
            socket_pair.close_with_reset(one.sock)
        else:
            banner = self._banner if one.secured is None else one.secured.encrypt(self._banner, is_last=True)
            self._rejected.reject(one.sock, one.client, banner)

    def count(self, one: AcceptedConnection, reason: refusal.RefusalReason) -> None:
        """Count a connection that is not served."""
        self._refusals.count(reason, refusal.RefusedClient(peer=str(one.client)))

    def refused_by_source(self, source: str, count: int) -> None:
        """Count connections that the C core has refused: their source had too many."""
        self._refusals.count(refusal.RefusalReason.PER_SOURCE, refusal.RefusedClient(source=source), count)


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
        """Release it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # closed all the same (close(2))
                os.close(fd)


__all__ = [
    "FIRST_PAUSE_SECONDS",
    "KIND",
    "LONGEST_PAUSE_SECONDS",
    "Quota",
    "Refusing",
    "RejectedConnections",
    "SpareDescriptor",
]
