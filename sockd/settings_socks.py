"""What can be set of a SOCKS server."""

# ruff: noqa: RUF009 - setting() is a field specifier, typed and used like dataclasses.field

from __future__ import annotations

from dataclasses import dataclass

from sockd.setting import Duration, setting


@dataclass(frozen=True, kw_only=True)
class SocksSettings:
    """socks = { ... } of a service: SOCKS 4, 4a and 5."""

    users: str | None = setting(
        None,
        help="absolute path of a user file with lines NAME:HASH; if set, every client must log in, which only SOCKS 5 "
        "supports; unset: no login",
        source="RFC 1929; sockctl password prints such a line",
    )
    allow: tuple[str, ...] = setting(
        (),
        help='rules that allow a destination: "[from NETWORK] [user NAME] [to] WHERE[:PORTS]"; all others are refused; '
        "unset: all public addresses",
        source="docs/socks.md",
    )
    deny: tuple[str, ...] = setting(
        (),
        help="rules that deny a destination, in the same form; deny takes precedence over allow",
        source="docs/socks.md",
    )
    source: str | None = setting(
        None,
        help="local source address of outgoing connections; unset: chosen by the system",
        source="FAQ III.6",
    )
    negotiation_timeout: Duration = setting(
        Duration(10),
        help="time limit from the connection to the complete request, including login",
        source="a few round trips on a slow network, plus the time of a password hash",
        unit="seconds",
        low=0.1,
        high=600,
    )
    connect_timeout: Duration = setting(
        Duration(30),
        help="time limit for name resolution and all connection attempts together; also for the peer of a BIND",
        source="FAQ III.5; Linux retransmits a SYN four times in this time",
        unit="seconds",
        low=0.1,
        high=600,
    )
    idle_timeout: Duration = setting(
        Duration(3600),
        help="close a connection made for a client after this time without traffic",
        source="HAProxy, timeout tunnel; interactive shells stay open while idle",
        unit="seconds",
        low=0.1,
        high=7 * 86_400,
    )
    half_close_timeout: Duration = setting(
        Duration(60),
        help="after an end of file from one side, how long the other side may be idle",
        source="FAQ II.6; HAProxy, timeout client-fin",
        unit="seconds",
        low=0.1,
        high=86_400,
    )
    udp: bool = setting(True, help="serve UDP ASSOCIATE", source="RFC 1928, section 7")
    bind: bool = setting(True, help="serve BIND", source="RFC 1928, section 4")


DEFAULT_MAX_CLIENTS = 4096
"""Of a SOCKS service without max_connections; each may hold two descriptors, four with UDP."""
