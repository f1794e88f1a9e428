# SPDX-License-Identifier: MIT
"""Signals: a handler records the signal and wakes the loop, the loop acts (FAQ II.9, II.19).

Signals are recorded as the kernel does: several of one kind count once, and no kind is ever lost.  The wake-up is a
socket pair: the kernel's handler writes to it at once, in whichever thread it runs (signal.set_wakeup_fd), and
Python's writes again after recording the signal.  So when the pair is full the loop is awake anyway, and the bytes
that it reads have no meaning.

They are taken over before anything else, and their actions are set once the loop exists: a signal that arrives while
handlers are imported waits for it.  reclaim() undoes what an import, or a hook, has installed instead.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd._sockbuf import lib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import FrameType

    from sockd.process.stop_bound import StopBound

    Previous = Callable[[int, FrameType | None], object] | int | None

DRAIN_BYTES = 65_536  # more than a socket pair of the smallest buffer holds; the rest wakes again
HANDLED = (
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGCHLD,
)
"""Signals with an action, in the order in which several are handled."""


def reset_signals() -> None:
    """Reset the inherited state: no signal blocked, SIGPIPE ignored, children can be waited for.

    If SIGCHLD is ignored the kernel reaps children, and their exit status is lost (waitpid(2), NOTES).
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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
        bound: holds a stop to its time; begun behind install().
        handled: which.

    Attributes:
        bound: holds a stop to its time.
    """

    def __init__(self, bound: StopBound, handled: Iterable[signal.Signals] = HANDLED) -> None:
        self._handled = tuple(handled)
        self.bound = bound
        self._actions: Mapping[signal.Signals, Callable[[], None]] = {}
        self._accepted: set[int] = set()
        self._previous: dict[signal.Signals, Previous] = {}
        self._previous_fd = -1
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a signal has arrived."""
        return self._reader.fileno()

    def act(self, actions: Mapping[signal.Signals, Callable[[], None]]) -> None:
        """Say what is done on each, in the order in which it is done when several came; what does not exist waits."""
        self._actions = actions
        with suppress(OSError):
            self._writer.send(b"\0")  # for those that came before

    def install(self) -> None:
        """Take the signals over."""
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in self._handled:
            self._previous[number] = signal.signal(number, self._note)
        _forget_in_children(self)
        _ignore_at_the_end()

    def reclaim(self) -> None:
        """Take them over again, from handlers of a module, its hooks, or what these imported."""
        reset_signals()
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in self._handled:
            if signal.getsignal(number) != self._note:
                signal.signal(number, self._note)
        self.bound.reclaim()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._accepted.add(number)
        with suppress(OSError):  # full: the loop has not looked yet, and will
            self._writer.send(b"\0")

    def handle(self) -> None:
        """Run the actions of recorded signals, once for each kind."""
        with suppress(OSError):  # what is left wakes again
            self._reader.recv(DRAIN_BYTES)
        for number, action in list(self._actions.items()):
            if number in self._accepted:
                self._accepted.discard(number)
                action()

    # ---- in a process that was forked

    def forget(self) -> None:
        """Remove the handlers, and leave the pair to the parent of this forked process."""
        signal.set_wakeup_fd(-1)
        for number in self._handled:
            if signal.getsignal(number) == self._note:
                signal.signal(number, signal.SIG_DFL)
        self._reader.close()
        self._writer.close()

    def anew(self) -> Signals:
        """Return one for this forked process; installed."""
        fresh = Signals(self.bound.anew(), self._handled)
        fresh.install()
        fresh.bound.begin()
        return fresh

    def close(self) -> None:
        """Restore the signals."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        signal.set_wakeup_fd(self._previous_fd)
        self._reader.close()
        self._writer.close()


_exit_code: int | None = None


def leave_with(code: int) -> int:
    """Record the exit code of this process, and return it: it is used also if the interpreter takes long to exit."""
    global _exit_code  # noqa: PLW0603 - of the process
    _exit_code = code
    return code


def _ignore_at_the_end() -> None:
    """Ignore signals in the last moments of a process that has stopped gracefully.

    What has a handler in Python gets the default action while the interpreter is taken down (_PySignal_Fini of
    CPython's signal module), and what is ignored stays so.  Functions of atexit run before, behind all threads, and
    this one last: it is the first to be registered.
    """

    def ignore() -> None:
        for number in HANDLED:
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_IGN)
        if _exit_code is not None:
            lib.sockd_stop_over(_exit_code)

    atexit.register(ignore)


def _forget_in_children(signals: Signals) -> None:
    """Let a process that a handler forks, for example by multiprocessing, end on TERM like any other, without
    waking the loop.
    """
    known = weakref.ref(signals)
    own = threading.local()  # masks are of threads

    def hold() -> None:
        own.mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)

    def restore_mask() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, own.mask)

    def forget() -> None:
        one = known()
        if one is not None:
            one.forget()
        restore_mask()

    os.register_at_fork(before=hold, after_in_parent=restore_mask, after_in_child=forget)


__all__ = ["HANDLED", "Signals", "give_back", "leave_with", "reset_signals"]
