# SPDX-License-Identifier: MIT
"""The pump of a relay's bytes, as an event source of the loop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sockd.net.relay.relay_table import RelayTable
from sockd.net.tls.socket_pair import TlsSocket
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.loop.loop import EventLoop


class RelayPump:
    """Forwards the bytes of a pair, and closes both sockets at the end.

    Args:
        loop: watches.
        one, other: connected stream sockets, non-blocking; owned by the pump from now on.
        leftovers: data received from each before, which is sent first to the other.
        half_close_timeout: seconds; once one direction has ended, how long the other may be idle.
        idle_timeout: seconds that both may be idle before that; 0 for ever.
        on_end: called once in the loop, with the reason: EOF, RESET, UNREACHABLE, IDLE_TIMEOUT, HALF_CLOSE_TIMEOUT,
            LIMIT or SHUTDOWN.

    Attributes:
        error, side: errno of a reset or unreachable side, and which of the two it was; 0 for none.
    """

    def __init__(
        self,
        loop: EventLoop,
        one: socket.socket,
        other: socket.socket,
        *,
        leftovers: tuple[bytes, bytes] = (b"", b""),
        half_close_timeout: float,
        idle_timeout: float = 0,
        on_end: Callable[[CloseReason], None],
    ) -> None:
        self.error = 0
        self.side = 0
        self._on_end: Callable[[CloseReason], None] | None = on_end
        self._moved = (0, 0)
        self._pairs = loop.instance(RelayTable)
        self._secured = [(side, sock) for side, sock in enumerate((one, other)) if isinstance(sock, TlsSocket)]
        self._number = self._pairs.add(self, (one, other), leftovers, (idle_timeout, half_close_timeout))
        for side, near in self._secured:
            near.on_lost = partial(self._lost, side)
        if self._number < 0:
            one.close()
            other.close()
            loop.call_soon(lambda: self.ended(CloseReason.LIMIT, 0, 0, (0, 0)))

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes that were sent to each side."""
        return self._pairs.moved(self._number) if self._on_end is not None and self._number >= 0 else self._moved

    def abort(self) -> None:
        """Close both at once, with a reset."""
        if self._on_end is not None and self._number >= 0:
            self._pairs.abort(self._number, CloseReason.SHUTDOWN)

    def _lost(self, side: int, error: int) -> None:
        """Report the end of an encrypted side as a reset, after its earlier data: its own socket does not tell."""
        if self._on_end is not None and self._number >= 0:
            self._pairs.lost(self._number, side, error)

    def ended(self, reason: CloseReason, error: int, side: int, moved: tuple[int, int]) -> None:
        """Be told by the relay that the sockets are closed."""
        self._moved, self.error, self.side = moved, error, side
        if reason is not CloseReason.EOF:
            for _, near in self._secured:
                near.abort()  # a socket pair has no RST, and half an answer must not look like a whole one
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(reason)


__all__ = ["RelayPump"]
