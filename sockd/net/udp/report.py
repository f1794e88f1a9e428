# SPDX-License-Identifier: MIT
"""Log lines about datagrams: a lasting condition, a failing handler included, is logged once per interval.

Anyone can send datagrams, and a line with its traceback is a hundred times as long.  The text of a sender is made only
for a line that is written.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

from sockd.log.failure import error_info, user_line
from sockd.log.rate_limit import LogLimit
from sockd.net.address.sockaddr import format_sockaddr
from sockd.net.loop.defects import error_location

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sockd.net.address.sockaddr import SockAddr
    from sockd.net.listen.bind import ServerSocket

logger = logging.getLogger("sockd.datagram")

NO_FIELDS: Mapping[str, object] = {}
NO_PEER = "no peer"


class DatagramLog:
    """The log lines of one listener.

    Args:
        listening: its socket.
        service: its name.
        clock: seconds, never going back.
    """

    def __init__(self, listening: ServerSocket, service: str, clock: Callable[[], float]) -> None:
        self._listening = listening
        self._family = listening.socket.family
        self._service = service
        self._limit = LogLimit(clock)

    def report_datagram(
        self,
        level: int,
        message: str,
        event: Mapping[str, object] = NO_FIELDS,
        error: BaseException | None = None,
        *,
        peer: SockAddr | bytes | None = NO_PEER,
    ) -> None:
        """Write a line, unless there was one of its kind lately.

        Args:
            event: its fields.
            error: what a handler has raised.
            peer: whom it is about, None: a sender without a name; if it is about any.
        """
        held_back = self._limit.admit((level, message, None if error is None else (type(error), error_location(error))))
        if held_back is None:
            return
        about: dict[str, object] = {"service": self._service, "address": str(self._listening)}
        about |= {} if peer is NO_PEER else {"peer": format_sockaddr(self._family, socket.SOCK_DGRAM, peer)}
        about |= event
        about |= {"held_back": held_back} if held_back else {}
        about |= {"at": user_line(error)} if error is not None else {}
        logger.log(level, message, exc_info=error and error_info(error), extra={"event": about})


__all__ = ["DatagramLog"]
