# SPDX-License-Identifier: MIT
"""Defects, that is failures of sockd itself: counted, logged once per place and interval with their traceback, and
survived.

A failure of a handler is not one; it is logged where the handler was called.  What is reported here was raised where
nothing should be: the code that caught it closes the descriptor concerned and continues.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.log.rate_limit import LogLimit

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("sockd.defect")


class Defects:
    """Counts and logs the defects of one process.

    Args:
        clock: seconds, never going back.

    Attributes:
        count: number since the start.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.count = 0
        self._limit = LogLimit(clock)

    def report(self, error: BaseException) -> None:
        """Count an unexpected exception, and log it; raises nothing.

        Lack of memory is not a defect: it is logged, and not counted.
        """
        self.count += not issubclass(type(error), MemoryError)
        with suppress(BaseException):  # the log itself fails: to count and to go on is what is left
            self._log(error)

    def _log(self, error: BaseException) -> None:
        place = error_location(error)
        held_back = self._limit.admit((place, type(error)))
        if held_back is None:
            return
        event: dict[str, object] = {"at": place, "total": self.count}
        if held_back:
            event["held_back"] = held_back
        message = "out of memory" if issubclass(type(error), MemoryError) else "defect"
        logger.error(message, exc_info=error, extra={"event": event})


def error_location(error: BaseException) -> str:
    """Return where an exception was raised: `file:line name` of its innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{code.co_filename}:{trace.tb_lineno} {code.co_qualname}"


__all__ = ["Defects", "error_location"]
