# SPDX-License-Identifier: MIT
"""What a datagram socket sends: the answers to a batch in one call, later ones and those to others one by one.

A reply that the kernel does not accept at once is dropped, as UDP may; so is one that is too long, with a log line. The
budget of a source and the silence that breaks a loop (sockd.net.udp.loops) apply to every one.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING

from sockd.net.udp.addresses import read_name
from sockd.net.udp.loops import Loops
from sockd.net.udp.table import MAX_DATAGRAM_BYTES

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.address.sockaddr import SockAddr
    from sockd.net.listen.listener import DatagramCounts
    from sockd.net.udp.report import DatagramLog
    from sockd.net.udp.rules import DatagramRules
    from sockd.net.udp.table import DatagramTable, Failures


class Replies:
    """Sends the replies of one socket.

    Args:
        sock: whose they are.
        table: has the datagrams of the batch that is handled.
        rules: of the listener.
        clock: seconds, never going back.
        tally: counts what became of them.
        log: names those that were dropped.
    """

    def __init__(
        self,
        sock: socket.socket,
        table: DatagramTable,
        rules: DatagramRules,
        clock: Callable[[], float],
        tally: DatagramCounts,
        log: DatagramLog,
    ) -> None:
        self._socket = sock
        self._table = table
        self._rules = rules
        self._has_budget = rules.has_budget
        self._loops = Loops(clock)
        self._tally = tally
        self._log = log
        self._last_answered: SockAddr | bytes | None = None
        self._last_place = 0

    @property
    def are_judged(self) -> bool:
        """Whether not everybody is answered at the moment, or not without limit."""
        return self._has_budget or self._loops.has_silent

    # ---- to datagrams of the batch

    def add(self, place: int, reply: bytes) -> None:
        """Answer a datagram of the batch, when flush() is called."""
        is_judged = self.are_judged and len(reply) <= MAX_DATAGRAM_BYTES
        if is_judged and not self._may_send(self._table.sender(place), len(reply)):
            return
        self._last_place = place
        if not self._table.add(place, reply):
            self.flush()

    def flush(self) -> None:
        """Send what was added."""
        if self._table.waiting and self._socket.fileno() >= 0:
            answered, failures = self._table.flush()
            self._count(answered, failures)
            if answered:
                self._last_answered = self._table.sender(self._last_place)

    def exchanged(self, answered: int, last: bytes, failures: Failures | None) -> None:
        """Record what the table has sent by itself."""
        if last:
            self._last_answered = read_name(last)
        self._count(answered, failures or ())

    def _count(self, answered: int, failures: Failures) -> None:
        self._tally.answered += answered
        for place, size, error in failures:
            if error > 0:  # else its sender has no name
                self._drop(self._table.sender(place), size, OSError(error, os.strerror(error)))

    # ---- one by one

    def send_later(self, reply: bytes, name: bytes, control: bytes) -> None:
        """Answer a datagram of an earlier batch."""
        self.flush()  # what was said before comes before
        sender = read_name(name)
        if not sender or not self._may_send(sender, len(reply)):
            return
        try:
            self._table.answer_later(reply, name, control)
        except OSError as error:
            self._drop(sender, len(reply), error)
        else:
            self._sent_to(sender)

    def send_to(self, data: bytes, receiver: SockAddr | bytes) -> None:
        """Send a datagram to anybody."""
        self.flush()
        if not self._may_send(receiver, len(data)):
            return
        try:
            self._socket.sendto(data, receiver)
        except OSError as error:
            self._drop(receiver, len(data), error)
        else:
            self._sent_to(receiver)

    def _sent_to(self, receiver: SockAddr | bytes) -> None:
        self._tally.answered += 1
        self._last_answered = receiver

    # ---- rules

    def _may_send(self, receiver: SockAddr | bytes | None, size: int) -> bool:
        if not receiver:
            return True
        if size > MAX_DATAGRAM_BYTES:
            self._drop(receiver, size, OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE)))
        elif self._loops.is_silent(receiver):
            self._tally.over_budget += 1
        elif not self._rules.spend(receiver, size):
            self._tally.over_budget += 1
            self._log.report_datagram(
                logging.WARNING, "not answered: datagram budget of the source exceeded", peer=receiver
            )
        else:
            return True
        return False

    def look_for_loops(self) -> None:
        """Record the last sender answered in this turn: one that is answered endlessly is the last one sooner or
        later.
        """
        sender, self._last_answered = self._last_answered, None
        if sender and not self._has_budget and self._loops.answered(sender):
            event = {"why": "answered for several seconds without a pause"}
            self._log.report_datagram(logging.WARNING, "not answered for a moment, to break a loop", event, peer=sender)

    def _drop(self, receiver: SockAddr | bytes | None, size: int, error: OSError) -> None:
        self._tally.dropped += 1
        level = logging.WARNING if error.errno == errno.EMSGSIZE else logging.DEBUG
        self._log.report_datagram(level, "reply dropped", {"bytes": size, "error": str(error)}, peer=receiver)


__all__ = ["Replies"]
