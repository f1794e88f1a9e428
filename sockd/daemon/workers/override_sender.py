# SPDX-License-Identifier: MIT
"""What an administrator has changed while the daemon serves (sockd.daemon.overrides), sent to workers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sockd.values import asdict
from sockd.wire.control import ControlRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sockd.daemon.overrides import Override
    from sockd.daemon.workers.member import WorkerHandle
    from sockd.wire.control import ControlResponse


class OverrideSender:
    """Has workers know the list of overrides: one that has not answered the last one gets the next once it has.

    A worker that hangs would else have every list that sources with `deny_time` have changed waiting for it.

    Args:
        rows: returns the list.
    """

    def __init__(self, rows: Callable[[], Sequence[Override]]) -> None:
        self._rows = rows
        self._asked: dict[WorkerHandle, bool] = {}  # and whether the list has changed since

    def send(self, members: Iterable[WorkerHandle]) -> None:
        """Send them the list as it is."""
        question: ControlRequest | None = None
        for member in members:
            if member in self._asked:
                self._asked[member] = True
                continue
            question = question or ControlRequest("override", {"rows": [asdict(row) for row in self._rows()]})
            self._asked[member] = False
            member.asking.ask(question, partial(self._answered, member))

    def _answered(self, member: WorkerHandle, answer: ControlResponse) -> None:
        if self._asked.pop(member, False) and not answer.error:
            self.send([member])


__all__ = ["OverrideSender"]
