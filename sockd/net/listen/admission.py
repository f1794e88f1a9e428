# SPDX-License-Identifier: MIT
"""Admission: networks, concurrent connections, and a token bucket for each source.

Pure bookkeeping: no socket, and the caller passes the clock.  A source is an address cut to its prefix, because a host
has a whole /64 of IPv6 (RFC 6177).  sockd.net.connection.sources counts the connections of a source, where the C core
counts as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import plain
from sockd.net.connection.sources import Sources
from sockd.net.listen.refusal import RefusalReason
from sockd.net.listen.token_bucket import TokenBuckets

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Callable, Iterable

    from sockd.settings.listen import ListenSettings
    from sockd.settings.networks import Network

    IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Networks:
    """The addresses that are let in.

    Args:
        allow: networks; empty for all.
        deny: networks, which go before those of `allow`.

    Source: hosts_access(5), turned round: what is denied is denied, whatever allows it.
    """

    def __init__(self, allow: Iterable[Network], deny: Iterable[Network]) -> None:
        self._allow = [*allow]
        self._deny = [*deny]

    def admit(self, host: str) -> bool:
        """Tell whether an address is let in; one without rules is."""
        if not self._allow and not self._deny:
            return True
        address = plain(host)
        if _is_in(address, self._deny):
            return False
        return not self._allow or _is_in(address, self._allow)


def source_number(host: str, settings: ListenSettings) -> int:
    """Return a number that all addresses of one source share: its address cut to the prefix of the settings."""
    address = plain(host)
    bits = settings.source_prefix_ipv4 if address.version == 4 else settings.source_prefix_ipv6
    return int(address) >> (address.max_prefixlen - bits) << 8 | address.version


class Admission:
    """Judges the new connections of one listener, and counts those that it has let in, each once, until their end.

    Args:
        settings: its rules.
        clock: seconds, never going back.
        former: whose socket it is now: its counts stay where sources are the same, its buckets where rates are.

    Attributes:
        sources: the connections that are open, by their source; None where there is no limit for one.
        looks_at_each: whether there is a rule that the C core does not know.
    """

    def __init__(self, settings: ListenSettings, clock: Callable[[], float], former: Admission | None = None) -> None:
        self._networks = Networks(settings.allow, settings.deny)
        self._settings = settings
        rate = settings.rate
        self._buckets = None if rate is None else TokenBuckets(rate.burst, rate.connections / rate.per, clock)
        if former is not None and former._is_alike(settings):
            self._buckets = former._buckets
        self.sources: Sources | None = Sources.create(settings, former.sources if former else None)
        self._reported = self.sources.refused if self.sources else 0
        self.looks_at_each = bool(settings.allow or settings.deny or rate)
        self._counted: dict[int, str] = {}

    def _is_alike(self, new: ListenSettings) -> bool:
        old = self._settings
        prefixes = (old.source_prefix_ipv4, old.source_prefix_ipv6) == (new.source_prefix_ipv4, new.source_prefix_ipv6)
        return prefixes and old.rate == new.rate

    def judge(self, host: str) -> RefusalReason | None:
        """Decide on a new connection, and count it when it is let in; None: it is.

        Args:
            host: the peer's address; empty for a Unix socket, which is always let in.
        """
        if not host:
            return None
        if not self._networks.admit(host):
            return RefusalReason.DENIED
        if self.sources is not None and not self.sources.enter(host):
            return RefusalReason.PER_SOURCE
        if self._buckets is not None and not self._buckets.consume(source_number(host, self._settings)):
            self.release(host)
            return RefusalReason.RATE
        return None

    def note(self, id: int, host: str) -> None:
        """Remember that a connection of the set counts for a host, which it does already; empty: for none."""
        if host and self.sources is not None:
            self._counted[id] = host

    def adopt(self, id: int, host: str) -> None:
        """Count a connection that was let in elsewhere."""
        if self.sources is not None and host:
            self.sources.add(host)
            self._counted[id] = host

    def refused_in_c(self) -> tuple[str, int] | None:
        """Return which source was past its limit, and how often one was since the last call, nobody asked."""
        if self.sources is None or (count := self.sources.refused) == self._reported:
            return None
        before, self._reported = self._reported, count
        return self.sources.refused_last, count - before

    def ended(self, id: int) -> None:
        """Count a connection of the set as ended, if it was noted; those that the C core counted, it counts itself."""
        self.release(self._counted.pop(id, ""))

    def release(self, host: str) -> None:
        """Count a connection as ended."""
        if host and self.sources is not None:
            self.sources.leave(host)


def _is_in(address: IPAddress, networks: Iterable[Network]) -> bool:
    return any(address.version == one.version and address in one for one in networks)
