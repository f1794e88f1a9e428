# SPDX-License-Identifier: MIT
"""What an administrator has changed while the daemon serves, until the next reload or for a time; and sources that are
denied for a time because they came to a listener with `deny_time`.

The process that has the control socket keeps the list, and its expiry; each process that serves applies the list as a
whole, so that a worker that starts later, and the next process of an upgrade, need nothing else.  A reload drops it,
but for those sources: from then on the configuration holds again.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from functools import partial
from typing import TYPE_CHECKING

from sockd.errors import UsageError
from sockd.log.format import timestamp
from sockd.settings.relay import TargetState
from sockd.units import parse_duration
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.net.loop.loop import EventLoop, Timer
    from sockd.settings.networks import Network

logger = logging.getLogger("sockd.daemon")

LONGEST_SECONDS = 366 * 86_400.0
MAX_OVERRIDES = 10_000
"""Of an administrator; and as many sources that came to a listener with `deny_time`, so that these leave room."""
TARGET_STATES = tuple(state.value for state in TargetState)
SECONDS_A_ROW = 0.0002
"""Between two times that the list is applied, for each of its rows: over twenty times what that costs, for sources may
come as fast as they like.
"""

VALUED = ("limit", "log-level", "rate", "total-rate")
"""Kinds that have a value."""
BESIDE = (*VALUED, "drain")
"""Kinds each of which holds beside overrides of other kinds about the same subject."""


@dataclass(frozen=True)
class Override:
    """One change.

    Attributes:
        number: by which it is cleared.
        kind: "deny", "allow", "sensor" (denied by `deny_time`), "limit", "rate", "total-rate", "log-level", "drain" (of
            a listener), and of a target "up", "drained" or "down".
        subject: a network, the name of a service, that and the address of a target, or the address of a listener.
        value: of a limit, connections of a rate (0: without one), or a level of the log; else 0.
        until: seconds since 1970; None: until the next reload.
        seconds: the interval of a rate.
    """

    number: int
    kind: str
    subject: str
    value: int
    until: float | None
    seconds: float = 0.0

    @property
    def network(self) -> Network:
        """Return the network that it is about."""
        return ipaddress.ip_network(self.subject)

    def log_fields(self) -> dict[str, object]:
        """Return it for the log."""
        value: dict[str, object] = {"value": self.value} if self.kind in VALUED else {}
        value |= {"per_seconds": self.seconds} if self.seconds else {}
        until = {"until": timestamp(self.until)} if self.until is not None else {}
        return {"override": self.number, "kind": self.kind, "subject": self.subject, **value, **until}

    def table(self) -> dict[str, object]:
        """Return it for JSON."""
        until = None if self.until is None else timestamp(self.until)
        row = {"id": self.number, "kind": self.kind, "subject": self.subject, "value": self.value, "until": until}
        return row | ({"per_seconds": self.seconds} if self.seconds else {})


class Overrides:
    """The changes that hold now.

    Args:
        loop: in which they expire.
        apply: has them hold, in all processes that serve; called with the whole list.

    Attributes:
        rows: all of them, the oldest first.
        expired: called with one of kind "drain" whose time is over.
    """

    def __init__(self, loop: EventLoop, apply: Callable[[Sequence[Override]], None]) -> None:
        self._loop = loop
        self._apply = apply
        self._count = 0
        self._is_full = False
        self._timers: dict[int, Timer] = {}
        self._about: dict[str, list[Override]] = {}  # the rows by their subject
        self._sources = 0  # rows of `deny_time`
        self._applied = -math.inf  # when
        self._applying: Timer | None = None
        self.rows: list[Override] = []
        self.expired: Callable[[Override], None] = lambda _row: None

    def add(self, kind: str, subject: str, value: int, duration: str, *, seconds: float = 0.0) -> Override:
        """Have one hold from now on, in place of one about the same.

        Args:
            duration: for how long, as people write it; empty: until the next reload.
            seconds: the interval of a rate.

        Raises:
            UsageError: the duration is none, or there are too many.
        """
        until = None if not duration else time.time() + _read_duration(duration)
        if len(self.rows) - self._sources >= MAX_OVERRIDES:
            raise UsageError(f"there are {MAX_OVERRIDES} overrides already; sockctl clear ends one")
        row = self._set(kind, subject, value, until, seconds)
        self._apply_now()
        return row

    def deny_source(self, network: str, seconds: float) -> None:
        """Deny one that came to a listener with `deny_time`, in place of what held for it; above MAX_OVERRIDES none."""
        known = self._about.get(network, ())
        if known and (self._applying is not None or any(row.kind != "sensor" for row in known)):
            return  # it is about to be denied, or an administrator has decided about it
        if self._sources < MAX_OVERRIDES:
            self._set("sensor", network, 0, time.time() + seconds)
            self._apply_soon()
        elif not self._is_full:
            self._is_full = True
            logger.warning("too many overrides, source not denied", extra={"event": {"subject": network}})

    def _apply_soon(self) -> None:
        """Have the list hold, at once unless it was applied a moment ago; together with what changes until then."""
        if self._applying is not None:
            return
        left = self._applied + len(self.rows) * SECONDS_A_ROW - self._loop.clock()
        if left > 0:
            self._applying = self._loop.call_later(left, self._apply_now)
        else:
            self._apply_now()

    def _apply_now(self) -> None:
        if self._applying is not None:
            self._applying.cancel()
            self._applying = None
        self._apply(self.rows)
        self._applied = self._loop.clock()

    def _set(self, kind: str, subject: str, value: int, until: float | None, seconds: float = 0.0) -> Override:
        self._is_full = False
        self._count += 1
        row = Override(self._count, kind, subject, value, until, seconds)
        same = self._about.get(subject, ())
        for other in [one for one in same if one.kind == kind or not {kind, one.kind} & set(BESIDE)]:
            self._drop(other)
        self._hold(row)
        logger.warning("override set", extra={"event": row.log_fields()})
        return row

    def _hold(self, row: Override) -> None:
        self.rows.append(row)
        self._about.setdefault(row.subject, []).append(row)
        self._sources += row.kind == "sensor"
        if row.until is not None:
            left = max(0.0, row.until - time.time())
            self._timers[row.number] = self._loop.call_later(left, partial(self._expire, row))

    def _drop(self, row: Override) -> None:
        self.rows.remove(row)
        self._about[row.subject].remove(row)
        if not self._about[row.subject]:
            del self._about[row.subject]
        self._sources -= row.kind == "sensor"
        timer = self._timers.pop(row.number, None)
        if timer is not None:
            timer.cancel()

    def _end(self, row: Override, why: str) -> None:
        self._drop(row)
        logger.warning("override ended", extra={"event": {**row.log_fields(), "why": why}})

    def _expire(self, row: Override) -> None:
        self._end(row, "its time is over")
        self._apply_soon()
        if row.kind == "drain":
            self.expired(row)

    def clear(self, number: int) -> Override:
        """End one; raises UsageError where there is no such one."""
        row = self.find(number)
        self._end(row, "cleared")
        self._apply_now()
        return row

    def find(self, number: int) -> Override:
        """Return one; raises UsageError where there is no such one."""
        for row in self.rows:
            if row.number == number:
                return row
        raise UsageError(f"no override {number}; sockctl overrides lists them")

    def end_all(self) -> None:
        """End all that an administrator has set, because the configuration was loaded anew."""
        ended = [one for one in self.rows if one.kind != "sensor"]
        for row in ended:
            self._end(row, "reload")
        if ended:
            self._apply_now()

    def adopt(self, rows: Sequence[Override]) -> None:
        """Have those of the process before this one hold, and no others."""
        for row in list(self.rows):
            self._drop(row)
        for row in rows:
            self._count = max(self._count, row.number)
            self._hold(row)
        self._apply_now()


def _read_duration(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{text}: {error}") from None
    if not 0 < seconds <= LONGEST_SECONDS:
        raise UsageError(f"{text}: must be more than 0 and at most 366 days")
    return seconds


__all__ = ["TARGET_STATES", "Override", "Overrides"]
