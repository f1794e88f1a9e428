# SPDX-License-Identifier: MIT
"""Hang-ups of sockets that nobody reads meanwhile, as events of the loop, whichever multiplexer it has.

A socket with input is readable all the time, so a loop that wants none of it cannot watch it.  epoll reports a hang-up
and an error of a descriptor also if nothing else is asked for (EPOLLHUP and EPOLLERR, epoll_ctl(2)), and an epoll
descriptor is itself readable when it has something to report.  So there is one of these for a loop.
"""

from __future__ import annotations

import select
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop.loop import EventLoop


class HangUps:
    """Watches sockets for a hang-up or an error, and nothing else.

    Args:
        loop: in which callbacks are called.

    Raises:
        OSError: EMFILE, ENFILE, ENOMEM of epoll_create1(2), or the loop cannot watch it.
    """

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        try:
            loop.add_reader(self._epoll.fileno(), self._report)
        except OSError:
            self._epoll.close()
            raise
        loop.keepers.add(self)

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back once, when the peer of a socket has hung up or reset it.

        Raises:
            OSError: ENOMEM, ENOSPC of epoll_ctl(2).
        """
        self._epoll.register(fd, select.EPOLLONESHOT)
        self._callbacks[fd] = callback

    def cancel(self, fd: int) -> None:
        """Do not call back; harmless when that was done.  The descriptor is still open."""
        if self._callbacks.pop(fd, None) is not None:
            with suppress(OSError):
                self._epoll.unregister(fd)

    def _report(self) -> None:
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            self.cancel(fd)
            if callback is not None:
                self._loop.attempt(callback)

    def leave(self) -> None:
        """Close it in a forked process; the parent's goes on."""
        self._epoll.close()

    def close(self) -> None:
        """Watch nothing any more."""
        self._callbacks.clear()
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()


__all__ = ["HangUps"]
