"""Who is let in: networks, connections at once, and a token bucket for each source.

Pure bookkeeping: no socket, and the clock is passed in.  A source is an address
cut to its prefix, for a host has a whole /64 of IPv6 (RFC 6177).  A listener
without any rule has no Admission, and accepts in C.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sockd.settings import ListenSettings, RateSettings

    IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

BUCKETS = 65_536
"""Sources remembered at once; full ones are forgotten first, which changes nothing."""
SWEEP_SECONDS = 60.0


class Verdict(enum.Enum):
    """What becomes of a new connection; the value is the word in the log."""

    ADMITTED = "admitted"
    DENIED = "denied"
    TOO_MANY = "too many of this source"
    TOO_FAST = "too many of this source in a time"


@dataclass
class _Bucket:
    tokens: float
    at: float


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


class Admission:
    """Judges the new connections of one listener.

    Args:
        settings: its rules.
        clock: seconds, never going back.
    """

    def __init__(self, settings: ListenSettings, clock: Callable[[], float]) -> None:
        self._allow = [network(text, "allow") for text in settings.allow]
        self._deny = [network(text, "deny") for text in settings.deny]
        self._most = settings.max_connections_per_source
        self._rate: RateSettings | None = settings.rate
        self._bits = {4: settings.source_prefix_ipv4, 6: settings.source_prefix_ipv6}
        self._clock = clock
        self._open: dict[int, int] = {}
        self._buckets: dict[int, _Bucket] = {}
        self._swept = clock()

    @staticmethod
    def wanted(settings: ListenSettings) -> bool:
        """Tell whether a listener has any rule."""
        return bool(settings.allow or settings.deny or settings.max_connections_per_source or settings.rate)

    def source(self, host: str) -> int:
        """Return a number that all addresses of one source share."""
        address = plain(host)
        cut = int(address) >> (address.max_prefixlen - self._bits[address.version])
        return cut << 8 | address.version

    def judge(self, host: str) -> Verdict:
        """Decide on a new connection, and count it when it is let in.

        Args:
            host: the peer's address; empty for a Unix socket, which is always let in.
        """
        if not host:
            return Verdict.ADMITTED
        if not self._is_allowed(plain(host)):
            return Verdict.DENIED
        source = self.source(host)
        if self._most is not None and self._open.get(source, 0) >= self._most:
            return Verdict.TOO_MANY
        if self._rate is not None and not self._take_token(source, self._rate):
            return Verdict.TOO_FAST
        if self._most is not None:
            self._open[source] = self._open.get(source, 0) + 1
        return Verdict.ADMITTED

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

    def _is_allowed(self, address: IPAddress) -> bool:
        if _is_in(address, self._deny):
            return False
        return not self._allow or _is_in(address, self._allow)

    def _take_token(self, source: int, rate: RateSettings) -> bool:
        now = self._clock()
        if now - self._swept > SWEEP_SECONDS or len(self._buckets) >= BUCKETS:
            self._sweep(now, rate)
        bucket = self._buckets.get(source)
        if bucket is None:
            if len(self._buckets) >= BUCKETS:  # as many sources within a burst's time: none is remembered
                return True
            bucket = self._buckets[source] = _Bucket(rate.burst, now)
        bucket.tokens = min(rate.burst, bucket.tokens + (now - bucket.at) * rate.connections / rate.per)
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _sweep(self, now: float, rate: RateSettings) -> None:
        """Forget the sources whose bucket has filled up again."""
        speed = rate.connections / rate.per
        full = [source for source, one in self._buckets.items() if one.tokens + (now - one.at) * speed >= rate.burst]
        for source in full:
            del self._buckets[source]
        self._swept = now


def _is_in(address: IPAddress, networks: Iterable[Network]) -> bool:
    return any(address.version == one.version and address in one for one in networks)
