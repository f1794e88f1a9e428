# SPDX-License-Identifier: MIT
"""Which datagrams are answered: networks, ports of other services, a budget for each source.

A service that answers anything answers another one of its kind endlessly, once a third party has sent it one datagram
with the other as sender; and it reflects traffic to forged victims.  Hence two rules for sockd's own small services:
they do not answer ports of other services, and they send a limited number of bytes to each source, which is restored
only while that source is quiet.  So a loop between two of them ends, because it has no pauses.  Handlers, which may
have clients with continuous requests, have a budget if configured; else sockd.net.udp.loops ends their loops.  Pure
bookkeeping: no socket, and the caller passes the clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.listen.admission import Networks, source_number
from sockd.net.listen.network_overrides import NetworkOverrides
from sockd.net.listen.token_bucket import TokenBuckets
from sockd.net.udp.loops import REFLECTING_PORTS
from sockd.settings.listen import DEFAULT_DATAGRAM_BUDGET

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

    from sockd.net.address.sockaddr import SockAddr
    from sockd.settings.listen import ListenSettings

WELL_KNOWN_PORTS = range(1024)
"""The system ports of RFC 6335, section 6, where inetd's own services draw the line as well.  Those that answer
anybody are echo 7 (RFC 862), systat 11 (RFC 866), daytime 13 (RFC 867), qotd 17 (RFC 865), chargen 19 (RFC 864),
time 37 (RFC 868), domain 53 (RFC 1035), tftp 69 (RFC 1350), sunrpc 111 (RFC 1833), ntp 123 (RFC 5905),
netbios-ns 137 (RFC 1002), snmp 161 (RFC 3417), cldap 389 (RFC 1798), isakmp 500 (RFC 7296), rip 520 (RFC 2453).
Port 0 wants no answer (RFC 768)."""
OTHER_SERVICE_PORTS = frozenset({1900, 2049, 3702, 5353, 5683, 11211})
"""Those above: ssdp (UPnP device architecture), nfs (RFC 7530), ws-discovery (OASIS), mdns (RFC 6762),
coap (RFC 7252), memcached (its protocol.txt)."""

_SMALL_PORTS = frozenset(WELL_KNOWN_PORTS) | OTHER_SERVICE_PORTS

BUDGET_SECONDS = 60.0
"""Of silence, until a budget is whole again."""
GRACE_SECONDS = 1.0
"""Of silence that give nothing back: longer than any round trip, so that a loop lives on its budget alone."""
HEADER_BYTES = 28
"""IPv4 and UDP (RFC 791, RFC 768): what an empty answer costs, for empty ones loop as well."""


class DatagramRules:
    """The rules of one datagram listener.

    Args:
        settings: allow, deny, the prefixes of a source, datagram_budget.
        clock: seconds, never going back.
        small: it is one of the small services: ports of services are not answered,
            and there is a budget although none is set.
        overrides: decide before allow and deny do.

    Attributes:
        service_ports: of senders that are not answered.
    """

    def __init__(
        self,
        settings: ListenSettings,
        clock: Callable[[], float],
        *,
        small: bool,
        overrides: NetworkOverrides | None = None,
    ) -> None:
        self._overrides = overrides or NetworkOverrides()
        self._settings = settings
        self._networks = Networks(settings.allow, settings.deny)
        self.service_ports: Collection[int] = _SMALL_PORTS if small else REFLECTING_PORTS
        budget = settings.datagram_budget or (DEFAULT_DATAGRAM_BUDGET if small else None)
        self._buckets = None
        if budget is not None:
            self._buckets = TokenBuckets(budget, budget / BUDGET_SECONDS, clock, grace=GRACE_SECONDS)

    @property
    def version(self) -> object:
        """The same object as long as admit() gives the same answers."""
        return self._overrides.rows

    @property
    def admits_all(self) -> bool:
        """Whether no network decides."""
        return self._networks.admits_all and not self._overrides.rows

    def admit(self, sender: SockAddr | bytes | None) -> bool:
        """Tell whether datagrams of a sender are looked at; over Unix sockets the path's mode decides."""
        if not isinstance(sender, tuple):
            return True
        host = str(sender[0])
        is_allowed = self._overrides.judge(host)
        return self._networks.admit(host) if is_allowed is None else is_allowed

    def is_service_port(self, sender: SockAddr | bytes | None) -> bool:
        """Tell whether a service is asked by what answers anything; a small one, by what may be a service itself."""
        if not isinstance(sender, tuple):
            return False
        return sender[1] in self.service_ports

    def spend(self, sender: SockAddr | bytes, size: int) -> bool:
        """Take an answer of `size` bytes from the sender's budget; False when it is spent."""
        if self._buckets is None:
            return True
        source: Hashable = source_number(str(sender[0]), self._settings) if isinstance(sender, tuple) else sender
        return self._buckets.consume(source, size + HEADER_BYTES)

    @property
    def has_budget(self) -> bool:
        """Whether a loop ends by the budget of its source."""
        return self._buckets is not None
