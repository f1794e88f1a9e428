"""Signals: a handler only wakes the loop, the loop acts (FAQ II.9, II.19).

The kernel's signal numbers come as bytes through a socket pair that the loop
reads (signal.set_wakeup_fd), so that none is lost between a check and a wait.
"""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    Previous = Callable[[int, FrameType | None], object] | int | None


def _wake(_number: int, _frame: FrameType | None) -> None:
    """Nothing: that Python has a handler makes it write to the wake-up descriptor."""


class Signals:
    """Handles signals inside the loop.

    Args:
        actions: what to do on each signal.
    """

    def __init__(self, actions: Mapping[signal.Signals, Callable[[], None]]) -> None:
        self._actions = actions
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._previous: dict[signal.Signals, Previous] = {}
        self._previous_fd = -1

    def fileno(self) -> int:
        """Return the descriptor that is readable when a signal came."""
        return self._reader.fileno()

    def install(self) -> None:
        """Take the signals over."""
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in self._actions:
            self._previous[number] = signal.signal(number, _wake)

    def handle(self) -> None:
        """Act on the signals that came."""
        try:
            numbers = self._reader.recv(4096)
        except BlockingIOError:
            return
        for number in numbers:
            action = self._actions.get(signal.Signals(number))
            if action is not None:
                action()

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        signal.set_wakeup_fd(self._previous_fd)
        self._reader.close()
        self._writer.close()
