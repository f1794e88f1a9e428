# SPDX-License-Identifier: MIT
"""--trace: one line of the log for each frame that passes, either way.

For development alone: this is the only place where what a peer sent gets into the log.  A traced
service is served by Python, one frame after the other, also where the C core would serve it, and
a batch is a list of one.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from sockd.net.connection.codec import bytes_of
from sockd.services.handlers.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection.connection import Connection
    from sockd.net.connection.events import FrameProtocol
    from sockd.services.spec import ServiceSpec
    from sockd.wire.framing import Frame

logger = logging.getLogger("sockd.trace")

SHOWN_BYTES = 256
"""Of a frame: a few lines of a terminal."""


def traced(spec: ServiceSpec) -> ServiceSpec:
    """Return a service whose frames are shown; those of programs, coroutines and threads stay unseen."""
    if spec.program is not None or spec.session is not None or spec.blocking:
        return spec
    if spec.serve:
        answer = spec.datagram
        assert answer is not None  # what the C core serves also answers datagrams
        return replace(spec, trace=True, serve=0, function=lambda frame, _: answer(frame), wants_connection=True)
    if spec.batch is not None:
        batch = spec.batch

        def answer_one(frame: Frame, connection: Connection) -> None:
            replies = batch([frame])
            if not isinstance(replies, list):
                if replies:
                    connection.write(bytes_of(replies))
                return
            for reply in replies:
                if reply is not None:
                    connection.reply(reply)

        return replace(spec, trace=True, batch=None, function=answer_one, wants_connection=True)
    if spec.function is not None and not spec.wants_connection and not spec.is_async:
        function = spec.function
        return replace(spec, trace=True, function=lambda frame, _: function(frame), wants_connection=True)
    return replace(spec, trace=True)


class TracedProtocol:
    """Shows each frame, then hands it to another receiver."""

    def __init__(self, receiver: FrameProtocol, connection: TracedConnection) -> None:
        self._receive = receiver.frame
        self._connection = connection
        self.connection_made = receiver.connection_made
        self.eof_received = receiver.eof_received
        self.pause_writing = receiver.pause_writing
        self.resume_writing = receiver.resume_writing
        self.connection_lost = receiver.connection_lost

    def frame(self, frame: Frame) -> None:
        """Show, and hand on."""
        self._connection.show("in", frame)
        self._receive(frame)


class TracedConnection(Transport):
    """A connection that shows what is written to it, and what it delivers."""

    __slots__ = ()

    def start(self, receiver: FrameProtocol, protocol: object = None) -> None:
        """Attach a receiver whose frames are shown."""
        make: Callable[[object], FrameProtocol] = self._make
        self._make = lambda other: TracedProtocol(make(other), self)
        super().start(TracedProtocol(receiver, self), protocol)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send as every connection does, and show it."""
        super().write(data)
        if data:
            self.show("out", bytes(data))

    def show(self, direction: str, frame: object) -> None:
        """Write the line of a frame: its first bytes, and how many it has."""
        event: dict[str, object] = {"connection": self.id, "peer": self.peer, "direction": direction}
        if isinstance(frame, bytes):
            event["bytes"] = len(frame)
            frame = frame[:SHOWN_BYTES]
        logger.info("frame", extra={"event": {**event, "frame": frame}})
