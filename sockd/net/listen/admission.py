# SPDX-License-Identifier: MIT
"""Admission: networks, concurrent connections, and a token bucket for each source.

Pure bookkeeping: no socket, and the caller passes the clock.  A source is an address cut to its prefix, because a host
has a whole /64 of IPv6 (RFC 6177).  sockd.net.connection.sources counts the connections of a source, where the C core
counts as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sockd.net.address.sockaddr import plain
from sockd.net.connection.sources import Sources
from sockd.net.listen.network_overrides import NetworkOverrides
from sockd.net.listen.rate_overrides import RateOverrides
from sockd.net.listen.refusal import RefusalReason
from sockd.net.listen.token_bucket import TokenBuckets
from sockd.settings.networks import names_among, networks_among

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Callable, Iterable, Sequence

    from sockd.settings.listen import ListenSettings
    from sockd.settings.networks import Client, ClientName, Network

    IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Networks:
    """The clients that are let in.

    Args:
        allow: networks and names; empty for all.
        deny: those that go before those of `allow`.

    Source: hosts_access(5), turned round: what is denied is denied, whatever allows it.
    """

    def __init__(self, allow: Sequence[Client], deny: Sequence[Client]) -> None:
        self._allow, self._allow_names = networks_among(allow), names_among(allow)
        self._deny, self._deny_names = networks_among(deny), names_among(deny)
        self._is_open = not allow  # a CID is for clients of vsock, and closes it to all others

    @property
    def admits_all(self) -> bool:
        """Whether there are no rules."""
        return self._is_open and not self._deny and not self._deny_names

    def admit(self, host: str, name: str | None = None) -> bool:
        """Tell whether a client is let in; where there are no rules, it is.

        Args:
            host: its address.
            name: its confirmed name; None: it has none.
        """
        if self.admits_all:
            return True
        address = plain(host)
        if _is_in(address, self._deny) or _is_named(name, self._deny_names):
            return False
        return self._is_open or _is_in(address, self._allow) or _is_named(name, self._allow_names)

    def asks_name(self, host: str) -> bool:
        """Tell whether the name of a client decides."""
        if not self._allow_names and not self._deny_names:
            return False
        address = plain(host)
        if _is_in(address, self._deny):
            return False
        return bool(self._deny_names) or not (self._is_open or _is_in(address, self._allow))


def source_number(host: str, settings: ListenSettings) -> int:
    """Return a number that all addresses of one source share: its address cut to the prefix of the settings."""
    address = plain(host)
    bits = settings.source_prefix_ipv4 if address.version == 4 else settings.source_prefix_ipv6
    return int(address) >> (address.max_prefixlen - bits) << 8 | address.version


def source_network(host: str, settings: ListenSettings) -> str:
    """Return the network that all addresses of one source share, as text."""
    address = plain(host)
    bits = settings.source_prefix_ipv4 if address.version == 4 else settings.source_prefix_ipv6
    host_bits = address.max_prefixlen - bits
    return f"{type(address)(int(address) >> host_bits << host_bits)}/{bits}"


class AdmissionOverrides(Protocol):
    """What an administrator has set for all listeners of a process."""

    @property
    def network_overrides(self) -> NetworkOverrides:
        """Networks that are denied or allowed."""

    @property
    def rate_overrides(self) -> RateOverrides:
        """Rates of services."""


class Admission:
    """Judges the new connections of one listener, and counts those that it has let in, each once, until their end.

    Args:
        settings: its rules.
        clock: seconds, never going back.
        former: whose socket it is now: its counts stay where sources are the same, its buckets where rates are.
        overrides: what an administrator has set, which decides before the rules do; None: nothing.
        service: its name, for these.

    Attributes:
        sources: the connections that are open, by their source; None where there is no limit for one.
        looks_at_each: whether there is a rule that the C core does not know.
    """

    def __init__(
        self,
        settings: ListenSettings,
        clock: Callable[[], float],
        former: Admission | None = None,
        overrides: AdmissionOverrides | None = None,
        service: str = "",
    ) -> None:
        self._service = service
        self._networks = Networks(settings.allow, settings.deny)
        self._overrides = overrides.network_overrides if overrides else NetworkOverrides()
        self._rates = overrides.rate_overrides if overrides else RateOverrides()
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

    def asks_name(self, host: str) -> bool:
        """Tell whether the name of a client decides; never that of one of a Unix socket, which has no address."""
        return bool(host) and self._networks.asks_name(host)

    def judge(self, host: str, name: str | None = None) -> RefusalReason | None:
        """Decide on a new connection, and count it when it is let in; None: it is.

        Args:
            host: the peer's address; empty for a Unix socket, which is always let in.
            name: its confirmed name, where asks_name().
        """
        if not host:
            return None
        is_allowed = self._overrides.judge(host)
        if is_allowed is False or (is_allowed is None and not self._networks.admit(host, name)):
            return RefusalReason.DENIED
        if self.sources is not None and not self.sources.enter(host):
            return RefusalReason.PER_SOURCE
        if not self._is_within_rate(source_number(host, self._settings)):
            self.release(host)
            return RefusalReason.RATE
        return None

    def _is_within_rate(self, source: int) -> bool:
        is_within = self._rates.judge(self._service, source)
        if is_within is None:
            return self._buckets is None or self._buckets.consume(source)
        return is_within

    def note(self, id: int, host: str) -> None:
        """Remember that a connection of the table counts for a host, which it does already; empty: for none."""
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
        """Count a connection as ended, if it was noted; those that the C core counted, it counts itself."""
        self.release(self._counted.pop(id, ""))

    def release(self, host: str) -> None:
        """Count a connection as ended."""
        if host and self.sources is not None:
            self.sources.leave(host)


def _is_named(name: str | None, names: Iterable[ClientName]) -> bool:
    return name is not None and any(one.matches(name) for one in names)


def _is_in(address: IPAddress, networks: Iterable[Network]) -> bool:
    return any(address.version == one.version and address in one for one in networks)
