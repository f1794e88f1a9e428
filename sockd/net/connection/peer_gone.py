# SPDX-License-Identifier: MIT
"""Whether a peer is gone, asked before anything costly is begun for it, and now and then while it waits.

An end of file is no going: a client that has sent all it has to say may half-close, and waits for the answer
(shutdown(2)).  Gone is who has reset the connection, or closed both sides of a Unix socket: poll(2) then
reports POLLERR or POLLHUP, which nobody need ask for.  Of a TCP client that has closed, all that is seen
until we send something is the end of file.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.loop.loop import EventLoop

LOOK_SECONDS = 1.0
"""Between two looks; what has been begun for a client that is gone goes on for so long at most."""


def is_gone(sock: socket.socket) -> bool:
    """Tell whether the peer of a connected socket is gone; a socket that is closed has none."""
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


class PeerWatch:
    """Looks now and then whether a peer is gone, of whom nothing is read meanwhile.

    Readiness would not tell: what waits to be read, an end of file too, is ready all the time.

    Args:
        loop: looks.
        sock: connected.
        gone: is called once, when the peer is; not after cancel().
    """

    def __init__(self, loop: EventLoop, sock: socket.socket, gone: Callable[[], None]) -> None:
        self._loop = loop
        self._socket = sock
        self._gone = gone
        self._timer = loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        if is_gone(self._socket):
            self._timer.cancel()
            self._gone()

    def cancel(self) -> None:
        """Look no more."""
        self._timer.cancel()


__all__ = ["PeerWatch", "is_gone"]
