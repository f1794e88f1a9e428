# SPDX-License-Identifier: MIT
"""Going to the background, with the result reported to the shell (FAQ IV.3).

The daemon is the grandchild: fork, setsid (no terminal any more), fork (never to get one
again), chdir to / (no file system is kept busy), umask; descriptors that were not passed on purpose
were closed before anything was opened (sockd.process.descriptors).  Its standard streams stay
those of the terminal until it serves, so that its errors are read where it was started.
Whoever started it waits on a pipe for one byte, the exit code.
Source: daemon(7), credentials(7), Stevens, "Advanced Programming", 13.3.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.errors import EX_OK, EX_OSERR, SystemFault
from sockd.process.descriptors import standard_streams_to

if TYPE_CHECKING:
    from collections.abc import Callable

UMASK = 0o022  # files that others may read and not write, as systemd's default


class StartupPipe:
    """The daemon's end of the pipe to the process that was started from the shell."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)  # here: after chroot(2) there may be none

    def ready(self) -> None:
        """Detach from the terminal and report that the daemon serves.

        Raises:
            SystemFault: nobody waits any more; who was interrupted does not want a daemon.
        """
        standard_streams_to(self._null)
        try:
            self._send(EX_OK)
        except BrokenPipeError:
            raise SystemFault("the starting process exited before the daemon was ready; not serving") from None

    def let_go(self) -> None:
        """Detach from the terminal in a process forked from the daemon, which reports the result."""
        if self._pipe >= 0:  # else that was done before the fork
            standard_streams_to(self._null)
            os.close(self._pipe)
            self._pipe = -1

    def ended(self, code: int) -> None:
        """Report the exit code of a daemon that exited; nothing if it had begun to serve."""
        if self._pipe >= 0:
            with suppress(BrokenPipeError):
                self._send(code)

    def _send(self, code: int) -> None:
        pipe, self._pipe = self._pipe, -1
        try:
            os.write(pipe, bytes([code]))
        finally:
            os.close(pipe)


def in_background(serve: Callable[[StartupPipe], int]) -> int:
    """Run a daemon, and return in both processes: in the starting one, and in the daemon at its end.

    Args:
        serve: runs the daemon, which tells the starter that it serves; returns the exit code.

    Returns:
        Where it was started: 0 once the daemon serves, else the daemon's exit code.  In the daemon: its exit code.

    Raises:
        OSError: of fork(2) or pipe(2).
    """
    reader, writer = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or both would write what is in its buffer
    child = os.fork()
    if child:
        os.close(writer)
        return _wait(reader, child)
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(EX_OK)
    os.chdir("/")
    os.umask(UMASK)
    return _run(serve, StartupPipe(writer))


def _wait(reader: int, child: int) -> int:
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        code = pipe.read(1)
    if code:
        return code[0]
    raise SystemFault("the daemon was killed before it was ready")


def _run(serve: Callable[[StartupPipe], int], starter: StartupPipe) -> int:
    code = EX_OSERR
    try:
        code = serve(starter)
    except Exception:
        traceback.print_exc()  # now, for the terminal's prompt comes back with the next line
    finally:
        starter.ended(code)
    return code
