"""Accepts: a listening socket whose connections go into one group of the set.

Accepting stops when the set is full (the kernel keeps what completes in the
backlog) and when the system is short of descriptors or memory; it goes on as
soon as a connection has ended, or after a pause.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sockd.net.connection_set import ConnectionSet
    from sockd.net.loop import EventLoop
    from sockd.net.sockets import Listening

logger = logging.getLogger("sockd.listener")

ACCEPTS_A_TURN = 128
"""So that one listener's rush does not hold up the connections that are there."""
SHORTAGE_PAUSE_SECONDS = 0.5
"""nginx accept_mutex_delay; EMFILE and kin pass when others close, not by asking again."""


class Listener:
    """One listening socket.

    Args:
        listening: bound, non-blocking; closed by close().
        group: of the set, for what is accepted.
        service: its name, for the log.
    """

    def __init__(
        self, listening: Listening, connections: ConnectionSet, group: int, loop: EventLoop, service: str
    ) -> None:
        self._listening = listening
        self._fd = listening.socket.fileno()
        self._set = connections
        self._group = group
        self._loop = loop
        self.service = service

    def __str__(self) -> str:
        return str(self._listening)

    def start(self) -> None:
        """Accept from now on."""
        self._loop.add_reader(self._fd, self._accept)

    def _accept(self) -> None:
        _, stopped = self._set.accept(self._fd, self._group, ACCEPTS_A_TURN)
        if not stopped:
            return
        self._loop.remove_reader(self._fd)
        event = {"address": str(self), "service": self.service}
        if stopped < 0:
            logger.warning("max_connections reached, the next ones wait in the backlog", extra={"event": event})
            self._set.when_room(self._go_on)
        else:
            event["error"] = os.strerror(stopped)
            logger.error("accept paused", extra={"event": event})
            self._loop.call_later(SHORTAGE_PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.add_reader(self._fd, self._accept)

    def close(self) -> None:
        """Remove its Unix path, accept what has completed already, and listen no more."""
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        if self._listening.path is not None:
            self._listening.path.unlink_if_ours()
        stopped = 0
        came = ACCEPTS_A_TURN
        while came == ACCEPTS_A_TURN and not stopped:
            came, stopped = self._set.accept(self._fd, self._group, ACCEPTS_A_TURN)
        self._fd = -1
        self._listening.close()
