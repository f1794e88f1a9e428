# SPDX-License-Identifier: MIT
"""--trace: one line of the log for each frame that passes, either way.

For development alone: this is the only place where what a peer sent gets into the log.  A traced
service is served by Python, one frame after the other, also where the C core would serve it, and
a batch is a list of one.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from sockd.lazy import lazily
from sockd.net.connection.codec import reply_bytes
from sockd.services.builtin import CoreService
from sockd.services.handlers.transport import Transport
from sockd.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection.connection import Connection
    from sockd.net.connection.events import FrameProtocol
    from sockd.services import families, kinds
    from sockd.services.api import BatchFunction
    from sockd.services.spec import ServiceSpec
    from sockd.wire.framing import Frame
else:
    families = lazily("sockd.services.families")
    kinds = lazily("sockd.services.kinds")

logger = logging.getLogger("sockd.trace")

SHOWN_BYTES = 256
"""Of a frame: a few lines of a terminal."""


def traced(spec: ServiceSpec) -> ServiceSpec:
    """Return a service whose frames are shown; those of programs, coroutines and threads stay unseen."""
    # here, for kinds are made of what this package has
    match spec.kind:
        case families.ExecutingKind() | kinds.CoroutineKind() | kinds.BlockingKind():
            return spec
        case kinds.BuiltinKind(code=CoreService(answer=answer)):
            kind = kinds.FunctionKind(lambda frame, _: answer(frame), wants_connection=True)
        case kinds.BatchKind(batch=batch):
            kind = kinds.FunctionKind(partial(_answer_one, batch), wants_connection=True)
        case kinds.FunctionKind(function=function, wants_connection=False):
            kind = kinds.FunctionKind(lambda frame, _: function(frame), wants_connection=True)
        case _:
            return replace(spec, trace=True)
    return replace(spec, trace=True, kind=kind)


def _answer_one(batch: BatchFunction, frame: Frame, connection: Connection) -> None:
    replies = batch([frame])
    if not isinstance(replies, list):
        if replies:
            connection.write(reply_bytes(replies))
        return
    for reply in replies:
        if reply is not None:
            connection.reply(reply)


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
    """A connection that logs what is written to it, and what it delivers."""

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
            self.show("out", self.payload(bytes(data)))

    def payload(self, data: bytes) -> bytes:
        """Return what is shown of data that is written: all."""
        return data

    def show(self, direction: str, frame: object) -> None:
        """Write the line of a frame: its first bytes, and how many it has."""
        event: dict[str, object] = {"connection": self.id, "peer": self.peer, "direction": direction}
        if isinstance(frame, bytes):
            event["bytes"] = len(frame)
            frame = frame[:SHOWN_BYTES]
        logger.info("frame", extra={"event": {**event, "frame": frame}})
