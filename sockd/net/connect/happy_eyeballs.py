# SPDX-License-Identifier: MIT
"""Connecting to the first of several addresses that answers.  Source: RFC 8305."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections import deque
from typing import TYPE_CHECKING

from sockd.errors import PermissionFault, SockdError, TemporaryFault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockd.net.address.sockaddr import Endpoint


HEAD_START_S = 0.25  # RFC 8305, section 5: Connection Attempt Delay


BUSY_RETRY_S = 0.02  # a full Unix backlog gives EAGAIN and no readiness to wait for (unix(7))


IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; for both families


NOT_ALLOWED = (errno.EACCES, errno.EPERM)


class HappyEyeballs:
    """Which address is to be tried when, and what became of each (RFC 8305)."""

    def __init__(self, endpoints: Iterable[Endpoint], *, now: float, deadline: float, timeout: float) -> None:
        """Set it up.

        Args:
            endpoints: at least one, in the resolver's order; the families are interleaved.
            now, deadline: seconds of one monotonic clock.
            timeout: seconds, as the user gave them; only printed.
        """
        self._waiting = deque(interleaved(endpoints))
        self._running: list[Endpoint] = []
        self._failed: dict[Endpoint, int] = {}
        self._next_at = now
        self._deadline = deadline
        self._timeout = timeout

    def start(self, now: float) -> Endpoint | None:
        """Give the address whose turn has come, or None; the next one's comes a head start later."""
        if not self._waiting or now < self._next_at:
            return None
        endpoint = self._waiting.popleft()
        self._running.append(endpoint)
        self._next_at = now + HEAD_START_S
        return endpoint

    def failed(self, endpoint: Endpoint, code: int, now: float) -> None:
        """Note an errno; the next address need not wait any longer (RFC 8305, section 5)."""
        self._running.remove(endpoint)
        self._failed[endpoint] = code
        self._next_at = now

    def busy(self, endpoint: Endpoint, now: float) -> None:
        """Put an address back that could not even be asked (EAGAIN), for a little later."""
        self._running.remove(endpoint)
        self._waiting.appendleft(endpoint)
        self._next_at = now + BUSY_RETRY_S

    def is_lost(self, now: float) -> bool:
        """Tell whether nothing can come of it any more."""
        return now >= self._deadline or not (self._waiting or self._running)

    def pause(self, now: float) -> float:
        """Tell how many seconds may pass before `start` or `is_lost` has news."""
        if self.is_lost(now):
            return 0.0
        until = min(self._next_at, self._deadline) if self._waiting else self._deadline
        return until - now if until > now else 0.0

    def fault(self, subject: str) -> SockdError:
        """Say why it is lost: each address with its reason, in the order they were tried.

        Args:
            subject: the address as the user wrote it.

        Returns:
            PermissionFault if the system forbade every one, else TemporaryFault.
        """
        codes = set(self._failed.values())
        silent = bool(self._running or self._waiting)
        reasons = [f"{_bare(endpoint)}: {os.strerror(code)}" for endpoint, code in self._failed.items()]
        reasons += [f"{_bare(endpoint)}: no answer" for endpoint in self._running]
        reasons += [f"{_bare(endpoint)}: not reached in time" for endpoint in self._waiting]
        if silent:
            headline = f"timed out after {self._timeout:g} s"
        else:
            headline = "connection refused" if codes == {errno.ECONNREFUSED} else "cannot connect"
        kind = PermissionFault if not silent and codes <= set(NOT_ALLOWED) else TemporaryFault
        return kind(f"{headline}: {subject} (tried {'; '.join(reasons)})")


def interleaved(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Alternate between the families, beginning with the first one's (RFC 8305, section 4)."""
    every = list(endpoints)
    if len(every) == 1:
        return every
    families: dict[int, deque[Endpoint]] = {}
    for endpoint in every:
        families.setdefault(endpoint.family, deque()).append(endpoint)
    ordered: list[Endpoint] = []
    while any(families.values()):
        ordered += [members.popleft() for members in families.values() if members]
    return ordered


def new_socket(endpoint: Endpoint, source: str | None = None) -> socket.socket:
    """Make the socket of one attempt, non-blocking.

    Args:
        source: our own address in numbers, of the endpoint's family.

    Raises:
        OSError: there are no descriptors left, or the source is none of this host's.
    """
    sock = socket.socket(endpoint.family, endpoint.type, endpoint.proto)
    try:
        sock.setblocking(False)
        if endpoint.family == socket.AF_UNIX and endpoint.type == socket.SOCK_DGRAM:
            sock.bind("")  # autobind, unix(7): an abstract name of its own
        if endpoint.proto == socket.IPPROTO_TCP:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        if source is not None:
            if sys.platform == "linux":
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, True)
            sock.bind((source, 0))
    except BaseException:
        sock.close()
        raise
    return sock


def met_itself(sock: socket.socket, endpoint: Endpoint) -> bool:
    """Tell a TCP socket that connected to its own ephemeral port: simultaneous open, RFC 9293, 3.5."""
    if endpoint.family == socket.AF_UNIX or endpoint.type != socket.SOCK_STREAM:
        return False
    try:
        own = sock.getsockname()
        return own[1] == endpoint.sockaddr[1] and bool(own == sock.getpeername())
    except OSError:
        return False


def _bare(endpoint: Endpoint) -> str:
    text = str(endpoint)
    return text.partition("://")[2] or text.partition(":")[2]


__all__ = [
    "BUSY_RETRY_S",
    "HEAD_START_S",
    "IP_BIND_ADDRESS_NO_PORT",
    "NOT_ALLOWED",
    "HappyEyeballs",
    "interleaved",
    "met_itself",
    "new_socket",
]
