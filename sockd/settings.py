"""What can be set: frozen dataclasses, each field with unit, default and source.

The names of the fields are the keys of sockd.toml.  Reading and checking a file
belongs to sockd.config; nothing here imports or opens anything.
"""

# ruff: noqa: RUF009 - setting() is a field specifier, typed and used like dataclasses.field

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sockd.setting import KIB, MIB, Duration, Size, key_of, setting
from sockd.settings_daemon import DaemonSettings, LogFormat, LogLevel, LogSettings, Multiplexer
from sockd.settings_relay import RelaySettings
from sockd.settings_socks import SocksSettings
from sockd.settings_tls import TlsSettings

__all__ = [
    "MIB", "DaemonSettings", "Duration", "KeepaliveSettings", "ListenSettings", "LogFormat", "LogLevel", "LogSettings",
    "Multiplexer", "ProgramLimits", "ProxyProtocolSettings", "RateSettings", "RelaySettings", "ServiceSettings",
    "Settings", "Size", "SocksSettings", "TlsSettings", "key_of",
]  # fmt: skip

AtLimit = Literal["defer", "refuse", "reset"]
FramingName = Literal[
    "line", "strict-line", "delimiter", "nul", "netstring", "prefix", "varint", "octet-count", "fixed", "record",
    "dot-block", "blank-line", "raw",
]  # fmt: skip
LineEnding = Literal["lf", "crlf", "same"]
ByteOrder = Literal["big", "little"]


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
class ProxyProtocolSettings:
    """proxy_protocol = { ... } of a listener: proxies that tell who their client is."""

    from_: tuple[str, ...] = setting(
        (),
        help='networks of the proxies, whose connections begin with a PROXY header; "unix:": all Unix socket clients',
        source="never detected automatically: a header from any other address is not interpreted",
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

    address: str | None = setting(
        None,
        help="tcp://host:port, udp://, unix:/path, unixgram:/path, or fd:name (inherited socket)",
        source="FAQ II.2",
    )
    addresses: tuple[str, ...] = setting((), help="several addresses, in place of address", source="FAQ IV.4")
    service: str = setting("", help="a [service.NAME] table, a built-in service, or module:attribute", source="")
    backlog: int = setting(
        4096,
        help="length of the accept queue: established connections waiting for accept",
        source="default of net.core.somaxconn since Linux 5.4, which caps the value; listen(2), FAQ III.3",
        unit="connections",
        low=1,
        high=65_535,
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
    free_bind: bool = setting(
        False, help="IP_FREEBIND: bind an address even if the host does not have it yet", source="ip(7)"
    )
    ipv6_only: bool | None = setting(
        None, help="IPV6_V6ONLY; unset: off for [::], which then serves both families", source="ipv6(7)"
    )
    interface: str | None = setting(None, help="SO_BINDTODEVICE: use only this network interface", source="socket(7)")
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
        '"refuse" sends banner and closes, "reset" sends RST',
        source="",
    )
    banner: str = setting("", help="line sent to refused clients; a newline is appended", source="")
    names: bool = setting(
        False,
        help="resolve client names for the log, handlers and programs; only starting a program waits for it, up to 5 s",
        source="FAQ IV.10",
    )
    allow: tuple[str, ...] = setting((), help="accept clients from these networks only", source="tcpd: hosts_access(5)")
    deny: tuple[str, ...] = setting((), help="refuse clients from these networks", source="tcpd: hosts_access(5)")
    tls: TlsSettings | None = setting(None, help="encrypt connections with TLS", source="RFC 8446, RFC 5246")
    proxy_protocol: ProxyProtocolSettings | None = setting(
        None, help="take the client's address from a PROXY header", source="HAProxy, proxy-protocol.txt"
    )
    datagram_budget: Size | None = setting(
        None,
        help="bytes of replies to one source; fully restored after one minute without datagrams from it",
        source="default 1 MiB for built-in services, so that two of them cannot loop; no limit for handlers",
        unit="bytes",
        low=64 * KIB,
        high=1024 * 1024 * MIB,
    )


@dataclass(frozen=True, kw_only=True)
class ProgramLimits:
    """limits = { ... } of a service that executes a program (setrlimit(2)); unset: as the daemon was started."""

    cpu: Duration | None = setting(
        None,
        help="CPU time of one process; at the limit SIGXCPU, and SIGKILL one second later",
        source="RLIMIT_CPU",
        unit="seconds",
        low=1,
        high=86_400,
    )
    memory: Size | None = setting(
        None,
        help="address space of one process",
        source="RLIMIT_AS",
        unit="bytes",
        low=MIB,
        high=1024 * 1024 * MIB,
    )
    files: int | None = setting(
        None, help="open files of one process", source="RLIMIT_NOFILE", unit="descriptors", low=3, high=1_000_000
    )
    processes: int | None = setting(
        None,
        help="total processes of the program's user; no limit for root",
        source="RLIMIT_NPROC",
        unit="processes",
        low=1,
        high=1_000_000,
    )
    file_size: Size | None = setting(
        None,
        help="maximum size of a file that it writes",
        source="RLIMIT_FSIZE",
        unit="bytes",
        low=0,
        high=1024 * 1024 * MIB,
    )
    wall: Duration | None = setting(
        None,
        help="run time after which its process group gets SIGTERM, and SIGKILL 5 seconds later",
        source="systemd.service(5), RuntimeMaxSec; xinetd has no such limit",
        unit="seconds",
        low=0.001,
        high=7 * 86_400,
    )


@dataclass(frozen=True, kw_only=True)
class FramingSettings:
    """[service.NAME] framing = { ... }; which key goes with which type is sockd.config_framing's business."""

    type: FramingName | None = setting(None, help="type of framing", source="")
    max: Size | None = setting(
        None,
        help="maximum payload size; replaces max_frame",
        source="",
        unit="bytes",
        low=1,
        high=1024 * MIB,
    )
    ending: LineEnding | None = setting(
        None,
        help='line: line ending of replies; "same" repeats the ending of the line received',
        source="default lf: RFC 9112 2.2",
    )
    delimiter: str | None = setting(None, help="delimiter: text that ends a frame, 1 to 8 bytes of UTF-8", source="")
    width: int | None = setting(
        None, help="prefix: size of the length field, 1, 2, 3, 4 or 8", source="", unit="bytes", low=1, high=8
    )
    order: ByteOrder | None = setting(
        None, help="prefix: byte order of the length field", source="default big: network byte order"
    )
    includes_header: bool | None = setting(None, help="prefix: the length includes the length field itself", source="")
    mixed: bool | None = setting(
        None, help="octet-count: a frame that does not begin with a digit is a line", source="RFC 6587 3.4.2"
    )
    size: Size | None = setting(
        None, help="fixed: size of every frame", source="", unit="bytes", low=1, high=1024 * MIB
    )
    format: str | None = setting(
        None, help='record: format of Python\'s struct module, such as "!IHd"', source="FAQ II.15"
    )


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """[service.NAME]; None means: as the handler's own Service says, else the default."""

    handler: str | None = setting(None, help="Python handler, as module:attribute", source="")
    builtin: str | None = setting(
        None,
        help="built-in service: upper, echo, discard, chargen, qotd, systat, daytime, time or metrics",
        source="FAQ App. A, RFC 862 to RFC 868",
    )
    exec: tuple[str, ...] | None = setting(
        None, help="program and arguments, started for each connection", source="inetd(8), nowait"
    )
    user: str | None = setting(
        None, help="user that the program runs as; only a daemon that stays root can switch users", source=""
    )
    group: str | None = setting(None, help="group that the program runs as; unset: the user's own", source="")
    environment: tuple[str, ...] | None = setting(
        None,
        help="environment of a program besides the connection's variables: NAME is passed on, NAME=value is set",
        source="default PATH only: the daemon's environment is not for programs to see",
    )
    stderr: str | None = setting(
        None,
        help="destination of the program's standard error: log, socket, null or the absolute path of a file",
        source="default log: the default of inetd, the socket, shows errors to the client",
    )
    limits: ProgramLimits | None = setting(None, help="resource limits of the program", source="")
    relay: RelaySettings | None = setting(None, help="forward each connection to a target", source="FAQ III.5")
    socks: SocksSettings | None = setting(
        None, help="SOCKS server, which connects on behalf of its clients", source="RFC 1928, RFC 1929, FAQ III.2"
    )
    metrics: bool | None = setting(
        None, help='true: serve the daemon\'s metrics over HTTP; the same as builtin = "metrics"', source=""
    )
    max_instances: int | None = setting(
        None,
        help="maximum programs running at once, for all listeners; at the maximum, at_limit applies to new connections",
        source="default 64: systemd.socket(5), MaxConnections",
        unit="programs",
        low=1,
        high=100_000,
    )
    blocking: bool | None = setting(
        None,
        help="the handler is a function that may block: run it in one of the [daemon] threads",
        source="default false: a function is called in the event loop",
    )
    framing: FramingName | FramingSettings | None = setting(
        None, help="how the stream is split into frames: a name, or a table with options", source=""
    )
    max_frame: Size | None = setting(
        None,
        help="maximum frame size, without delimiter; a longer frame closes the connection",
        source="default 64 KiB: asyncio's StreamReader limit",
        unit="bytes",
        low=1,
        high=1024 * MIB,
    )
    idle_timeout: Duration | None = setting(
        None,
        help="close a connection after this time without traffic",
        source="default 15 minutes: FAQ II.8",
        unit="seconds",
        low=0.001,
        high=7 * 86_400,
    )
    frame_timeout: Duration | None = setting(
        None,
        help="close a connection if a frame is not complete this long after its first byte",
        source="default 1 minute: nginx client_header_timeout",
        unit="seconds",
        low=0.001,
        high=86_400,
    )
    write_timeout: Duration | None = setting(
        None,
        help="close a connection if the peer takes none of the pending output for this time",
        source="default 1 minute: nginx send_timeout",
        unit="seconds",
        low=0.001,
        high=86_400,
    )
    linger_timeout: Duration | None = setting(
        None,
        help="after the last byte sent, how long to discard input while waiting for the peer's end of file",
        source="default 5 seconds: nginx lingering_timeout; FAQ II.5",
        unit="seconds",
        low=0,
        high=600,
    )
    goodbye: str | None = setting(
        None,
        help="last frame sent to each connection that a graceful stop, or removal of its listener, closes",
        source="RFC 5321, 3.8, reply 421; default none",
    )
    high_water: Size | None = setting(
        None,
        help="pending output at which reading from a connection pauses",
        source="default 64 KiB: asyncio's transports",
        unit="bytes",
        low=1,
        high=1024 * MIB,
    )
    max_buffer: Size | None = setting(
        None,
        help="pending output above which a connection is closed",
        source="default 256 MiB: enough for a large reply, but stops a leak",
        unit="bytes",
        low=1,
        high=1024 * 1024 * MIB,
    )
    max_connections: int | None = setting(
        None, help="maximum open connections, for all listeners", source="", unit="connections", low=1, high=1_000_000
    )

    @property
    def what(self) -> str | None:
        """Which built-in it is; None for all other kinds."""
        return "metrics" if self.metrics else self.builtin


DEFAULT_ENVIRONMENT = ("PATH",)
DEFAULT_STDERR = "log"
DEFAULT_MAX_INSTANCES = 64
DEFAULT_FRAMING: FramingName = "line"
DEFAULT_MAX_FRAME = Size(64 * KIB)
DEFAULT_IDLE_TIMEOUT = Duration(15 * 60)
DEFAULT_FRAME_TIMEOUT = Duration(60)
DEFAULT_WRITE_TIMEOUT = Duration(60)
DEFAULT_MAX_BUFFER = Size(256 * MIB)
DEFAULT_LINGER_TIMEOUT = Duration(5)
DEFAULT_HIGH_WATER = Size(64 * KIB)
DEFAULT_DATAGRAM_BUDGET = Size(MIB)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The whole configuration: the keys of sockd.toml."""

    daemon: DaemonSettings = setting(DaemonSettings, help="the process", source="")
    listen: tuple[ListenSettings, ...] = setting((), help="the listeners", source="")
    service: dict[str, ServiceSettings] = setting(dict, help="the services by name", source="")
