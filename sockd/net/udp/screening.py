# SPDX-License-Identifier: MIT
"""Which of the received datagrams are handled: whole ones, of senders that the rules admit, not of ourselves.

The verdict on a host is left with the C core (csrc/datagram_hosts.c), which has it at hand for the next datagram, so
that rules look at a host once and not at each of its datagrams.  Ports that are not answered are looked at each time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sockd._sockbuf import lib
from sockd.net.udp.addresses import asked_address, read_name
from sockd.net.udp.table import MAX_DATAGRAM_BYTES

if TYPE_CHECKING:
    from sockd.net.address.sockaddr import SockAddr
    from sockd.net.listen.listener import DatagramCounts
    from sockd.net.udp.report import DatagramLog
    from sockd.net.udp.rules import DatagramRules
    from sockd.net.udp.table import DatagramTable, Received


class Screening:
    """Judges the datagrams of one socket.

    Args:
        table: has them.
        rules: of the listener.
        own: the name that the socket is bound to.
        tally: counts those that are not handled.
        log: names them.
    """

    def __init__(
        self, table: DatagramTable, rules: DatagramRules, own: object, tally: DatagramCounts, log: DatagramLog
    ) -> None:
        self._table = table
        self._rules = rules
        self._own = own if isinstance(own, tuple) else ("", -1)
        self._tally = tally
        self._log = log
        self._version: object = None
        table.suspect(rules.service_ports)
        if isinstance(own, tuple):
            table.suspect([own[1]])

    def refresh(self) -> None:
        """Forget what was said of hosts, once the rules are others."""
        if self._version is not self._rules.version:
            self._version = self._rules.version
            self._table.forget(admits_all=self._rules.admits_all)

    @property
    def is_current(self) -> bool:
        """Whether the verdicts on the datagrams received last are by the rules of now."""
        return self._version is self._rules.version

    def admits(self, place: int) -> bool:
        """Tell whether a datagram is handled; one that is not is counted and logged."""
        one = self._table.look(place)
        verdict = one.verdict if self.is_current else lib.SB_SENDER_UNKNOWN
        if verdict == lib.SB_SENDER_ADMITTED and not one.is_cut:
            return True
        sender = read_name(one.name)
        is_denied = verdict == lib.SB_SENDER_DENIED
        if verdict == lib.SB_SENDER_UNKNOWN:
            is_denied = not self._rules.admit(sender)
            self._table.judge(place, is_admitted=not is_denied)
        if is_denied:
            self._tally.denied += 1
            self._log.report_datagram(logging.WARNING, "refused: denied", peer=sender)
            return False
        return self._is_wanted(one, sender)

    def _is_wanted(self, one: Received, sender: SockAddr | bytes | None) -> bool:
        if one.is_cut:
            self._tally.truncated += 1
            event = {"max_bytes": MAX_DATAGRAM_BYTES}
            self._log.report_datagram(logging.WARNING, "datagram dropped: too long", event, peer=sender)
        elif self._is_ours(sender, one.control):
            self._tally.service_port += 1
            self._log.report_datagram(logging.WARNING, "not answered: the listener's own address", peer=sender)
        elif self._rules.is_service_port(sender):
            self._tally.service_port += 1
            self._log.report_datagram(logging.WARNING, "not answered: port of a well-known service", peer=sender)
        else:
            return True
        return False

    def _is_ours(self, sender: SockAddr | bytes | None, control: bytes) -> bool:
        """Return whether a datagram has this very socket as sender, which sends itself none."""
        if not isinstance(sender, tuple) or sender[1] != self._own[1]:
            return False
        return sender[0] == (asked_address(control) or self._own[0])


__all__ = ["Screening"]
