"""Moves bytes between two connected sockets, both ways, until both have ended.

Each way holds at most what one receive takes; while the receiver takes none of it, its sender is not read, so
TCP holds the sender up.  An end of file is passed on as one, behind the last byte; a reset as a reset.
"""

from __future__ import annotations

import selectors
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop import EventLoop, Timer

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
CHUNK_BYTES = 65_536
RECEIVES_A_TURN = 8
"""So that one pair does not hold up the others."""
RESET = struct.pack("ii", 1, 0)
"""struct linger, on and 0 seconds: close() sends RST (socket(7), FAQ IV.6)."""


class _Way:
    """One direction."""

    __slots__ = ("ended", "moved", "rest", "sink", "source")

    def __init__(self, source: socket.socket, sink: socket.socket, rest: bytes) -> None:
        self.source = source
        self.sink = sink
        self.rest = memoryview(rest)
        self.moved = 0
        self.ended = False  # the source's end of file has come

    @property
    def is_over(self) -> bool:
        return self.ended and not self.rest

    def move(self) -> bool:
        """Move what can be; tell whether anything was.  OSError: either socket's end."""
        began = self.moved
        for _ in range(RECEIVES_A_TURN):
            if not self._send() or self.ended:
                break
            try:
                data = self.source.recv(CHUNK_BYTES)
            except BlockingIOError:
                break
            self.rest = memoryview(data)
            if not data:
                self.ended = True
                self.sink.shutdown(socket.SHUT_WR)
                return True
        return self.moved != began

    def _send(self) -> bool:
        while self.rest:
            try:
                sent = self.sink.send(self.rest)
            except BlockingIOError:
                return False
            self.moved += sent
            self.rest = self.rest[sent:]
        return True


class Pump:
    """Carries the bytes of a pair, and closes both sockets at the end.

    Args:
        loop: watches.
        one, other: connected stream sockets, non-blocking; the pump's from now on.
        leftovers: what was received of one and of the other before, and goes first, to the other and to one.
        half_close_timeout: seconds; once one way has ended, how long the other may move nothing.
        on_end: is called once in the loop, with why: "eof", "reset", "half-close-timeout" or "shutdown".

    Attributes:
        moved: bytes that reached the other, and that reached the one.
    """

    def __init__(
        self,
        loop: EventLoop,
        one: socket.socket,
        other: socket.socket,
        *,
        leftovers: tuple[bytes, bytes] = (b"", b""),
        half_close_timeout: float,
        on_end: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._sockets = (one, other)
        self._ways = (_Way(one, other, leftovers[0]), _Way(other, one, leftovers[1]))
        self._events = [0, 0]
        self._half_close_timeout = half_close_timeout
        self._moved_at = loop.clock()
        self._timer: Timer | None = None
        self._on_end: Callable[[str], None] | None = on_end
        loop.call_soon(self._ready)

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes so far, each way."""
        return self._ways[0].moved, self._ways[1].moved

    def _ready(self) -> None:
        if self._on_end is None:
            return
        moved = [False, False]
        try:
            for index, way in enumerate(self._ways):
                if not way.is_over:
                    moved[index] = way.move()
        except OSError:
            self._end("reset", reset=True)
            return
        if any(moved):
            self._moved_at = self._loop.clock()
        if all(way.is_over for way in self._ways):
            self._end("eof")
            return
        if self._timer is None and any(way.is_over for way in self._ways):
            self._look()
        self._watch()

    def _watch(self) -> None:
        for index, sock in enumerate(self._sockets):
            going, coming = self._ways[index], self._ways[1 - index]
            events = (READ if not going.ended and not going.rest else 0) | (WRITE if coming.rest else 0)
            if events != self._events[index]:
                self._events[index] = events
                self._loop.watch_fd(sock.fileno(), events, self._ready)

    def _look(self) -> None:
        """Hold the way that goes on against its deadline."""
        left = self._moved_at + self._half_close_timeout - self._loop.clock()
        if left <= 0:
            self._end("half-close-timeout", reset=True)
        else:
            self._timer = self._loop.call_later(left, self._look)

    def abort(self) -> None:
        """End both at once, with a reset."""
        self._end("shutdown", reset=True)

    def _end(self, why: str, *, reset: bool = False) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._sockets:
            self._loop.watch_fd(sock.fileno(), 0, self._ready)
            if reset and sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()
        on_end(why)


__all__ = ["Pump"]
