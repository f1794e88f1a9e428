# SPDX-License-Identifier: MIT
"""Which records are logged: the level of the log, another one for some services, and events that are followed.

The level is that of the root logger, as ever, so that a record that nobody wants is never made.  Where a service has a
level of its own, more records are made, and a filter at the log's handler leaves out those that are not for it.  Events
of the daemon that the log is not to have are made as well, and get no further than to whom follows them: handlers of
others, at the root, have the records of the level.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sockd.log.format import OwnHandler, event_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class LogLevels:
    """The levels that hold, in this process; a worker goes on with those of its supervisor."""

    def __init__(self) -> None:
        self._followed: list[logging.Logger] = []
        self._follower: logging.Handler = logging.NullHandler()
        self._level = logging.WARNING
        self._services: dict[str, int] = {}

    def begin(self, followed: Sequence[str], follower: logging.Handler) -> None:
        """Go on from the level that the log was set up with.

        Args:
            followed: names of loggers whose records of level INFO are made, whatever the level is.
            follower: gets those of them that are below the level.
        """
        self._follower = follower
        self._followed = [logging.getLogger(name) for name in followed]
        if not self._services:
            self._level = logging.getLogger().level
        self._apply()

    def set_level(self, level: int) -> None:
        """Have another level from now on."""
        self._level = level
        self._apply()

    def set_services(self, services: Mapping[str, int]) -> None:
        """Have these services have levels of their own from now on, and no others."""
        self._services = dict(services)
        self._apply()

    def _apply(self) -> None:
        root = logging.getLogger()
        root.setLevel(min((self._level, *self._services.values())))
        for logger in self._followed:
            logger.removeFilter(self._propagates)
            if root.level > logging.INFO:
                logger.setLevel(logging.INFO)
                logger.addFilter(self._propagates)
            else:
                logger.setLevel(logging.NOTSET)
        for handler in root.handlers:
            if isinstance(handler, OwnHandler):
                handler.removeFilter(self._admit)
                if self._services:
                    handler.addFilter(self._admit)

    def _propagates(self, record: logging.LogRecord) -> bool:
        """Tell whether a record of a followed logger is one for the log; else it is an event alone."""
        if record.levelno >= logging.getLogger().level:
            return True
        self._follower.handle(record)
        return False

    def _admit(self, record: logging.LogRecord) -> bool:
        service = event_fields(record).get("service")
        return record.levelno >= self._services.get(str(service), self._level)


levels = LogLevels()
"""Those of this process: as the loggers, there is one set."""

__all__ = ["LogLevels", "levels"]
