# SPDX-License-Identifier: MIT
"""What can be set of a relay."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, Literal

from sockd.errors import AddressError
from sockd.lazy import pattern
from sockd.settings.address import Address
from sockd.settings.field import setting
from sockd.units import Duration
from sockd.values import dataclass

if TYPE_CHECKING:
    from sockd.settings.address import Services


class TargetState(Enum):
    """What an administrator has decided about a target (`sockctl target`), whatever health checks have found."""

    UP = "up"
    """New clients are sent there."""
    DRAINED = "drained"
    """New clients are not; those that it has stay."""
    DOWN = "down"
    """New clients are not, and those that it has are closed."""


Balance = Literal["round-robin", "least-connections", "race"]
HeaderVersion = Literal["v1", "v2"]


MAX_USER_BYTES = 255  # RFC 1929


DEFAULT_PORT = 1080  # RFC 1928, section 3


_VIA = pattern(r"socks5://(?:(?P<user>[^@]*)@)?(?P<host>\[[^\]]*\]|[^:@/\[\]]+)(?::(?P<port>[^:@/]*))?/?")


_FORM = "socks5://host:port or socks5://user@host:port"


@dataclass(frozen=True)
class SocksUrl:
    """A SOCKS server on the way; `address` is one of tcp."""

    address: Address
    user: str | None = None

    def __str__(self) -> str:
        user = "" if self.user is None else f"{self.user}@"
        return f"socks5://{user}{str(self.address).removeprefix('tcp://')}"


def read_via(text: str, services: Services | None = None) -> SocksUrl:
    """Read socks5://user@host:port; without a port it is 1080.

    Raises:
        ValueError: it is not one; the message follows the text.
    """
    found = _VIA.fullmatch(text)
    if found is None:
        raise ValueError(f"is not a SOCKS server; write {_FORM}")
    user: str | None = found["user"]
    if user is not None and ":" in user:
        raise ValueError("contains a password, which others could read; write user@ alone")
    if user is not None and not 1 <= len(os.fsencode(user)) <= MAX_USER_BYTES:
        raise ValueError(f"has a user of {len(os.fsencode(user))} bytes; 1 to {MAX_USER_BYTES} are allowed (RFC 1929)")
    try:
        address = Address.parse(f"tcp://{found['host']}:{found['port'] or DEFAULT_PORT}", services=services)
    except AddressError as error:
        raise ValueError(f"is not a SOCKS server: {error}") from None
    return SocksUrl(address, user)


def read_target(text: str, services: Services | None = None) -> Address:
    """Read the address of a target.

    Raises:
        ValueError: it cannot be a target; the message follows the text.
    """
    try:
        address = Address.parse(text, services=services)
    except AddressError as error:
        raise ValueError(f"is not a valid target: {error}") from None
    if address.scheme not in ("tcp", "unix"):
        raise ValueError("is not a valid target; write tcp://host:port or unix:/path")
    if address.scheme == "tcp" and address.port == 0:
        raise ValueError("has port 0, which cannot be connected to; write the target's port")
    return address


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """check = { ... } of a relay: periodic checks of its targets."""

    interval: Duration = setting(
        Duration(10),
        help="time between two checks of a target; each check connects and closes at once",
        source="HAProxy, inter, has 2 s; nginx checks targets only by its clients' connections",
        unit="seconds",
        low=0.1,
        high=86_400,
    )


@dataclass(frozen=True, kw_only=True)
class RelaySettings:
    """relay = { ... } of a service: each connection is connected to a target."""

    to: tuple[Address, ...] = setting(
        (),
        help="list of targets: tcp://host:port or unix:/path; all addresses of a host name are tried",
        source="FAQ III.5",
        parse=read_target,
    )
    balance: Balance = setting(
        "round-robin",
        help="which target to try first: the next in turn, the one with the fewest connections, or the first to answer",
        source="RFC 8305 for the race",
    )
    proxy_header: HeaderVersion | None = setting(
        None,
        help="send the client's address to the target in a PROXY header, before the client's first byte",
        source="doc/proxy-protocol.txt of HAProxy",
    )
    via: SocksUrl | None = setting(
        None,
        help="connect to targets through a SOCKS server: socks5://host:port or socks5://user@host:port",
        source="",
        parse=read_via,
    )
    via_password: str | None = setting(
        None,
        help="absolute path of a file with the SOCKS password in its first line; read before privileges are dropped",
        source="RFC 1929",
    )
    connect_timeout: Duration = setting(
        Duration(10),
        help="time limit for connecting to a target, counted from the client's connection, for all attempts together",
        source="a SYN is retransmitted after 1, 3 and 7 s (tcp(7))",
        unit="seconds",
        low=0.1,
        high=600,
    )
    half_close_timeout: Duration = setting(
        Duration(60),
        help="after an end of file from one side, how long the other side may be idle",
        source="FAQ II.6; HAProxy, timeout client-fin and server-fin",
        unit="seconds",
        low=0.1,
        high=86_400,
    )
    retry_after: Duration = setting(
        Duration(10),
        help="how long to skip a target after a failed connection attempt; with check, until a check succeeds",
        source="nginx, fail_timeout",
        unit="seconds",
        low=0.1,
        high=86_400,
    )
    check: CheckSettings | None = setting(None, help="check each target periodically, by connecting to it", source="")


DEFAULT_MAX_RELAYED = 4096
"""Of a relay without max_connections; each holds two descriptors."""


__all__ = [
    "DEFAULT_MAX_RELAYED",
    "CheckSettings",
    "RelaySettings",
    "SocksUrl",
    "TargetState",
    "read_target",
    "read_via",
]
