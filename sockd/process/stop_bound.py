# SPDX-License-Identifier: MIT
"""A stop ends in time, whatever delays it, and the log says what that was.

Signals are only recorded (sockd.process.signals), so a blocked loop would never act on them. Therefore TERM, INT and
QUIT also start a kernel timer with a handler in C (stop_bound.c), which needs neither the loop nor the interpreter:
the first TERM allows a graceful stop its time, a second one, an INT or a QUIT 0.8 s.  The final log line is prepared
here, by the log's own formatter.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

from sockd._sockbuf import ffi, lib
from sockd.log.format import timestamp
from sockd.process.signals import Signals, reset_signals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockd.log.format import OwnHandler

logger = logging.getLogger("sockd.daemon")

URGENT_SECONDS = 0.8
"""Time after a second signal; with timer and exit the process ends within a second."""
WORKER_SECONDS = 0.5
"""The same for a worker, which must log its position before its supervisor exits."""
MARGIN_SECONDS = 2.0
"""Time beyond stop_timeout: for hooks, for files, for threads that are ending."""
DEFAULT_SECONDS = 10.0 + MARGIN_SECONDS
"""Before the configuration has been read."""
ORPHAN_SECONDS = 0.03
"""For a worker without supervisor to close its listening sockets gracefully; a new one binds its own after 60 ms."""
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
LIBRARY = os.path.dirname(os.__file__) + os.sep

_SLOTS = {
    "signal": (b"SIGNAL-OF-THE-END", lib.SOCKD_SLOT_SIGNAL),
    "at": (b"the place of the end", lib.SOCKD_SLOT_PLACE),  # blanks have it quoted
    "stack": (b"the stack of the end", lib.SOCKD_SLOT_STACK),
}


class StopBound:
    """Limits the time of this process's stop; one per process.

    Args:
        urgent: seconds after a second signal.
    """

    def __init__(self, urgent: float = URGENT_SECONDS) -> None:
        self._urgent = urgent
        self._handler: OwnHandler | None = None
        self._reader = self._writer = -1
        self._other: socket.socket | None = None
        self._names = [ffi.new("char[]", os.fsencode(name)) for name in (PACKAGE, LIBRARY)]  # C goes on to read them

    def begin(self) -> None:
        """Start, in the main thread, after Signals.install(); without a timer there is no limit."""
        numbers = _numbers()
        if numbers is None or threading.current_thread() is not threading.main_thread():
            return
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        alarm, dumping, orphaned = numbers
        if lib.sockd_stop_begin(alarm, dumping, orphaned, self._reader, self._urgent, DEFAULT_SECONDS) < 0:
            logger.warning("no timer, so a stop has no time limit", extra={"event": {"error": os.strerror(ffi.errno)}})
            return
        faulthandler.register(dumping, file=self._writer, all_threads=True, chain=False)

    def anew(self) -> StopBound:
        """Return one for this forked worker; to be started."""
        for fd in (self._reader, self._writer):
            if fd >= 0:
                os.close(fd)
        self._reader = self._writer = -1
        return StopBound(WORKER_SECONDS)

    def reclaim(self) -> None:
        """Become the first handler of signals again, before handlers that were installed since."""
        lib.sockd_stop_reclaim()

    # ---- how long

    def allow(self, seconds: float) -> None:
        """Allow a stop so many seconds from the first TERM on; MARGIN_SECONDS are added."""
        lib.sockd_stop_allow(seconds + MARGIN_SECONDS)

    def within(self, seconds: float) -> None:
        """Allow so many seconds from now on, and MARGIN_SECONDS; a second signal allows less."""
        lib.sockd_stop_within(max(0.0, seconds) + MARGIN_SECONDS)

    def at_once(self) -> None:
        """Act as on a second signal."""
        lib.sockd_stop_at_once()

    def orphaned(self, sockets: Iterable[int], parent: int) -> bool:
        """Close listening sockets, and stop, when the parent dies; return whether it lives.

        Args:
            sockets: that are shared with others of its children.
            parent: its number.
        """
        numbers = list(sockets)
        self._other = self._other or socket.socket(socket.AF_UNIX)  # not bound: accept(2) and recv(2) fail on it
        kept = ffi.new("int32_t[]", numbers)
        result = lib.sockd_stop_orphaned(kept, len(numbers), self._other.fileno(), parent, ORPHAN_SECONDS)
        return bool(result == 0) or os.getppid() == parent

    def children(self, pids: Iterable[int]) -> None:
        """Pass a second signal on to workers; each is removed before it is waited for."""
        numbers = list(pids)
        lib.sockd_stop_children(ffi.new("int32_t[]", numbers), len(numbers))

    # ---- told

    def set_log_target(self, handler: OwnHandler) -> None:
        """Write the last line to the log's target; call it again when that has another descriptor.

        Args:
            handler: the one before, if that was another, is closed.
        """
        before, self._handler = self._handler, handler
        record = logging.LogRecord("sockd.daemon", logging.ERROR, __file__, 0, "ended by force", (), None)
        record.created = 0.0
        record.event = {name: word.decode() for name, (word, _) in _SLOTS.items()}
        if not handler.filter(record):
            return
        raw = handler.raw(record)
        if raw is None:
            return
        text = raw.data.replace(timestamp(0).encode(), bytes([lib.SOCKD_SLOT_TIME]))
        for word, slot in _SLOTS.values():
            text = text.replace(word, bytes([slot]))
        how = {"size": len(text), "is_quoted": raw.is_quoted}
        how |= {"package": self._names[0], "library": self._names[1]}
        target = lib.SOCKD_TARGET_SOCKET if raw.is_socket else lib.SOCKD_TARGET_STREAM
        made = ffi.new("sockd_template *", how | {"text": ffi.from_buffer("char[]", text)})
        lib.sockd_stop_set_target(raw.fd, target, made)
        if before is not None and before is not handler:
            before.close()


def _numbers() -> tuple[int, int, int] | None:
    """Return three unused real-time signals; None without them."""
    if not hasattr(signal, "SIGRTMAX") or not hasattr(faulthandler, "register"):
        return None
    last = int(signal.SIGRTMAX)
    return last - 1, last - 2, last - 3


def install_signals(handler: OwnHandler) -> Signals:
    """Take the signals over, and limit stops, before anything else.

    Args:
        handler: of the log, as long as there is no other.
    """
    signals = Signals(StopBound())
    signals.install()
    signals.bound.begin()
    signals.bound.set_log_target(handler)
    reset_signals()  # now, for what has come since sockd.cli.start is delivered here
    return signals


__all__ = ["MARGIN_SECONDS", "URGENT_SECONDS", "WORKER_SECONDS", "StopBound", "install_signals"]
