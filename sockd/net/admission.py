"""Who is let in: networks, connections at once, and a token bucket for each source.

Pure bookkeeping: no socket, and the clock is passed in.  A source is an address
cut to its prefix, for a host has a whole /64 of IPv6 (RFC 6177).  A listener
without any rule has no Admission, and accepts in C.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError
from sockd.net.bucket import Buckets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sockd.settings import ListenSettings

    IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Verdict(enum.Enum):
    """What becomes of a new connection; the value is the word in the log."""

    ADMITTED = "admitted"
    DENIED = "denied"
    TOO_MANY = "too many of this source"
    TOO_FAST = "too many of this source in a time"


def network(text: str, key: str) -> Network:
    """Read `10.0.0.0/8`, `::1` or `192.0.2.7`.

    Raises:
        ConfigurationError: it is no network; the message names the key.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigurationError(f"{key}: {error}") from None


def plain(host: str) -> IPAddress:
    """Return the address of a peer; an IPv4-mapped one (RFC 4291) as IPv4, without a scope."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


class Networks:
    """The addresses that are let in.

    Args:
        allow: networks; empty for all.
        deny: networks, which go before those of `allow`.

    Raises:
        ConfigurationError: one is no network.

    Source: hosts_access(5), turned round: what is denied is denied, whatever allows it.
    """

    def __init__(self, allow: Iterable[str], deny: Iterable[str]) -> None:
        self._allow = [network(text, "allow") for text in allow]
        self._deny = [network(text, "deny") for text in deny]

    def admit(self, host: str) -> bool:
        """Tell whether an address is let in; one without rules is."""
        if not self._allow and not self._deny:
            return True
        address = plain(host)
        if _is_in(address, self._deny):
            return False
        return not self._allow or _is_in(address, self._allow)


def source_of(host: str, settings: ListenSettings) -> int:
    """Return a number that all addresses of one source share: its address cut to the prefix of the settings."""
    address = plain(host)
    bits = settings.source_prefix_ipv4 if address.version == 4 else settings.source_prefix_ipv6
    return int(address) >> (address.max_prefixlen - bits) << 8 | address.version


class Admission:
    """Judges the new connections of one listener.

    Args:
        settings: its rules.
        clock: seconds, never going back.
    """

    def __init__(self, settings: ListenSettings, clock: Callable[[], float]) -> None:
        self._networks = Networks(settings.allow, settings.deny)
        self._settings = settings
        self._most = settings.max_connections_per_source
        rate = settings.rate
        self._buckets = None if rate is None else Buckets(rate.burst, rate.connections / rate.per, clock)
        self._open: dict[int, int] = {}

    def take_over(self, former: Admission) -> None:
        """Go on where another stopped: with its counts where sources are the same, with its buckets where rates are."""
        old, new = former._settings, self._settings
        if (old.source_prefix_ipv4, old.source_prefix_ipv6) != (new.source_prefix_ipv4, new.source_prefix_ipv6):
            return
        self._open = former._open
        if old.rate == new.rate:
            self._buckets = former._buckets

    @staticmethod
    def wanted(settings: ListenSettings) -> bool:
        """Tell whether a listener has any rule."""
        return bool(settings.allow or settings.deny or settings.max_connections_per_source or settings.rate)

    def source(self, host: str) -> int:
        """Return a number that all addresses of one source share."""
        return source_of(host, self._settings)

    def judge(self, host: str) -> Verdict:
        """Decide on a new connection, and count it when it is let in.

        Args:
            host: the peer's address; empty for a Unix socket, which is always let in.
        """
        if not host:
            return Verdict.ADMITTED
        if not self._networks.admit(host):
            return Verdict.DENIED
        source = self.source(host)
        if self._most is not None and self._open.get(source, 0) >= self._most:
            return Verdict.TOO_MANY
        if self._buckets is not None and not self._buckets.take(source):
            return Verdict.TOO_FAST
        self.count(host)
        return Verdict.ADMITTED

    def count(self, host: str) -> None:
        """Count a connection that was let in already, elsewhere or just now."""
        if host and self._most is not None:
            source = self.source(host)
            self._open[source] = self._open.get(source, 0) + 1

    def release(self, host: str) -> None:
        """Count a connection as ended."""
        if not host or self._most is None:
            return
        source = self.source(host)
        left = self._open.get(source, 0) - 1
        if left > 0:
            self._open[source] = left
        else:
            self._open.pop(source, None)


def _is_in(address: IPAddress, networks: Iterable[Network]) -> bool:
    return any(address.version == one.version and address in one for one in networks)
