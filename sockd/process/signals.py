"""Signals: a handler notes the kind and wakes the loop, the loop acts (FAQ II.9, II.19).

Kinds are kept as the kernel keeps them: what came several times before the loop looked
counts once, and no kind is ever lost.  The wake-up is a socket pair: the kernel's handler
writes to it at once, in whichever thread it runs (signal.set_wakeup_fd), and Python's writes
again behind having noted the kind.  So when the pair is full the loop is awake anyhow,
and what it reads from it is of no importance.
"""

from __future__ import annotations

import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    Previous = Callable[[int, FrameType | None], object] | int | None

DRAIN_BYTES = 65_536  # more than a socket pair of the smallest buffer holds; the rest wakes again


def settle() -> None:
    """Begin as a daemon should, whatever was inherited: no signal blocked, SIGPIPE ignored."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def give_back() -> None:
    """Undo what is inherited through execve(2): Python's ignored signals, and the mask (FAQ II.19)."""
    for name in ("SIGPIPE", "SIGXFSZ"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class Signals:
    """Handles signals inside the loop.

    Args:
        actions: what to do on each signal, in the order in which they are done when several came.
    """

    def __init__(self, actions: Mapping[signal.Signals, Callable[[], None]]) -> None:
        self._actions = actions
        self._came: set[int] = set()
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
            self._previous[number] = signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came.add(number)
        with suppress(OSError):  # full: the loop has not looked yet, and will
            self._writer.send(b"\0")

    def handle(self) -> None:
        """Act on the signals that came, once on each kind."""
        with suppress(OSError):  # what is left wakes again
            self._reader.recv(DRAIN_BYTES)
        came, self._came = self._came, set()
        for number, action in self._actions.items():
            if number in came:
                action()

    def leave(self) -> None:
        """Close, in a process that was forked, what the one it was forked from goes on with."""
        self._reader.close()
        self._writer.close()

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        signal.set_wakeup_fd(self._previous_fd)
        self._reader.close()
        self._writer.close()
