# SPDX-License-Identifier: MIT
"""Loops of datagrams: two services that answer each other endlessly, after one datagram with a forged sender.

A pause breaks a loop, because it consists of replies alone; a client with continuous requests asks again. So a sender
that is answered for several seconds without a pause gets no reply for a moment, and that at most once a minute: a loop
ends, whatever its services and ports, and a client loses less than one reply in a hundred, which UDP allows.  Besides,
senders with our own address, or with a port of services that answer anything, get no reply, as in inetd.  Pure
bookkeeping: the caller passes the clock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

REFLECTING_PORTS = frozenset({0, 7, 11, 13, 17, 19, 37})
"""Of services that answer whatever comes: echo, systat, daytime, qotd, chargen, time (RFC 862 to 868); 0: of nobody."""
LOOP_SECONDS = 5.0
"""Of answers without a pause, until there is a silence."""
PAUSE_SECONDS = 1.0
"""A pause: longer than any round trip, so that a loop has none."""
FEWEST = 5
"""Answers a second; fewer are no burden, and a round trip of a loop takes no longer than that."""
SILENCE_SECONDS = 0.5
"""Longer than nearly all round trips, so that all that is on its way has come."""
CLIENT_SECONDS = 60.0
"""Between two silences of one sender."""
SENDERS = 4096
"""Remembered at once."""


@dataclass
class _Run:
    since: float
    last: float
    count: int = 0
    silent_until: float = 0.0
    next_silence: float = 0.0


class Loops:
    """Detects senders that are answered endlessly.

    Args:
        clock: seconds, never going back.

    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._runs: OrderedDict[Hashable, _Run] = OrderedDict()
        self._silent: set[Hashable] = set()
        self._silent_until = 0.0  # of all of them

    @property
    def has_silent(self) -> bool:
        """Whether somebody may get no reply at the moment."""
        if self._silent and self._clock() >= self._silent_until:  # they need not come again to be forgotten
            self._silent.clear()
        return bool(self._silent)

    def is_silent(self, sender: Hashable) -> bool:
        """Return whether a sender gets no reply at the moment."""
        if sender not in self._silent:  # of which there is none, nearly always
            return False
        run = self._runs.get(sender)
        if run is not None and self._clock() < run.silent_until:
            return True
        self._silent.discard(sender)
        return False

    def answered(self, sender: Hashable) -> bool:
        """Record that a sender was answered, once a turn is enough; True when its silence begins."""
        now = self._clock()
        run = self._runs.get(sender)
        if run is None:
            run = self._runs[sender] = _Run(now, now)
            if len(self._runs) > SENDERS:
                self._silent.discard(self._runs.popitem(last=False)[0])
        elif now - run.last > PAUSE_SECONDS:
            run.since, run.count = now, 0
        run.last = now
        run.count += 1
        self._runs.move_to_end(sender)
        if now - run.since < LOOP_SECONDS or now < run.next_silence or run.count < FEWEST * (now - run.since):
            return False
        run.since, run.count = now, 0
        run.silent_until, run.next_silence = now + SILENCE_SECONDS, now + CLIENT_SECONDS
        self._silent_until = run.silent_until
        self._silent.add(sender)
        return True


__all__ = ["REFLECTING_PORTS", "Loops"]
