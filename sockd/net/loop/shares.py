# SPDX-License-Identifier: MIT
"""Fair shares for sources of a common resource: threads, waiting places, handshakes.

Pure bookkeeping.  A source may use as many as are free for the others, so that one alone gets half of all, the next
one half of the rest, and there is always something for a new source (the dynamic threshold of Choudhury and Hahne,
"Dynamic queue length thresholds for shared-memory packet switches", 1998, with alpha = 1).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import plain

if TYPE_CHECKING:
    from collections.abc import Hashable

    from sockd.net.address.sockaddr import IPAddress

SITE_BITS = 64
"""Of IPv6: RFC 6177."""


def source_key(host: str) -> Hashable:
    """Return the key that all addresses of one source share: an IPv4 address, a /64 of IPv6, or this host's Unix
    sockets.

    Args:
        host: a numeric address; empty for a Unix socket.
    """
    return ip_source_key(plain(host) if host else None)


def ip_source_key(address: IPAddress | None) -> Hashable:
    """Return the same for a parsed address; None for a Unix socket."""
    if address is None:
        return None
    return address if address.version == 4 else int(address) >> SITE_BITS


class Shares:
    """How many of a number of places each source has.

    Args:
        places: how many there are.
        weight: a source may have so many times as many as are free for the others (the alpha of the source above).
    """

    def __init__(self, places: int, weight: int = 1) -> None:
        self._places = places
        self._weight = weight
        self._held: Counter[Hashable] = Counter()
        self._sum = 0

    def __len__(self) -> int:
        return self._sum

    @property
    def is_full(self) -> bool:
        """Whether no place is left."""
        return self._sum >= self._places

    def has(self, source: Hashable) -> int:
        """Return how many places a source has."""
        return self._held[source]

    def may(self, source: Hashable) -> bool:
        """Tell whether a source may have one more."""
        return self._held[source] < self._weight * (self._places - self._sum)

    def acquire(self, source: Hashable) -> None:
        """Take a place."""
        self._held[source] += 1
        self._sum += 1

    def give_back(self, source: Hashable) -> None:
        """Release a place."""
        self._sum -= 1
        self._held[source] -= 1
        if not self._held[source]:
            del self._held[source]

    def largest(self) -> Hashable:
        """Return the source with the most places; there is one."""
        return self._held.most_common(1)[0][0]


__all__ = ["Shares", "ip_source_key", "source_key"]
