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
    """Watches sockets for a hang-up or an error, and nothing else; it has a descriptor while it watches any.

    Args:
        loop: in which callbacks are called.
    """

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._epoll: select.epoll | None = None
        loop.keepers.add(self)

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back once, when the peer of a socket has hung up or reset it.

        Raises:
            OSError: EMFILE, ENFILE, ENOMEM, ENOSPC of epoll_create1(2) and epoll_ctl(2), or the loop cannot watch it.
        """
        epoll = self._epoll or self._open()
        try:
            epoll.register(fd, select.EPOLLONESHOT)
            self._callbacks[fd] = callback
        finally:
            self._close_unused()

    def _open(self) -> select.epoll:
        epoll = select.epoll()
        try:
            self._loop.add_reader(epoll.fileno(), self._report)
        except OSError:
            epoll.close()
            raise
        self._epoll = epoll
        return epoll

    def _close_unused(self) -> None:
        if self._epoll is not None and not self._callbacks:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def cancel(self, fd: int) -> None:
        """Do not call back; harmless when that was done.  The descriptor is still open."""
        if self._epoll is not None and self._callbacks.pop(fd, None) is not None:
            with suppress(OSError):
                self._epoll.unregister(fd)
            self._close_unused()

    def _report(self) -> None:
        for fd, _ in self._epoll.poll(0) if self._epoll is not None else ():
            callback = self._callbacks.get(fd)
            self.cancel(fd)
            if callback is not None:
                self._loop.attempt(callback)

    def leave(self) -> None:
        """Close it in a forked process; the parent's goes on."""
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    def close(self) -> None:
        """Watch nothing any more."""
        self._callbacks.clear()
        self._close_unused()


__all__ = ["HangUps"]
