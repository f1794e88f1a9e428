# SPDX-License-Identifier: MIT
"""What a service is told of its connections by the connection table, and a receiver by its Connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sockd.net.connection.connection import Connection
    from sockd.wire.close_reason import CloseReason
    from sockd.wire.framing import Frame


class ConnectionEvents:
    """Told of the events of a group's connections, in their order; does nothing about them.

    A service overrides what it wants to know.

    Attributes:
        replies_each: it has one reply for each frame, and sends those of an event together (reply_lengths).
    """

    replies_each = False

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """`count` frames of connection `id`, or (id -1) of the parts from `part` on."""

    def accepted(self, id: int) -> None:
        """A connection is new."""

    def ended(self, id: int) -> None:
        """The peer sends no more."""

    def wrong(self, id: int, reason: CloseReason) -> None:
        """What the peer has sent behind the frames so far is none; the connection ends in the next turn.

        Where it is paused by then, this is told again when it is read again.
        """

    def pause(self, id: int) -> None:
        """More than high water is unsent."""

    def resume(self, id: int) -> None:
        """No more than low water is unsent."""

    def lingering(self, id: int, reason: CloseReason) -> None:
        """The connection is closing, and all of its output has left; what is awaited is the peer's end of file."""

    def closed(self, id: int, reason: CloseReason) -> None:
        """The connection has ended; `info(id)` still answers."""

    def snapshot(self, id: int) -> object:
        """Return what another process needs to go on with a connection, as values of msgpack; None: it stays here."""
        return None

    def restore(self, id: int, snapshot: object) -> bool:
        """Go on with a connection of another process; False when it had better stay there."""
        return True

    def forget(self, id: int) -> None:
        """Another process goes on with a connection: there is no event of it any more, and nobody to tell."""

    def is_busy(self, id: int) -> bool:
        """Tell whether an answer is being worked on that the table cannot know of; a drain waits for it."""
        return False

    def stop(self, id: int, *, now: bool) -> None:
        """End a busy connection where it is in the middle of nothing, or (now) as soon as may be; called repeatedly."""

    @property
    def at_work(self) -> int:
        """How many calls of handlers have begun and not ended, where these go on behind a turn."""
        return 0

    def log_unfinished(self) -> None:
        """Name in the log what is at work still, for nobody waits for it any longer."""


class PassedEvents(ConnectionEvents):
    """Passes all events to another sink; a class that derives from it looks at the frames.

    Args:
        inner: the sink.
    """

    def __init__(self, inner: ConnectionEvents) -> None:
        self.inner = inner
        self.replies_each = inner.replies_each
        self.accepted = inner.accepted  # type: ignore[method-assign]  # no frame of ours between: all but frames goes by
        self.ended = inner.ended  # type: ignore[method-assign]  # likewise
        self.wrong = inner.wrong  # type: ignore[method-assign]  # likewise
        self.pause = inner.pause  # type: ignore[method-assign]  # likewise
        self.resume = inner.resume  # type: ignore[method-assign]  # likewise
        self.lingering = inner.lingering  # type: ignore[method-assign]  # likewise
        self.closed = inner.closed  # type: ignore[method-assign]  # likewise
        self.snapshot = inner.snapshot  # type: ignore[method-assign]  # likewise
        self.restore = inner.restore  # type: ignore[method-assign]  # likewise
        self.forget = inner.forget  # type: ignore[method-assign]  # likewise
        self.is_busy = inner.is_busy  # type: ignore[method-assign]  # likewise
        self.stop = inner.stop  # type: ignore[method-assign]  # likewise
        self.log_unfinished = inner.log_unfinished  # type: ignore[method-assign]  # likewise

    @property
    def at_work(self) -> int:
        """Ask it."""
        return self.inner.at_work


NO_EVENTS = ConnectionEvents()
"""For a group that was removed."""


class FrameProtocol(Protocol):
    """What a connection hands its input to; a service makes one for each connection."""

    def connection_made(self, transport: Connection) -> None:
        """The connection is there."""

    def frame(self, frame: Frame) -> None:
        """One frame."""

    def eof_received(self) -> bool | None:
        """The peer sends no more; true keeps our side open."""

    def pause_writing(self) -> None:
        """More than high water is unsent."""

    def resume_writing(self) -> None:
        """No more than low water is unsent."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
