# SPDX-License-Identifier: MIT
"""Connects what is not a socket: a pipe, a terminal or a file becomes one end of a socket pair.

Rows of the C table are sockets: they are shut down in one direction, wait in epoll (which rejects files) and have one
descriptor for both directions.  So the service gets a socket like every other, with its framing, deadlines and
graceful close, and a thread copies bytes between its other end and the two descriptors, with the client's pump, which
leaves their O_NONBLOCK unchanged (FAQ II.18).
"""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING

from sockd.client.pumps import StdioPump
from sockd.errors import SockdError
from sockd.net.address.address import Address

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("sockd.inetd")


class BridgePump(StdioPump):
    """Copies, and reports its progress to whoever asks."""

    progressed: Callable[[], None] | None = None
    """Called in the thread whenever bytes have moved."""

    def turn_ended(self, *, idle: bool) -> None:
        """Report, and do as the client does."""
        if not idle and self.progressed is not None:
            self.progressed()
        super().turn_ended(idle=idle)


class Bridge:
    """Copies bytes until both directions have ended.

    Args:
        source: descriptor to read.
        sink: descriptor to write.
        timeout: seconds for the service to read the rest after its own end of file.
        ended: called once, in the thread, when all is copied.

    Attributes:
        socket: the service's end; the caller closes it.
    """

    def __init__(self, source: int, sink: int, *, timeout: float, ended: Callable[[], None]) -> None:
        self.socket, self._far = socket.socketpair()
        self.socket.setblocking(False)
        self._far.setblocking(False)
        about = Address("unix", path="standard input and output")  # for messages alone
        self._pump = BridgePump(self._far, about, timeout=timeout, source=source, sink=sink)
        self._ended = ended
        self._thread = threading.Thread(target=self._run, name="bridge", daemon=True)

    def start(self) -> None:
        """Start copying."""
        self._thread.start()

    def report_progress(self, progressed: Callable[[], None]) -> None:
        """Call back in the thread whenever bytes have moved from now on."""
        self._pump.progressed = progressed

    def _run(self) -> None:
        try:
            with self._far:
                self._pump.run()
        except SockdError as error:
            logger.info("input or output failed", extra={"event": {"error": str(error)}})
        except Exception:
            logger.critical("internal error", exc_info=True)
        self._ended()
