# SPDX-License-Identifier: MIT
"""Connections over a restart: stored by the service manager between two processes (FDSTORE).

At a stop each connection that can move goes to the manager's store, and one more descriptor, a memfd with their state;
the next start takes them out again, and identifies each by the inode of its socket.  The old process waits until the
manager has all of them (BARRIER), because the manager ignores messages of a process that has exited. Source:
sd_notify(3), FDSTORE and BARRIER; "FILE DESCRIPTOR STORE" of systemd; memfd_create(2).
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import msgspec

from sockd.daemon.upgrade import transfer
from sockd.net.connection.transfer import ConnectionState  # noqa: TC001 - msgspec reads annotations
from sockd.values import replace

if TYPE_CHECKING:
    from sockd.daemon.listeners import ListenerRegistry
    from sockd.process.sd_notify import Notifier
    from sockd.process.socket_activation import Inherited

logger = logging.getLogger("sockd.daemon")

STATE = "sockd connections' state"
CONNECTION = "sockd connection"
"""Names in the store."""
BARRIER_SECONDS = 5.0


class StoredRow(msgspec.Struct, frozen=True):
    """A connection in the store.

    Args:
        inode: of its socket.
        listener: name of its listening socket, as sockd.daemon.upgrade.transfer.listener_name.
        service, way: its service, and how that is called.
        row: its state.
    """

    inode: int
    listener: str
    service: str
    way: str
    row: ConnectionState


class StoredConnections:
    """What the store has of the previous process.

    Args:
        rows: of its connections.
        descriptors: of these, by inode.
    """

    def __init__(self, rows: list[StoredRow], descriptors: dict[int, int]) -> None:
        self._rows = rows
        self._descriptors = descriptors

    @classmethod
    def separate(cls, given: Inherited) -> tuple[Inherited, StoredConnections]:
        """Separate what put_away() has stored from the other inherited descriptors, which are listening sockets."""
        rows: list[StoredRow] = []
        descriptors: dict[int, int] = {}
        rest = []
        for name, fd in given.descriptors:
            if name == STATE:
                rows = _read(fd)
            elif name == CONNECTION:
                descriptors[os.fstat(fd).st_ino] = fd
            else:
                rest.append((name, fd))
        return replace(given, descriptors=tuple(rest)), cls(rows, descriptors)

    def restore(self, serving: ListenerRegistry, notifier: Notifier) -> None:
        """Continue the connections, and have the manager drop them: it holds descriptors too, so closing them here
        alone has no effect.
        """
        if not self._rows and not self._descriptors:
            return
        connections, accepted = serving.tools.connections, len(self._descriptors)
        served = {
            (transfer.listener_name(one), one.run.spec.name, transfer.way_at(one)): one for one in serving.listeners
        }
        restored = 0
        for stored in self._rows:
            one = served.get((stored.listener, stored.service, stored.way))
            if one is not None and stored.inode in self._descriptors:  # else its peer has hung up meanwhile
                restored += transfer.adopt(connections, one, stored.row, self._descriptors.pop(stored.inode))
        for fd in self._descriptors.values():
            os.close(fd)
        notifier.keep((), not_any_more=[STATE, CONNECTION])
        event = {"connections": restored, "dropped": accepted - restored}
        logger.info("connections restored from the store", extra={"event": event})


def _read(fd: int) -> list[StoredRow]:
    try:
        return msgspec.msgpack.decode(os.pread(fd, os.fstat(fd).st_size, 0), type=list[StoredRow])
    except (OSError, msgspec.DecodeError) as error:  # of another version: the connections are closed
        logger.warning("cannot read the connections in the store", extra={"event": {"error": str(error)}})
        return []
    finally:
        os.close(fd)


def put_away(serving: ListenerRegistry, notifier: Notifier, room: int) -> None:
    """Store the connections that can continue in the next process.

    Args:
        room: the number of descriptors that the manager accepts.
    """
    connections = serving.tools.connections
    transfer.flush_all(connections)
    rows: dict[int, StoredRow] = {}
    for served in list(serving.every()):
        listener, spec = transfer.listener_name(served), served.plan.service
        for id, row in transfer.rows(connections, served, 0):
            inode = os.fstat(connections.info(id).fd).st_ino
            rows[id] = StoredRow(inode, listener, spec.name, spec.way, row)
    for id in list(rows)[max(0, room - len(serving.listeners) - 1) :]:
        del rows[id]
    if not rows:
        return
    state = os.memfd_create("sockd", os.MFD_CLOEXEC)
    try:
        with open(state, "wb", closefd=False) as file:
            file.write(msgspec.msgpack.encode(list(rows.values())))
        kept = {CONNECTION: [connections.info(id).fd for id in rows], STATE: [state]}
        is_kept = notifier.store(kept, BARRIER_SECONDS)
    finally:
        os.close(state)
    if not is_kept:
        notifier.keep((), not_any_more=[STATE, CONNECTION])
        logger.error("the service manager does not store connections, closing them gracefully")
        return
    for id in rows:
        transfer.forget(connections, id)
    logger.info("connections stored for the next process", extra={"event": {"connections": len(rows)}})


__all__ = ["StoredConnections", "put_away"]
