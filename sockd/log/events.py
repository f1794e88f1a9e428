# SPDX-License-Identifier: MIT
"""What the daemon does, as events: `sockctl events` follows them, and the status page shows the last ones.

An event is a record of the log, of those in EVENT_CATEGORIES; so it is in the log as well, with the same fields.
Events of workers are those of their supervisor.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from sockd.log.format import event_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.wire.control import JsonObject

KEPT = 100
"""Events that are remembered."""
LOGGERS = ("sockd.daemon", "sockd.listener", "sockd.tls", "sockd.loop", "sockd.relay", "sockd.defect")
"""None of them writes a line for each connection, but for relays."""
EVENT_CATEGORIES = {
    "reload": (
        "reloaded",
        "invalid configuration, keeping the previous one",
        "reload failed: internal error",
        "takes effect at the next start",
        "log reopened",
    ),
    "upgrade": (
        "upgrading",
        "upgraded",
        "taken over",
        "upgrade failed, still serving",
        "upgrade failed: internal error",
        "the new process has exited",
    ),
    "worker": (
        "worker ended",
        "worker did not start",
        "worker did not answer",
        "workers exit as soon as they start",
        "worker does not return from a handler, replacing it",
        "worker exceeds max_worker_memory, replacing it",
        "worker has served for long enough, replacing it",
        "a worker exceeds max_worker_memory from its start",
        "the supervisor has exited",
    ),
    "stall": ("event loop stalled", "event loop resumed"),
    "drain": ("no longer listening", "not ready any more, still serving", "stopping", "stopping workers", "stopped"),
    "listener": (
        "listening",
        "optional address not bound, trying again",
        "path of a Unix socket lost, bound again",
        "path of a Unix socket lost, cannot bind it again",
        "listening socket shut down by another process, no longer listening",
        "accept paused",
        "accept paused, one connection shed",
    ),
    "certificate": ("certificate expires soon", "certificate has expired"),
    "override": ("override set", "override ended"),
    "limit": ("limit reached, new clients wait in the backlog", "refused", "out of memory"),
    "target": ("relay target is down", "relay target is up again"),
    "defect": ("defect",),
}
"""Of each category, the messages of the log."""
CATEGORIES = {message: category for category, messages in EVENT_CATEGORIES.items() for message in messages}


class DaemonEvents(logging.Handler):
    """Events of a process, and of its workers.

    Attributes:
        recent: the last ones, the latest last.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.recent: deque[JsonObject] = deque(maxlen=KEPT)
        self._followers: list[Callable[[JsonObject], None]] = []

    def attach(self) -> None:
        """Hear of what is logged from now on, until close()."""
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)

    def close(self) -> None:
        """Hear of nothing any more."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Publish a record that is an event; as every handler, it raises nothing."""
        category = CATEGORIES.get(record.msg) if isinstance(record.msg, str) else None
        if category is None:
            return
        fields = {str(key): _plain(value) for key, value in event_fields(record).items()}
        level = record.levelname.lower()
        self.publish(
            {"time": round(record.created, 6), "category": category, "level": level, "message": record.msg, **fields}
        )

    def publish(self, event: JsonObject) -> None:
        """Remember an event, and hand it to all who follow."""
        self.recent.append(event)
        for follower in list(self._followers):
            follower(event)

    def follow(self, follower: Callable[[JsonObject], None]) -> None:
        """Hand every event to somebody from now on."""
        self._followers.append(follower)

    def leave(self, follower: Callable[[JsonObject], None]) -> None:
        """Hand it none any more."""
        if follower in self._followers:
            self._followers.remove(follower)


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


__all__ = ["CATEGORIES", "EVENT_CATEGORIES", "LOGGERS", "DaemonEvents"]
