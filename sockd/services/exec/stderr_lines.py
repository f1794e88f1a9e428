# SPDX-License-Identifier: MIT
"""What a program writes to its standard error, line by line into the log.

One pipe per program.  Most programs write nothing and end soon: it is read once then.  Of one that runs longer it is
read a little in each turn of the loop, so that a program that writes endlessly delays nothing: the pipe fills, and the
program waits.  A line that is too long is split into several records; output of a
program is data, and is escaped like that of peers.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sockd.net.loop.loop import EventLoop, Timer

logger = logging.getLogger("sockd.exec")

UNWATCHED_SECONDS = 0.05
"""From the start of a program until its pipe is watched, which costs 20 us and more."""
READ_BYTES = 4096
"""A turn; PIPE_BUF of Linux, what a program writes in one piece."""
LINE_BYTES = 1024
"""Of one record: what RFC 3164 allows a line of syslog."""


class ErrorLines:
    """The pipe of one program.

    Args:
        loop: reads it.
        about: fields of every record.
        mute_seconds: for so long from the start nothing is logged.

    Attributes:
        writer: the program's end.

    Raises:
        OSError: no pipe can be had.
    """

    def __init__(self, loop: EventLoop, about: Mapping[str, object], mute_seconds: float = 0.0) -> None:
        self._loop = loop
        self._from = loop.clock() + mute_seconds
        self._about = dict(about)
        self._rest = b""
        self._timer: Timer | None = None
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)

    def start(self, pid: int) -> None:
        """Read from soon on, until every process that has the other end has closed it."""
        self._about["pid"] = pid
        self._close_writer()
        self._timer = self._loop.call_later(UNWATCHED_SECONDS, self._watch)

    def program_ended(self) -> None:
        """Read what it has left; its own children may have the other end still."""
        if self._reader >= 0:
            self._read()
        if self._timer is not None:
            self._timer.cancel()
            if self._reader >= 0:
                self._watch()

    def _watch(self) -> None:
        self._timer = None
        try:
            self._loop.add_reader(self._reader, self._read)
        except OSError as error:  # epoll_ctl(2): ENOMEM, ENOSPC; the program gets EPIPE
            logger.error(
                "cannot read standard error of a program", extra={"event": {**self._about, "error": str(error)}}
            )
            self.close()

    def _close_writer(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
        self.writer = -1

    def _read(self) -> None:
        try:
            data = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._log_line(line)
        while len(self._rest) > LINE_BYTES:
            self._log_line(self._rest[:LINE_BYTES])
            self._rest = self._rest[LINE_BYTES:]
        if not data:
            self._log_line(self._rest)
            if self._timer is None:
                self._loop.remove_reader(self._reader)
            self.close()

    def _log_line(self, line: bytes) -> None:
        if self._loop.clock() < self._from:
            return
        for start in range(0, len(line), LINE_BYTES):
            text = line[start : start + LINE_BYTES].decode("utf-8", "backslashreplace")
            logger.info("program wrote to standard error", extra={"event": {**self._about, "text": text}})

    def close(self) -> None:
        """Close both ends."""
        self._close_writer()
        os.close(self._reader)
        self._reader = -1
