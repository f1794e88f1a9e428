# SPDX-License-Identifier: MIT
"""How many connections are open from each source: the table of csrc/sources.c, in which C counts what it accepts.

Code that accepts one by one counts in the same table, so that a limit holds whichever way a connection was accepted.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Any

from sockd._sockbuf import ffi, lib
from sockd.net.address.sockaddr import SocketAddress
from sockd.values import dataclass

if TYPE_CHECKING:
    from sockd.settings.listen import ListenSettings

MAX_PER_SOURCE = 50
"""Connections of one source where nothing is set: half of Postfix's 100 processes, and its default (anvil(8),
smtpd_client_connection_count_limit)."""


@dataclass(frozen=True)
class Sourcing:
    """What defines a source, and whether this host is one: tables with the same values can be continued."""

    prefix_ipv4: int
    prefix_ipv6: int
    loopback: bool


class Sources:
    """Open connections, by their source.

    Args:
        limit: of one source.
        sourcing: what a source is; without loopback, connections of this host itself are not counted.

    Attributes:
        handle: for the C core; valid as long as this lives.
    """

    def __init__(self, limit: int, sourcing: Sourcing) -> None:
        rule: dict[str, Any] = {"max": limit, "loopback": sourcing.loopback}
        rule |= {"prefix4": sourcing.prefix_ipv4, "prefix6": sourcing.prefix_ipv6}
        made = lib.sb_sources_new(ffi.new("sb_sources_rule *", rule | {"seed": int.from_bytes(os.urandom(8))}))
        if made == ffi.NULL:
            raise MemoryError("no room for a table of sources")
        self.handle = ffi.gc(made, lib.sb_sources_free)
        self.sourcing = sourcing

    @classmethod
    def create(cls, settings: ListenSettings, former: Sources | None = None) -> Sources | None:
        """Return the table for a listener: the former one with its counts, if sources are defined in the same way.

        Returns:
            None if the settings have no limit.
        """
        asked = settings.max_connections_per_source
        if asked == 0:
            return None
        limit = MAX_PER_SOURCE if asked is None else asked
        sourcing = Sourcing(settings.source_prefix_ipv4, settings.source_prefix_ipv6, asked is not None)
        if former is None or former.sourcing != sourcing:
            return cls(limit, sourcing)
        lib.sb_sources_limit(former.handle, limit)
        return former

    def enter(self, host: str) -> bool:
        """Count one more; False if that exceeds the limit.

        Args:
            host: its numeric address; empty for a Unix socket, which is not counted.
        """
        peer = _packed(host)
        return int(lib.sb_sources_enter(self.handle, peer, len(peer))) >= 0

    def add(self, host: str) -> None:
        """Count one that was accepted elsewhere, also above the limit."""
        peer = _packed(host)
        lib.sb_sources_add(self.handle, peer, len(peer))

    def leave(self, host: str) -> None:
        """Count one less."""
        self.leave_packed(_packed(host))

    def leave_packed(self, peer: bytes) -> None:
        """Count one less, by its struct sockaddr."""
        lib.sb_sources_leave(self.handle, peer, len(peer))

    @property
    def refused(self) -> int:
        """Number of connections refused by the limit."""
        return int(lib.sb_sources_refused(self.handle))

    @property
    def refused_last(self) -> str:
        """The last source that exceeded it, as a network."""
        key = ffi.new("char[16]")
        bits = int(lib.sb_sources_refused_last(self.handle, key))
        address = ipaddress.IPv6Address(ffi.buffer(key)[:])
        if address.ipv4_mapped is not None:
            return str(ipaddress.IPv4Network((address.ipv4_mapped, bits))).removesuffix("/32")
        return str(ipaddress.IPv6Network((address, bits))).removesuffix("/128")


def _packed(host: str) -> bytes:
    bare = host.partition("%")[0]
    return SocketAddress(socket.AF_INET6 if ":" in bare else socket.AF_INET, bare).packed() if bare else b""


__all__ = ["MAX_PER_SOURCE", "Sources", "Sourcing"]
