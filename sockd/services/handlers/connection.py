# SPDX-License-Identifier: MIT
"""Makes a Connection and a receiver for each connection of a service, and writes the line of its end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sockd.lazy import msgspec
from sockd.log.failure import error_info, user_line
from sockd.net.connection.events import ConnectionEvents
from sockd.net.connection.info import log_end
from sockd.net.connection.transfer import Snapshot
from sockd.services.handlers.adapters import wants_bytes
from sockd.values import dataclass
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection.events import FrameProtocol
    from sockd.services.handlers.transport import Transport
    from sockd.services.spec import SinkTools
    from sockd.wire.framing import Framing

logger = logging.getLogger("sockd.connection")


@dataclass(frozen=True)
class ConnectionFactory:
    """What each connection of a service is made as.

    Attributes:
        kind: the class of its transport.
        high_water: unsent bytes past which it is not read.
        make: called once for each; returns the receiver, and the protocol object if there is one.
        receive: makes a receiver for a protocol object.
        framing: of those whose protocol object takes frames, where the others take bytes; None: of all.
    """

    kind: type[Transport]
    high_water: int
    make: Callable[[], tuple[FrameProtocol, object]]
    receive: Callable[[object], FrameProtocol]
    framing: Framing | None = None

    def transport(self, id: int, tools: SinkTools) -> Transport:
        """Make the transport."""
        return self.kind(id, tools.connections, tools.codec, self.high_water, tools.loop, self.receive)


class PerConnectionHandler(ConnectionEvents):
    """Makes a Connection and a receiver for each connection of a service.

    Args:
        service: its name, for the log.
        factory: of its connections.
        tools: connections are made with these.
    """

    def __init__(self, service: str, factory: ConnectionFactory, tools: SinkTools) -> None:
        self._service = service
        self._factory = factory
        self._tools = tools
        self._table = tools.connections
        self._live: dict[int, Transport] = {}
        self.handler: object = None
        """Whose frames these are, for the log; None: the protocol object's."""

    def accepted(self, id: int) -> None:
        """Make the connection and notify its receiver."""
        connection = self._factory.transport(id, self._tools)
        connection.service, connection.handler = self._service, self.handler
        self._live[id] = connection
        try:
            receiver, protocol = self._factory.make()
        except BaseException as error:
            at = user_line(error, self._factory.make)
            event = {"service": self._service, "peer": str(self._table.peers.find(id)), "at": at}
            logger.error("handler failed", exc_info=error_info(error), extra={"event": event})
            self._table.shut(id, CloseReason.HANDLER_ERROR)
            return
        framing = self._factory.framing
        if framing is not None and not wants_bytes(protocol):
            self._table.set_framing(id, framing)
            connection.set_framing(framing)
        connection.start(receiver, protocol)

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Pass on."""
        self._live[id].deliver(offset, size, count)

    def ended(self, id: int) -> None:
        """Pass on."""
        self._live[id].end()

    def pause(self, id: int) -> None:
        """Pass on."""
        self._live[id].pause()

    def resume(self, id: int) -> None:
        """Pass on."""
        self._live[id].resume()

    def lingering(self, id: int, reason: CloseReason) -> None:
        """Notify the receiver of the end: only the peer's end of file is awaited."""
        if (connection := self._live.get(id)) is not None:
            connection.lost(reason, 0)

    def snapshot(self, id: int) -> object:
        """Ask the connection."""
        return self._live[id].snapshot()

    def restore(self, id: int, snapshot: object) -> bool:
        """Make the connection and the receiver, which continues the state of the other process."""
        connection = self._factory.transport(id, self._tools)
        try:
            receiver, protocol = self._factory.make()
            connection.service, connection.handler = self._service, self.handler
            connection.restore(receiver, protocol, msgspec.convert(snapshot, Snapshot))
        except BaseException as error:
            at = user_line(error, self._factory.make)
            event = {"service": self._service, "peer": str(self._table.peers.find(id)), "at": at}
            logger.error("handler failed", exc_info=error_info(error), extra={"event": event})
            connection.leave()
            return False
        self._live[id] = connection
        return True

    def forget(self, id: int) -> None:
        """Let go of the connection and its receiver."""
        self._live.pop(id).leave()

    def closed(self, id: int, reason: CloseReason) -> None:
        """Log the close and notify the receiver."""
        connection = self._live.pop(id, None)  # none where it was not even made
        try:
            log_end(self._service, self._table, id, reason)
        finally:
            if connection is not None:
                connection.lost(reason, self._table.info(id).error)
