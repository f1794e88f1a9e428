# SPDX-License-Identifier: MIT
"""Networks that an administrator has denied or allowed while the daemon serves (`sockctl deny`, `sockctl allow`).

One value for all listeners of a process.  It decides before `allow` and `deny` of a listener do, for new connections
and for datagrams; connections that are open stay.  While there is any, listeners accept one by one in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockd.settings.networks import Network


class NetworkOverrides:
    """The networks that are denied or allowed now.

    Attributes:
        rows: each network, and whether it is let in; the latest first, because it decides.
    """

    def __init__(self) -> None:
        self.rows: tuple[tuple[Network, bool], ...] = ()

    def replace(self, rows: Iterable[tuple[Network, bool]]) -> None:
        """Have these decide from now on, the first one that has an address."""
        self.rows = tuple(rows)

    def judge(self, host: str) -> bool | None:
        """Tell whether an address is let in; None: the rules of the listener decide."""
        if not self.rows:
            return None
        address = plain(host)
        for network, is_allowed in self.rows:
            if address.version == network.version and address in network:
                return is_allowed
        return None


__all__ = ["NetworkOverrides"]
