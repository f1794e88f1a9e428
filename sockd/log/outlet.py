# SPDX-License-Identifier: MIT
"""Lines to a shared descriptor, such as standard error: written at once or not at all.

O_NONBLOCK belongs to the open file description, which the shell and other processes share (fcntl(2)), so it is not set
there.  A pipe and a terminal are opened again by /proc, which makes a description of our own; a socket has a flag for
each call; for all others poll(2) asks the kernel before, and no more is written than it accepts in one piece.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[[bytes | memoryview], int]

PIECE_BYTES = select.PIPE_BUF  # poll(2) promises that much room in a pipe


class LineWriter:
    """Writes lines; after one that was cut, the next begins on a line of its own.

    Args:
        write: as os.write(); returns the number of bytes written.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._is_cut = False

    def line(self, data: bytes) -> None:
        """Write a line with its newline.

        Raises:
            OSError: it cannot be written now, or not completely.
        """
        left = memoryview(b"\n" + data if self._is_cut else data)
        while left:
            left = left[self._write(left) :]
            self._is_cut = 0 < len(left) < len(data)


class Outlet:
    """A descriptor that is written to without blocking.

    Args:
        fd: remains the caller's.

    Attributes:
        is_pipe: whether it is one.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._own = -1
        self._socket: socket.socket | None = None
        self.is_pipe = False
        mode = os.fstat(fd).st_mode
        self._is_file = stat.S_ISREG(mode)
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))
        elif stat.S_ISFIFO(mode) or os.isatty(fd):
            self._own = _opened_anew(fd)
            self.is_pipe = stat.S_ISFIFO(mode)

    def fileno(self) -> int:
        """Return the descriptor that is written to."""
        return self._own if self._own >= 0 else self._fd

    @property
    def is_socket(self) -> bool:
        """Whether it is one."""
        return self._socket is not None

    def write(self, data: bytes | memoryview) -> int:
        """Write what can be written at once; return the number of bytes.

        Raises:
            BlockingIOError: nothing can be written; OSError: there is no reader, the disk is full.
        """
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._own >= 0:
            return os.write(self._own, data)
        if not self._is_file:  # of which poll(2) always says that it can be written
            ready = select.poll()
            ready.register(self._fd, select.POLLOUT)
            if not ready.poll(0):
                raise BlockingIOError
        return os.write(self._fd, data if self._is_file else data[:PIECE_BYTES])

    def close(self) -> None:
        """Close what was opened here; again does nothing."""
        if self._own >= 0:
            os.close(self._own)
            self._own = -1
        if self._socket is not None:
            self._socket.close()


def _opened_anew(fd: int) -> int:
    """Return a descriptor of the same pipe or terminal with flags of our own; -1 if that is impossible."""
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:  # no /proc, or the pipe is another user's
        return -1


__all__ = ["PIECE_BYTES", "LineWriter", "Outlet"]
