# SPDX-License-Identifier: MIT
"""Networks that are denied or allowed while the daemon serves: by an administrator (`sockctl deny`, `sockctl allow`),
or because a client came to a listener with `deny_time`.

One value for all listeners of a process.  It decides before `allow` and `deny` of a listener do, for new connections
and for datagrams; connections that are open stay.  While there is any, listeners accept one by one in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sockd.settings.networks import Network


class NetworkOverrides:
    """The networks that are denied or allowed now.

    Attributes:
        rows: each network, and whether it is let in; the first that has an address decides.
        report: called with a network and a time in seconds, for which it is to be denied at all listeners.
    """

    def __init__(self) -> None:
        self.rows: tuple[tuple[Network, bool], ...] = ()
        self.report: Callable[[str, float], None] = lambda _network, _seconds: None
        self._tables: dict[tuple[int, int], dict[int, tuple[int, bool]]] = {}

    def replace(self, rows: Iterable[tuple[Network, bool]]) -> None:
        """Have these decide from now on, the first one that has an address."""
        self.rows = tuple(rows)
        self._tables = {}  # (version, host bits) -> network number -> (rank, is_allowed): one look for each length
        for rank, (network, is_allowed) in enumerate(self.rows):
            bits = network.max_prefixlen - network.prefixlen
            table = self._tables.setdefault((network.version, bits), {})
            table.setdefault(int(network.network_address) >> bits, (rank, is_allowed))

    def judge(self, host: str) -> bool | None:
        """Tell whether an address is let in; None: the rules of the listener decide."""
        if not self.rows:
            return None
        address = plain(host)
        number = int(address)
        found = [
            table[number >> bits]
            for (version, bits), table in self._tables.items()
            if version == address.version and number >> bits in table
        ]
        return min(found)[1] if found else None


__all__ = ["NetworkOverrides"]
