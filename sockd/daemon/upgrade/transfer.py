# SPDX-License-Identifier: MIT
"""Connections that move to another process: which ones can, and how one is adopted.

A connection can move if its listening socket is served there by a service of the same name, kind and framing, and if
its sink releases it; sockd.daemon.upgrade.sender and sockd.daemon.upgrade.fdstore do the rest.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import msgspec

from sockd.net.connection import transfer
from sockd.net.connection.info import ConnectionFilter
from sockd.process.inherited_sockets import is_stored_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.daemon.listeners import ActiveListener
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.connection.transfer import ConnectionState

logger = logging.getLogger("sockd.daemon")


def way_at(served: ActiveListener) -> str:
    """Return the signature of a listener's service; where other processes accept from it, no connection can move
    there.
    """
    return served.plan.service.way if served.listener.groups else "lent"


def listener_name(served: ActiveListener) -> str:
    """Return the name under which InheritedSockets finds a socket for its configured address."""
    address, passed = served.address, served.listening.passed
    if address.scheme == "fd":
        return address.name
    return passed if passed and not is_stored_name(passed, address) else served.plan.find_name(address)


def flush_all(connections: ConnectionTable) -> None:
    """Send pending output, and dispatch every event, so that connections can be exported."""
    connections.flush()
    while connections.pending:
        connections.dispatch()
        connections.flush()


def rows(connections: ConnectionTable, served: ActiveListener, number: int) -> Iterator[tuple[int, ConnectionState]]:
    """Yield the connections of a listener that can move, with their ids; call flush_all() before.

    Args:
        number: of the listening socket, for the rows.
    """
    ids = [id for group in served.listener.groups for id in connections.groups.ids(ConnectionFilter.OPEN, group)]
    for id in ids:
        if connections.tls.find(id) is not None:
            continue  # its keys are in this process
        snapshot = served.run.sink.snapshot(id)
        if snapshot is not None:
            row = transfer.export(connections, id, number, snapshot)
            if _is_encodable(row, served.run.spec.name):
                yield id, row


def _is_encodable(row: ConnectionState, service: str) -> bool:
    """Return whether a row can be encoded, above all what its handler's snapshot() has returned."""
    try:
        msgspec.msgpack.encode(row.snapshot)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        event = {"service": service, "error": str(error)}
        logger.warning(
            "connection cannot move: snapshot() returned a value that cannot be encoded", extra={"event": event}
        )
        return False
    return True


def forget(connections: ConnectionTable, id: int) -> None:
    """Let go of a connection that another process has."""
    connections.groups.sink(connections.info(id).group).forget(id)
    transfer.forget(connections, id)


def adopt(connections: ConnectionTable, served: ActiveListener, row: ConnectionState, fd: int) -> bool:
    """Adopt a connection of another process; False if that is impossible, and the descriptor is closed.

    Args:
        served: the listener of its listening socket here.
        fd: its descriptor.
    """
    (group,) = served.listener.groups  # else way_at() says "lent", which no connection comes from
    id = transfer.import_row(connections, row, fd, group)
    if id is None:
        os.close(fd)
        return False
    if not served.run.sink.restore(id, row.snapshot):
        transfer.forget(connections, id)
        return False
    served.listener.adopt(id)
    return True


__all__ = ["adopt", "flush_all", "forget", "listener_name", "rows", "way_at"]
