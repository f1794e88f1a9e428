# SPDX-License-Identifier: MIT
"""Workers that do not return from a handler: asked now and then, and replaced after `handler_timeout`.

A worker replies to its supervisor in its loop, so one that hangs - in Python, in C, at a lock - does not.  What it was
doing it has said itself, if Python code still runs in it (sockd.process.stall_detector); otherwise QUIT has it log
its stack, by C code (sockd.process.stop_bound), before it is killed.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import psutil

from sockd.daemon.workers.member import WorkerState
from sockd.daemon.workers.pool import KILL_SECONDS
from sockd.net.address.sockaddr import SocketAddress
from sockd.wire.control import ControlRequest

if TYPE_CHECKING:
    from sockd.daemon.workers.member import WorkerHandle
    from sockd.daemon.workers.pool import WorkerPool
    from sockd.net.loop.loop import EventLoop
    from sockd.wire.control import ControlResponse

logger = logging.getLogger("sockd.daemon")

ASKED_A_TIMEOUT = 4
"""Questions in the time of `handler_timeout`; so long later, at the most, a worker is seen to hang."""
LONGEST_PAUSE_SECONDS = 1.0
MAX_NAMED = 100
"""Connections of one worker that the log names; the others are counted."""


class HangWatch:
    """Asks the workers of a pool whether their loop turns, while there is a limit.

    Args:
        loop: of the supervisor.
        pool: whose workers.
    """

    def __init__(self, loop: EventLoop, pool: WorkerPool) -> None:
        self._loop = loop
        self._pool = pool
        self._limit: float | None = None
        self._asked: dict[WorkerHandle, float] = {}
        self._timer = loop.call_later(0, lambda: None)

    def limit(self, seconds: float | None) -> None:
        """Have workers replaced that do not reply for so long, from now on; None: none."""
        self._timer.cancel()
        self._limit = seconds
        if seconds is not None:
            self._look()

    def _look(self) -> None:
        limit = self._limit
        if limit is None:
            return
        self._timer = self._loop.call_later(min(LONGEST_PAUSE_SECONDS, limit / ASKED_A_TIMEOUT), self._look)
        for member in self._pool:
            if member in self._asked:
                self._judge(member, limit)
            elif member.is_ready and member.state is not WorkerState.STOPPING:
                self._asked[member] = self._loop.clock()
                member.asking.ask(ControlRequest("alive"), partial(self._answered, member))

    def _answered(self, member: WorkerHandle, _answer: ControlResponse) -> None:
        self._asked.pop(member, None)

    def _judge(self, member: WorkerHandle, limit: float) -> None:
        member.asking.receive_now()  # a reply that this process has been too busy to read is one
        asked = self._asked.get(member)
        if asked is not None and (lasted := self._loop.clock() - asked) > limit and member.stop():
            self._replace(member, lasted)

    def _replace(self, member: WorkerHandle, seconds: float) -> None:
        member.end_reason = "hung"
        peers = member.last.stalled.get("peers") or _peers(member.pid)
        event = {"worker": member.number, "pid": member.pid, "seconds": round(seconds, 3), "connections": len(peers)}
        where = {"at": member.last.where} if member.last.where else {}
        logger.error("worker does not return from a handler, replacing it", extra={"event": {**event, **where}})
        for peer in peers[:MAX_NAMED]:
            lost = {"worker": member.number, "peer": peer}
            logger.error("connection lost with its worker", extra={"event": lost})
        _signal(member, signal.SIGQUIT)
        self._loop.call_later(KILL_SECONDS, partial(self._kill, member))

    def _kill(self, member: WorkerHandle) -> None:
        if member in self._pool:
            _signal(member, signal.SIGKILL)


def _signal(member: WorkerHandle, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(member.pid, number)


def _peers(pid: int) -> list[str]:
    """Return the clients of another process, as far as the kernel lets this one see them."""
    try:
        found = psutil.Process(pid).net_connections("tcp")
    except (psutil.Error, OSError):
        return []
    return [str(SocketAddress.parse(one.raddr.ip, one.raddr.port)) for one in found if one.raddr]


__all__ = ["MAX_NAMED", "HangWatch"]
