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
        help="absolute path of the users' file, NAME:HASH a line; with it every client must log in, which only "
        "SOCKS 5 can; unset: nobody needs to",
        source="RFC 1929; sockctl password makes a line",
    )
    allow: tuple[str, ...] = setting(
        (),
        help='only what one of these rules matches is connected to: "[from NETWORK] [user NAME] [to] WHERE[:PORTS]"; '
        "unset: everything that is public",
        source="docs/socks.md",
    )
    deny: tuple[str, ...] = setting(
        (), help="what one of these rules matches is not, whatever allows it", source="docs/socks.md"
    )
    source: str | None = setting(
        None,
        help="our own address that connections leave from; unset: the system's choice",
        source="FAQ III.6",
    )
    negotiation_timeout: Duration = setting(
        Duration(10),
        help="from the connection to the whole request, password included",
        source="a few round trips of a slow network, and what a hash takes",
        unit="seconds",
        low=0.1,
        high=600,
    )
    connect_timeout: Duration = setting(
        Duration(30),
        help="for the name's look-up and all attempts to connect together; for the peer of a BIND as well",
        source="FAQ III.5; the four SYNs of Linux that come within it",
        unit="seconds",
        low=0.1,
        high=600,
    )
    idle_timeout: Duration = setting(
        Duration(3600),
        help="a connection that was made for a client and on which nothing moves for so long is closed",
        source="HAProxy, timeout tunnel: people leave their shells open",
        unit="seconds",
        low=0.1,
        high=7 * 86_400,
    )
    half_close_timeout: Duration = setting(
        Duration(60),
        help="once one side has sent its end of file, how long the other may say nothing",
        source="FAQ II.6; HAProxy, timeout client-fin",
        unit="seconds",
        low=0.1,
        high=86_400,
    )
    udp: bool = setting(True, help="whether UDP ASSOCIATE is served", source="RFC 1928, section 7")
    bind: bool = setting(True, help="whether BIND is served", source="RFC 1928, section 4")


DEFAULT_MAX_CLIENTS = 4096
"""Of a SOCKS service without max_connections; each may hold two descriptors, four with UDP."""
