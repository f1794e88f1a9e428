# SPDX-License-Identifier: MIT
"""Whether a peer is gone, asked before anything costly is begun for it, and reported while it waits.

An end of file is no going: a client that has sent all it has to say may half-close, and waits for the answer
(shutdown(2)).  Gone is who has reset the connection, or closed both sides of a Unix socket: poll(2) then
reports POLLERR or POLLHUP, which nobody need ask for.  Of a TCP client that has closed, all that is seen
until we send something is the end of file.
"""

from __future__ import annotations

import select
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.net.loop.hang_ups import HangUps

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.loop.loop import EventLoop


def is_gone(sock: socket.socket) -> bool:
    """Tell whether the peer of a connected socket is gone; a socket that is closed has none."""
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


class PeerWatch:
    """Notices that a peer is gone, of whom nothing is read meanwhile.

    One that cannot be watched, for want of memory or descriptors, is looked at when the next thing is begun for it.

    Args:
        loop: calls back.
        sock: connected.
        gone: is called once, when the peer is; not after cancel().
    """

    def __init__(self, loop: EventLoop, sock: socket.socket, gone: Callable[[], None]) -> None:
        self._fd = sock.fileno()
        self._hang_ups: HangUps | None = None
        with suppress(OSError):
            hang_ups = loop.instance(HangUps)
            hang_ups.watch(self._fd, gone)
            self._hang_ups = hang_ups

    def cancel(self) -> None:
        """Watch no more; harmless when the peer was gone.  The socket is still open."""
        if self._hang_ups is not None:
            self._hang_ups.cancel(self._fd)
            self._hang_ups = None


__all__ = ["PeerWatch", "is_gone"]
