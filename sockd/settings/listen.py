# SPDX-License-Identifier: MIT
"""Settings of a listener: options, admission, PROXY protocol, TLS."""

# ruff: noqa: TC001 - setting() is a field specifier, typed and used like dataclasses.field; annotations are read

from __future__ import annotations

from typing import Literal

from sockd.settings.address import Address
from sockd.settings.field import KIB, MIB, setting, textual
from sockd.settings.hours import DailyHours
from sockd.settings.networks import Client, Network, read_client, read_proxy
from sockd.settings.tls import TlsSettings
from sockd.units import Duration, Size
from sockd.values import dataclass

AtLimit = Literal["defer", "refuse", "reset"]
Ident = Literal["log", "require"]

DEFAULT_DATAGRAM_BUDGET = Size(MIB)
"""Of a built-in service."""


@dataclass(frozen=True, kw_only=True)
class KeepaliveSettings:
    """keepalive = { ... } of a listener (tcp(7), FAQ II.8, IV.7)."""

    on: bool = setting(True, help="send keepalive probes to idle peers", source="SO_KEEPALIVE")
    idle: Duration = setting(
        Duration(120),
        help="idle time before the first probe",
        source="TCP_KEEPIDLE; RFC 9293 requires a default of at least 2 hours, too long for a service",
        unit="seconds",
        low=1,
        high=32_767,
    )
    interval: Duration = setting(
        Duration(30), help="time between probes", source="TCP_KEEPINTVL", unit="seconds", low=1, high=32_767
    )
    count: int = setting(
        4,
        help="unanswered probes after which the peer is considered unreachable",
        source="TCP_KEEPCNT",
        low=1,
        high=127,
    )


@dataclass(frozen=True, kw_only=True)
class RateSettings:
    """rate = { ... } of a listener: a token bucket for each source."""

    connections: int = setting(
        10, help="connections that one source may open per interval, on average", source="", low=1, high=1_000_000
    )
    per: Duration = setting(
        Duration(1), help="length of the interval", source="", unit="seconds", low=0.001, high=86_400
    )
    burst: int = setting(
        20, help="connections that one source may open at once, after a pause", source="", low=1, high=1_000_000
    )


@dataclass(frozen=True, kw_only=True)
class TotalRateSettings:
    """total_rate = { ... } of a listener: a token bucket for all clients together."""

    connections: int = setting(
        50,
        help="connections that all clients may open per interval, on average",
        source="xinetd.conf(5), cps",
        low=1,
        high=1_000_000,
    )
    per: Duration = setting(
        Duration(1), help="length of the interval", source="", unit="seconds", low=0.001, high=86_400
    )
    burst: int | None = setting(
        None,
        help="connections that all clients may open at once; unset: same as connections",
        source="",
        low=1,
        high=1_000_000,
    )
    pause: Duration = setting(
        Duration(0),
        help="after the rate was exceeded, refuse all clients for this time",
        source="xinetd.conf(5), cps: 10 s; with a pause, one client can keep all others out",
        unit="seconds",
        low=0,
        high=86_400,
    )


@dataclass(frozen=True, kw_only=True)
class HostsAccessSettings:
    """hosts_access = { ... } of a listener: the files of libwrap (tcpd)."""

    daemon: str = setting("", help="name of the service in the rules, such as in.fingerd", source="hosts_access(5)")
    allow: str = setting("/etc/hosts.allow", help="file with rules for accepted clients", source="")
    deny: str = setting("/etc/hosts.deny", help="file with rules for refused clients", source="")


@dataclass(frozen=True, kw_only=True)
class ProxyProtocolSettings:
    """proxy_protocol = { ... } of a listener: proxies that send the address of their client."""

    from_: tuple[Network | Literal["unix:"], ...] = setting(
        (),
        help='networks of the proxies, whose connections begin with a PROXY header; "unix:": all Unix socket clients',
        source="never detected automatically: a header from any other address is not interpreted",
        parse=textual(read_proxy),
    )
    timeout: Duration = setting(
        Duration(5),
        help="time limit for the complete header",
        source="at least 3 s: a lost SYN is retransmitted after 1 and 3 s (proxy-protocol.txt, section 2)",
        unit="seconds",
        low=3,
        high=600,
    )


@dataclass(frozen=True, kw_only=True)
class ListenSettings:
    """[[listen]]: one service on one address, or on several."""

    address: Address | None = setting(
        None,
        help="tcp://host:port, udp://, unix:/path, unix:@abstract, unixgram:, unixpacket:, vsock:cid:port, "
        "fd:name (inherited socket)",
        source="FAQ II.2",
        parse=Address.read,
    )
    addresses: tuple[Address, ...] = setting(
        (), help="several addresses, in place of address", source="FAQ IV.4", parse=Address.read
    )
    service: str = setting("", help="a [service.NAME] table, a built-in service, or module:attribute", source="")
    backlog: int = setting(
        4096,
        help="length of the accept queue: established connections waiting for accept",
        source="default of net.core.somaxconn since Linux 5.4, which caps the value; listen(2), FAQ III.3",
        unit="connections",
        low=1,
        high=65_535,
    )
    mode: str | None = setting(
        None,
        help="mode of a Unix socket's path, in octal; a client needs write access; unset: 0777 less the umask",
        source="unix(7)",
    )
    owner: str | None = setting(
        None, help="user that owns a Unix socket's path; unset: the user that binds it", source="chown(2)"
    )
    group: str | None = setting(
        None, help="group of a Unix socket's path; unset: that of the user that binds it", source="chown(2)"
    )
    nodelay: bool = setting(
        True,
        help="TCP_NODELAY on every accepted connection",
        source="replies are batched before they are sent, so Nagle's algorithm would only delay them; FAQ II.16",
    )
    reuse_address: bool | None = setting(
        None,
        help="SO_REUSEADDR; unset: on for tcp, so that a restart does not wait for TIME_WAIT; off for udp",
        source="FAQ IV.5",
    )
    reuse_port: bool = setting(False, help="SO_REUSEPORT: share the port with other processes", source="FAQ IV.12")
    keepalive: KeepaliveSettings = setting(
        KeepaliveSettings, help="TCP keepalive probes to idle peers", source="FAQ II.8, IV.7"
    )
    user_timeout: Duration = setting(
        Duration(240),
        help="how long sent data may stay unacknowledged before the peer counts as unreachable; 0: system default",
        source="TCP_USER_TIMEOUT, RFC 5482; the same time as the keepalive probes take",
        unit="seconds",
        low=0,
        high=86_400,
    )
    linger: Duration | None = setting(
        None,
        help="SO_LINGER timeout; unset: off, close() returns at once and the kernel delivers pending data",
        source="FAQ IV.6",
        unit="seconds",
        low=1,
        high=600,
    )
    receive_buffer: Size | None = setting(
        None,
        help="SO_RCVBUF; unset: sized automatically by the kernel",
        source="socket(7)",
        unit="bytes",
        low=256,
        high=1024 * MIB,
    )
    send_buffer: Size | None = setting(
        None,
        help="SO_SNDBUF; unset: sized automatically by the kernel",
        source="socket(7)",
        unit="bytes",
        low=256,
        high=1024 * MIB,
    )
    defer_accept: Duration | None = setting(
        None,
        help="accept a connection only when the client has sent data, or after this time",
        source="TCP_DEFER_ACCEPT, tcp(7); not for services that send first",
        unit="seconds",
        low=1,
        high=600,
    )
    fast_open: int | None = setting(
        None, help="length of the TCP_FASTOPEN queue", source="RFC 7413, tcp(7)", unit="connections", low=1, high=65_535
    )
    mptcp: bool = setting(
        False,
        help="Multipath TCP, for clients that have it; where the kernel has not, plain TCP, and a line in the log",
        source="RFC 8684; net.mptcp.enabled of sysctl(8)",
    )
    optional: bool = setting(
        False,
        help="start without an address that cannot be bound, report it, and try again; of a name, serve the others",
        source="for an interface, a name or a directory that may come later; the pause grows from 1 s to 1 minute",
    )
    free_bind: bool = setting(
        False, help="IP_FREEBIND: bind an address even if the host does not have it yet", source="ip(7)"
    )
    ipv6_only: bool | None = setting(
        None, help="IPV6_V6ONLY; unset: off for [::], which then serves both families", source="ipv6(7)"
    )
    interface: str | None = setting(None, help="SO_BINDTODEVICE: use only this network interface", source="socket(7)")
    multicast: tuple[str, ...] = setting(
        (),
        help="multicast groups to join, each with its interface: 239.1.2.3%eth0, ff15::1234%eth0; for udp",
        source="ip(7), ipv6(7)",
    )
    broadcast: bool = setting(
        False,
        help="SO_BROADCAST: handlers may send to broadcast addresses; for udp over IPv4",
        source="receiving needs no option; ip(7)",
    )
    mark: int | None = setting(
        None, help="SO_MARK: mark of every packet sent", source="socket(7)", low=0, high=2**32 - 1
    )
    max_connections: int | None = setting(
        None, help="maximum open connections of this listener", source="", unit="connections", low=1, high=1_000_000
    )
    max_connections_per_source: int | None = setting(
        None,
        help="maximum open connections per source; unset: 50, and no limit for 127.0.0.0/8 and ::1; 0: no limit",
        source="Postfix smtpd_client_connection_count_limit",
        unit="connections",
        low=0,
        high=1_000_000,
    )
    source_prefix_ipv4: int = setting(
        32, help="IPv4 prefix length that defines one source", source="", unit="bits", low=8, high=32
    )
    source_prefix_ipv6: int = setting(
        64,
        help="IPv6 prefix length that defines one source",
        source="RFC 6177: a site has at least a /64",
        unit="bits",
        low=16,
        high=128,
    )
    rate: RateSettings | None = setting(None, help="limit on the connection rate of each source", source="")
    at_limit: AtLimit = setting(
        "defer",
        help='above max_connections: "defer" leaves clients in the backlog (per-source excess is refused), '
        '"refuse" sends banner and closes, "reset" sends RST; clients that have sent nothing for half a second '
        "make room first",
        source="",
    )
    banner: str = setting("", help="line sent to refused clients; a newline is appended", source="")
    names: bool = setting(
        False,
        help="resolve client names for the log, handlers and programs; only starting a program waits for it, up to 5 s",
        source="FAQ IV.10",
    )
    allow: tuple[Client, ...] = setting(
        (),
        help='accept only clients from these networks, or with these names: "10.0.0.0/8", "www.example.com", '
        '".example.com", "vsock:2"; names are confirmed by the address that they lead to',
        source="tcpd: hosts_access(5)",
        parse=textual(read_client),
    )
    deny: tuple[Client, ...] = setting(
        (),
        help="refuse clients from these networks, or with these names; takes precedence over allow",
        source="tcpd: hosts_access(5)",
        parse=textual(read_client),
    )
    hosts_access: HostsAccessSettings | None = setting(
        None,
        help="also apply hosts.allow and hosts.deny; changes of these files take effect at once",
        source="hosts_access(5)",
    )
    hours: tuple[DailyHours, ...] = setting(
        (),
        help='accept clients only at these times of the day, local time: "08:00-18:00", "22:00-06:00"',
        source="xinetd.conf(5), access_times",
        parse=textual(DailyHours.read),
    )
    max_load: float | None = setting(
        None,
        help="refuse clients while the load average of the last minute is at least this",
        source="getloadavg(3)",
        low=0.01,
        high=1_000_000,
    )
    total_rate: TotalRateSettings | None = setting(
        None, help="limit on the connection rate of all clients together, in each process", source=""
    )
    deny_time: Duration | None = setting(
        None,
        help="a trap: every client is refused, and its address is denied at all listeners for this time; for a port "
        "to which none of your clients has a reason to connect",
        source="xinetd.conf(5), SENSOR and deny_time",
        unit="seconds",
        low=1,
        high=366 * 86_400,
    )
    ident: Ident | None = setting(
        None,
        help="ask the client's host for the user (RFC 1413), for at most 5 seconds: log it, or require one; clients of "
        "Unix sockets have no host to ask and are served",
        source="xinetd.conf(5), USERID and IDONLY; the administrator of that host decides about the answer",
    )
    greeting_files: tuple[str, ...] = setting(
        (),
        help="files sent to each client first, in this order; read at start and reload",
        source="xinetd.conf(5), banner",
    )
    banner_files: tuple[str, ...] = setting(
        (), help="files sent to refused clients, before banner", source="xinetd.conf(5), banner_fail"
    )
    tls: TlsSettings | None = setting(None, help="encrypt connections with TLS", source="RFC 8446, RFC 5246")
    proxy_protocol: ProxyProtocolSettings | None = setting(
        None, help="take the client's address from a PROXY header", source="HAProxy, proxy-protocol.txt"
    )
    datagram_budget: Size | None = setting(
        None,
        help="bytes of replies to one source; fully restored after one minute without datagrams from it",
        source="default 1 MiB for built-in services, so that two of them cannot loop; no limit for handlers",
        otherwise=DEFAULT_DATAGRAM_BUDGET,
        unit="bytes",
        low=64 * KIB,
        high=1024 * 1024 * MIB,
    )

    @property
    def is_conditional(self) -> bool:
        """Whether what lets clients in changes with time: hours, load, the rate of all of them, files."""
        others = (self.max_load, self.total_rate, self.hosts_access, self.deny_time, self.ident)
        return bool(self.hours) or any(one is not None for one in others)

    @property
    def every(self) -> tuple[Address, ...]:
        """All of its addresses."""
        return self.addresses or (() if self.address is None else (self.address,))


__all__ = [
    "DEFAULT_DATAGRAM_BUDGET",
    "HostsAccessSettings",
    "KeepaliveSettings",
    "ListenSettings",
    "ProxyProtocolSettings",
    "RateSettings",
    "TotalRateSettings",
]
