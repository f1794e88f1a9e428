# SPDX-License-Identifier: MIT
"""Descriptors at the start: the three standard ones are open, others are not inherited by accident.

Closed are those that this process began with, by a list made before libraries are loaded: libffi keeps one of its own
for the code of callbacks (3.8: a memfd), and without it every callback of ctypes fails with MemoryError.
"""

from __future__ import annotations

import fcntl
import os
import resource
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FIRST_OTHER = 3
MANY = 1 << 20  # where the limit is infinite; close_range(2) takes them in one call


def fill_standard_streams() -> None:
    """Open /dev/null for those of 0, 1 and 2 that are closed, so that no socket becomes standard error."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd < FIRST_OTHER:
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)
    complete_streams()


def complete_streams() -> None:
    """Make sys.stdout and sys.stderr where there is none that can be written to.

    Python has None where 1 and 2 were closed, and print() uses another stream; code of handlers may close them, or put
    something of its own there.
    """
    for name, fd in (("stdout", 1), ("stderr", 2)):
        if not _is_writable(getattr(sys, name, None)):
            made = open(fd, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115 - 1 and 2 are never closed
            setattr(sys, name, made)


def _is_writable(stream: object) -> bool:
    with suppress(Exception):
        is_closed = getattr(stream, "closed", False)
        return not is_closed and all(callable(getattr(stream, name, None)) for name in ("write", "flush"))
    return False


def flush_streams() -> None:
    """Write what waits in sys.stdout and sys.stderr, where that is possible.

    Code of handlers may have closed them, or replaced them by None or by objects of its own, and their reader may be
    gone: what cannot be written now is left to the end of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


_copies: list[int] = []


def _close_copies() -> None:
    while _copies:
        os.close(_copies.pop())


os.register_at_fork(after_in_child=_close_copies)  # a worker that is forked meanwhile keeps nobody's pipe open


@contextmanager
def standard_streams_kept() -> Iterator[None]:
    """Open again those of 0, 1 and 2 that the body closes, as they were, lest a socket becomes standard error.

    The streams of Python are made again, too, where the body has closed or replaced them by what cannot be written to.
    """
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_OTHER) for fd in range(FIRST_OTHER)]
    _copies.extend(copies)
    try:
        yield
    finally:
        for fd, copy in enumerate(copies):
            if copy in _copies:
                _put_back(copy, fd)
        complete_streams()


def _put_back(copy: int, fd: int) -> None:
    if not _is_open(fd):
        os.dup2(copy, fd)
    _copies.remove(copy)
    os.close(copy)


_inherited: list[int] | None = None


def list_inherited() -> None:
    """Note which descriptors are open: the first step of a program, for close_inherited()."""
    global _inherited  # noqa: PLW0603 - of this process, which begins once
    with suppress(OSError):  # no /dev/fd: unknown
        # The one that reads the list is on it, and closed again by now; the next to have its number is not inherited.
        found = [fd for fd in map(int, os.listdir("/dev/fd")) if fd >= FIRST_OTHER]
        _inherited = [fd for fd in found if _is_open(fd)]


def _is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def close_inherited(keep: Iterable[int] = ()) -> None:
    """Close what this process inherited from descriptor 3 on; everything, where that is not known.

    Args:
        keep: those that were passed on purpose.
    """
    if _inherited is None:
        close_others(keep)
        return
    for fd in {*_inherited} - {*keep}:
        with suppress(OSError):  # closed meanwhile
            os.close(fd)
    _inherited.clear()


def close_others(keep: Iterable[int] = ()) -> None:
    """Close every descriptor from 3 on, also those of libraries: before another program is executed.

    Args:
        keep: those that it gets.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    end = MANY if hard == resource.RLIM_INFINITY else max(hard, MANY)
    first = FIRST_OTHER
    for fd in sorted({fd for fd in keep if fd >= FIRST_OTHER}):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, end)


def standard_streams_to(fd: int) -> None:
    """Move a descriptor to 0, 1 and 2, and close it."""
    flush_streams()
    for standard in range(FIRST_OTHER):
        os.dup2(fd, standard)
    if fd >= FIRST_OTHER:
        os.close(fd)
