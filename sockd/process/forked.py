# SPDX-License-Identifier: MIT
"""Ends a process that a handler has forked, once its code returns to sockd.

Such a process has a copy of everything: the sockets, the epoll set, the connections.  As long as it runs the handler's
code, that is the handler's affair.  If that code returns, raises or calls sys.exit(), the copy would go on as a second
daemon: it would answer the same client once more, close what belongs to the first one, and serve until somebody finds
it.  So it exits there, with the code of sys.exit().  Source: fork(2), os.register_at_fork().

A function is stopped where it returns (sockd/buffer/python.h), everything else where it would have an effect: at the
methods of the table of connections that send or close, and at the next wait.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from sockd._sockbuf import set_copy
from sockd.log import failure
from sockd.process.descriptors import flush_streams

if TYPE_CHECKING:
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.loop import EventLoop

logger = logging.getLogger("sockd.handler")

TABLE = (
    "wait", "receive", "flush", "write", "reply_from", "shut", "abort", "shutdown", "pause", "set_framing", "unread",
)  # fmt: skip
LOOP = ("_select", "call_soon_threadsafe")


def exit_when_done(connections: ConnectionTable | None, loop: EventLoop | None) -> None:
    """Have this process, which a handler has forked, exit when it returns.

    Args:
        connections: which it must not touch.
        loop: which it must not run.
    """
    set_copy()
    failure.when_copied = _leave
    for one, names in ((connections, TABLE), (loop, LOOP)):
        for name in names if one is not None else ():
            setattr(one, name, _leave)


def _leave(error: object = None, *_: object, **_more: object) -> NoReturn:
    """Exit: with the code of SystemExit, with 1 after another exception, else with 0."""
    raised = error if isinstance(error, BaseException) else sys.exc_info()[1]
    code = 0
    try:
        if isinstance(raised, SystemExit):
            code = raised.code if isinstance(raised.code, int) else int(raised.code is not None)
        elif raised is not None:
            code = 1
            logger.error("forked process failed", exc_info=raised, extra={"event": {"pid": os.getpid()}})
        flush_streams()
    finally:
        os._exit(code & 0xFF)


__all__ = ["exit_when_done"]
