"""What can be set of a relay."""

# ruff: noqa: RUF009 - setting() is a field specifier, typed and used like dataclasses.field

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sockd.setting import Duration, setting

Balance = Literal["round-robin", "least-connections", "race"]
HeaderVersion = Literal["v1", "v2"]


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """check = { ... } of a relay: whether a target takes connections, asked from time to time."""

    interval: Duration = setting(
        Duration(10),
        help="between two connections of a check to the same target, which are closed as soon as they stand",
        source="HAProxy, inter, has 2 s; nginx asks only its clients' connections",
        unit="seconds",
        low=0.1,
        high=86_400,
    )


@dataclass(frozen=True, kw_only=True)
class RelaySettings:
    """relay = { ... } of a service: each connection is connected to a target."""

    to: tuple[str, ...] = setting(
        (), help="the targets: tcp://host:port or unix:/path; all addresses of a name are tried", source="FAQ III.5"
    )
    balance: Balance = setting(
        "round-robin",
        help="which target is first: the next one, the one with the fewest connections, or whichever answers first",
        source="RFC 8305 for the race",
    )
    proxy_header: HeaderVersion | None = setting(
        None,
        help="tell the target the client's address, before the client's first byte, by a PROXY header",
        source="doc/proxy-protocol.txt of HAProxy",
    )
    via: str | None = setting(
        None, help="reach the targets through a SOCKS server: socks5://host:port or socks5://user@host:port", source=""
    )
    via_password: str | None = setting(
        None,
        help="absolute path of a file whose first line is the user's password there; read before rights are dropped",
        source="RFC 1929",
    )
    connect_timeout: Duration = setting(
        Duration(10),
        help="for everything from the client's connection to the target's, all targets that are tried together",
        source="a SYN is repeated after 1, 3 and 7 s (tcp(7))",
        unit="seconds",
        low=0.1,
        high=600,
    )
    half_close_timeout: Duration = setting(
        Duration(60),
        help="once one side has sent its end of file, how long the other may say nothing",
        source="FAQ II.6; HAProxy, timeout client-fin and server-fin",
        unit="seconds",
        low=0.1,
        high=86_400,
    )
    retry_after: Duration = setting(
        Duration(10),
        help="how long a target that could not be connected to is left aside; with check, until a check reaches it",
        source="nginx, fail_timeout",
        unit="seconds",
        low=0.1,
        high=86_400,
    )
    check: CheckSettings | None = setting(None, help="connect to each target from time to time", source="")


DEFAULT_MAX_RELAYED = 4096
"""Of a relay without max_connections; each holds two descriptors."""
