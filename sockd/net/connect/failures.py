# SPDX-License-Identifier: MIT
"""Names that could not be looked up lately, so that a slow one holds up a thread once, and not whoever asks again.

Pure bookkeeping: the clock is passed in.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT_SECONDS = 10.0
"""RFC 2308, 7.1 and 7.2: a server that failed or did not answer may be passed over for 5 minutes at most; here as long
as both tries of the stub resolver take (resolv.conf(5)), so that a name that comes to be is soon found."""
KEPT = 4096


class Failures:
    """Why names were not found.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rows: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def get(self, name: str) -> str:
        """Return why a name was not found; empty where nothing is known."""
        until, why = self._rows.get(name, (0.0, ""))
        return why if until > self._clock() else ""

    def put(self, name: str, why: str) -> None:
        """Remember that a name was not found."""
        self._rows[name] = self._clock() + KEPT_SECONDS, why
        self._rows.move_to_end(name)
        if len(self._rows) > KEPT:
            self._rows.popitem(last=False)


__all__ = ["Failures"]
