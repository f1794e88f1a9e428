# SPDX-License-Identifier: MIT
"""Outgoing connections of the loop: the race of sockd.client.connect, driven without blocking.

It connects to addresses, never to names: whoever has looked a name up and judged what
came of it hands exactly that over.
"""

from __future__ import annotations

import errno
import selectors
import socket
from typing import TYPE_CHECKING

from sockd.net.connect.happy_eyeballs import HappyEyeballs, met_itself, new_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.errors import SockdError
    from sockd.net.address.sockaddr import Endpoint
    from sockd.net.loop.loop import EventLoop, Timer

    Connected = Callable[[socket.socket | None, list[int]], None]


class Dialer:
    """One attempt to connect to the first of several addresses that answers (RFC 8305).

    Args:
        loop: watches.
        endpoints: at least one; all of them may be tried.
        timeout: seconds for all together.
        source: our own address in numbers; None for the system's choice.
        done: is called once in the loop, never before the constructor has returned: with the connected
            socket, which is non-blocking and has TCP_NODELAY on, or with None and the errnos of the attempts.

    Attributes:
        winner: the address that answered.
    """

    def __init__(
        self, loop: EventLoop, endpoints: Sequence[Endpoint], *, timeout: float, source: str | None, done: Connected
    ) -> None:
        self._loop = loop
        self._source = source
        self._done: Connected | None = done
        now = loop.clock()
        self._race = HappyEyeballs(endpoints, now=now, deadline=now + timeout, timeout=timeout)
        self._open: dict[int, tuple[socket.socket, Endpoint]] = {}
        self._codes: list[int] = []
        self.winner: Endpoint | None = None
        self._timer: Timer | None = None
        loop.call_soon(self._advance)

    def _advance(self) -> None:
        """Start what is due, and come back when something else is."""
        if self._timer is not None:
            self._timer.cancel()
        while self._done is not None and (endpoint := self._race.start(self._loop.clock())) is not None:
            self._start(endpoint)
        if self._done is None:
            return
        now = self._loop.clock()
        if self._race.is_lost(now):
            silent = [errno.ETIMEDOUT] if self._open or not self._codes else []
            self._end(None, self._codes + silent)
        else:
            self._timer = self._loop.call_later(self._race.pause(now), self._advance)

    def _start(self, endpoint: Endpoint) -> None:
        try:
            sock = new_socket(endpoint, self._source)
        except OSError as error:
            self._failed(endpoint, error.errno or errno.EIO)
            return
        code = sock.connect_ex(endpoint.sockaddr)
        if code == errno.EINPROGRESS and _is_connected(sock):  # at once, on this host
            code = 0
        if code == errno.EINPROGRESS:
            self._wait_for(sock, endpoint)
        else:
            self._finish_attempt(sock, endpoint, code)

    def _wait_for(self, sock: socket.socket, endpoint: Endpoint) -> None:
        fd = sock.fileno()
        try:
            self._loop.watch_fd(fd, selectors.EVENT_WRITE, lambda: self._ready(fd))
        except OSError as error:  # epoll_ctl(2): ENOMEM, ENOSPC
            self._finish_attempt(sock, endpoint, error.errno or errno.EIO)
            return
        self._open[fd] = sock, endpoint

    def _ready(self, fd: int) -> None:
        sock, endpoint = self._open.pop(fd)
        self._loop.watch_fd(fd, 0, self._advance)
        self._finish_attempt(sock, endpoint, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        self._advance()

    def _finish_attempt(self, sock: socket.socket, endpoint: Endpoint, code: int) -> None:
        if code == 0 and met_itself(sock, endpoint):
            code = errno.ECONNREFUSED
        if code == 0:
            self.winner = endpoint
            self._end(sock, [])
            return
        sock.close()
        if code == errno.EAGAIN and endpoint.family == socket.AF_UNIX:
            self._race.busy(endpoint, self._loop.clock())
        else:
            self._failed(endpoint, code)

    def _failed(self, endpoint: Endpoint, code: int) -> None:
        self._codes.append(code)
        self._race.failed(endpoint, code, self._loop.clock())

    def _end(self, sock: socket.socket | None, codes: list[int]) -> None:
        done = self._done
        self.cancel()
        if done is not None:
            done(sock, codes)

    def fault(self, subject: str) -> SockdError:
        """Say why it has failed: each address with its reason."""
        return self._race.fault(subject)

    def cancel(self) -> None:
        """Give up; done is not called any more."""
        self._done = None
        if self._timer is not None:
            self._timer.cancel()
        for fd, (sock, _) in self._open.items():
            self._loop.watch_fd(fd, 0, self._advance)
            sock.close()
        self._open.clear()


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


__all__ = ["Dialer"]
