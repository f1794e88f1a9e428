# SPDX-License-Identifier: MIT
"""Replies of many lines: what `sockctl trace` and `sockctl events` follow, until the client goes.

The first line is a reply as every other.  Then each line is a JSON object.  A client that does not read gets no more
than MAX_UNREAD_BYTES; what is left out meanwhile is counted, and the next line says so: {"lost": 7}.  The last line is
{"end": "upgraded"} or {"end": "stopping"}, where it is the daemon that ends it.
"""

from __future__ import annotations

import selectors
from contextlib import suppress
from enum import Enum
from functools import partial
from socket import SO_SNDBUF, SOL_SOCKET
from typing import TYPE_CHECKING

from sockd.lazy import json
from sockd.net.loop.state_table import StateTable
from sockd.wire.control import ControlResponse

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from sockd.net.loop.loop import EventLoop

MAX_STREAMS = 8
"""At once: half of the connections of a control socket, so that others can still ask."""
MAX_UNREAD_BYTES = 256 * 1024
"""Of a client that does not read, beside what the kernel holds."""
KEPT_AT_END_BYTES = 64 * 1024
"""Of these, at the end: less than the kernel holds in addition, where its buffer is doubled."""
MAX_LAST_SENDS = 4


class StreamState(Enum):
    """What a stream does."""

    NEW = "what comes is not sent yet"
    OPEN = "what comes is sent"
    OVER = "nobody follows any more"


STREAM = StateTable(
    {
        StreamState.NEW: (StreamState.OPEN, StreamState.OVER),
        StreamState.OPEN: (StreamState.OVER,),
        StreamState.OVER: (),
    }
)


class Stream:
    """One reply of many lines; open() sends the first.

    Args:
        ended: called once, when nobody follows any more.

    Attributes:
        lost: lines since the last one that was sent.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self._pending = bytearray()
        self._state = StreamState.NEW
        self._is_sending = False  # the event of a stall comes in the handler of a signal
        self._ended = ended
        self._socket: socket.socket | None = None
        self._loop: EventLoop | None = None
        self._gone: Callable[[], None] = lambda: None
        self.lost = 0

    @property
    def is_over(self) -> bool:
        """Whether nobody follows any more."""
        return self._state is StreamState.OVER

    def attach(self, sock: socket.socket, loop: EventLoop, gone: Callable[[], None]) -> None:
        """Send to a client from now on.

        Args:
            sock: non-blocking; stays the caller's.
            gone: called when the client has closed, or everything has been sent after end().
        """
        self._socket, self._loop, self._gone = sock, loop, gone
        self._watch()

    def open(self, first: object) -> None:
        """Send the first line, with this result; those of before are not sent."""
        if self._state is StreamState.NEW:
            self._state = STREAM.step(self._state, StreamState.OPEN)
            self._pending += ControlResponse(first).encode()
            self._watch()

    def send(self, line: Mapping[str, object]) -> None:
        """Send a line, or count it as lost if the client does not read."""
        if self._state is not StreamState.OPEN:
            return
        data = json.dumps(line).encode("ascii") + b"\n"
        is_full = len(self._pending) + len(data) > MAX_UNREAD_BYTES
        if is_full and self._socket is not None and not self._is_sending:
            self._send(self._socket)  # many lines of one turn are no slow client
        if len(self._pending) + len(data) > MAX_UNREAD_BYTES:
            self.lost += 1
            return
        if self.lost:
            self._pending += json.dumps({"lost": self.lost}).encode("ascii") + b"\n"
            self.lost = 0
        self._pending += data
        self._watch()

    def end(self, why: str) -> None:
        """Send the last line, which a client gets also when it has not read for long: the daemon ends it."""
        if self._socket is not None and self._socket.fileno() >= 0 and self._send(self._socket):
            self._drop_unread()
            self.send({"end": why})
            self._send_beyond(self._socket)
        self.close()

    def _drop_unread(self) -> None:
        """Keep some of what the client has not read, up to the end of a line, and count the others as lost."""
        end = self._pending.find(b"\n", KEPT_AT_END_BYTES) + 1
        if end:
            self.lost += self._pending.count(b"\n", end)
            del self._pending[end:]

    def _send_beyond(self, sock: socket.socket) -> None:
        """Have the kernel hold all that is pending, for there is no time to wait (unix(7): SO_SNDBUF limits it)."""
        with suppress(OSError):
            sock.setsockopt(SOL_SOCKET, SO_SNDBUF, sock.getsockopt(SOL_SOCKET, SO_SNDBUF))  # the kernel doubles it
        for _ in range(MAX_LAST_SENDS):
            if not self._pending or not self._send(sock):
                return

    def close(self) -> None:
        """Send no more; again does nothing."""
        if not self.is_over:
            self._state = STREAM.step(self._state, StreamState.OVER)
            self._ended()

    def _watch(self) -> None:
        if self._loop is not None and self._socket is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._pending else 0)
            ready = self._loop.guarded(partial(self._ready, self._socket), self._gone)
            self._loop.watch_fd(self._socket.fileno(), events, ready, urgent=True)

    def _ready(self, sock: socket.socket) -> None:
        if self._has_gone(sock) or not self._send(sock):
            self._gone()
        else:
            self._watch()

    def _has_gone(self, sock: socket.socket) -> bool:
        try:
            return not sock.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _send(self, sock: socket.socket) -> bool:
        """Send what the client reads; False where it has gone."""
        self._is_sending = True
        try:
            del self._pending[: sock.send(self._pending)]
        except BlockingIOError:
            pass
        except OSError:
            return False
        finally:
            self._is_sending = False
        return True


__all__ = ["MAX_STREAMS", "Stream"]
