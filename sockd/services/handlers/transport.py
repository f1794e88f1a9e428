# SPDX-License-Identifier: MIT
"""The transport of a handler: a Connection that reports its end as soon as there is one.

asyncio's transports call connection_lost() when the output is sent, and answer get_extra_info() as long as they are
referenced.  The row of the table lives on for a while then (SB_EVENT_LINGERING): it waits for the peer's FIN, so that
no RST destroys what the peer has not read (FAQ II.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sockd.net.connection.connection import Connection
from sockd.net.connection.extra_info import extra_info
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connection.events import FrameProtocol
    from sockd.wire.framing import Frame


class Transport(Connection):
    """A Connection as handlers have it.

    Attributes:
        kept: names of get_extra_info() that are answered after the end, besides "peername"; each costs every end.
    """

    __slots__ = ("_kept", "_kept_peer", "handler", "service")

    kept: ClassVar[tuple[str, ...]] = ()
    _kept: dict[str, object]
    _kept_peer: SocketAddress

    # ---- answers that come later

    @property
    def receiver(self) -> FrameProtocol | None:
        """The receiver of its frames; None once it has closed."""
        return self._receiver

    def reply_with(self, reply: object, ending: bytes | None) -> None:
        """Write a reply, to a frame whose reply_ending was this."""
        if ending is self.reply_ending:
            self.reply(reply)
            return
        self.reply_ending, before = ending, self.reply_ending
        try:
            self.reply(reply)
        finally:
            self.reply_ending = before

    def fail(self, error: BaseException, frame: Frame) -> None:
        """End the connection: its handler has raised this for a frame."""
        self._failed(error, self._codec.payload_size(frame))

    def hand(self, frame: bytes) -> None:
        """Hand a frame to its receiver that was not cut by the core."""
        if self._receiver is not None and not self.is_closing():
            self._guard(self._receiver.frame, frame)

    def deliver_eof(self) -> None:
        """Tell of the end of file, where what came of a last frame was handed out."""
        if self._receiver is not None and not self.is_closing() and not self._guard(self._receiver.eof_received):
            self._close(CloseReason.EOF)

    @property
    def eof_reason(self) -> CloseReason:
        """Why it ends where the peer's end of file ends it."""
        return CloseReason.TRUNCATED if self._table.info(self.id).input_pending_bytes else CloseReason.EOF

    # ---- the end

    def lost(self, reason: CloseReason, error: int) -> None:
        """Report the end, once; what may still be queried is kept."""
        if self._receiver is not None:
            self._kept_peer = peer = self._table.peers.find(self.id)
            self._kept = {"peername": peer.sockaddr}
            for name in self.kept:
                if (value := extra_info(self, self._table, name)) is not None:
                    self._kept[name] = value
            super().lost(reason, error)
            self._protocol = None

    # ---- queries, also after the end

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Answer as Connection does; after the end, what asyncio's transports still answer."""
        if self._ended and hasattr(self, "_kept"):
            return self._kept.get(name, default)
        return super().get_extra_info(name, default)

    @property
    def peer(self) -> str:
        """The peer's address as text (FAQ IV.9), also after the end."""
        if self._ended and hasattr(self, "_kept"):
            return str(self._kept_peer)
        return super().peer


__all__ = ["Transport"]
