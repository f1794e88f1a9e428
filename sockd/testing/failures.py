# SPDX-License-Identifier: MIT
"""What handlers raise while they are tested, read from the log that a daemon would write."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sockd.net.loop.defects import error_location

if TYPE_CHECKING:
    from types import TracebackType

LOGGER = "sockd"


class RaisedErrors(logging.Handler):
    """Notes what handlers raise, as long as it is entered.

    Attributes:
        raised: kind and place of each.
        losses: of these, losses of connections, which are no fault of whoever writes.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.raised: set[str] = set()
        self.losses: set[str] = set()
        self._before = (logging.NOTSET, True)

    def __enter__(self) -> RaisedErrors:
        logger = logging.getLogger(LOGGER)
        self._before = (logger.level, logger.propagate)
        logger.addHandler(self)
        logger.propagate = False  # what a test raises on purpose is not for its log
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        logger = logging.getLogger(LOGGER)
        logger.removeHandler(self)
        logger.level, logger.propagate = self._before

    def emit(self, record: logging.LogRecord) -> None:
        """Note what was raised."""
        error = record.exc_info[1] if record.exc_info else None
        event = getattr(record, "event", {})
        if error is None:
            text = f"{record.getMessage()} {event.get('error', '')}"
        else:
            text = f"{type(error).__name__}: {error} at {error_location(error)}"
        self.raised.add(text)
        if isinstance(error, ConnectionError):
            self.losses.add(text)


__all__ = ["RaisedErrors"]
