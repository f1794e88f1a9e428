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

    on: bool = setting(True, help="whether silent peers are probed at all", source="SO_KEEPALIVE")
    idle: Duration = setting(
        Duration(120),
        help="silence before the first probe",
        source="RFC 9293 asks for 2 hours at least as a default; a service wants to know sooner; TCP_KEEPIDLE",
        unit="seconds",
        low=1,
        high=32_767,
    )
    interval: Duration = setting(
        Duration(30), help="between probes", source="TCP_KEEPINTVL", unit="seconds", low=1, high=32_767
    )
    count: int = setting(
        4, help="probes without an answer until the peer is unreachable", source="TCP_KEEPCNT", low=1, high=127
    )


@dataclass(frozen=True, kw_only=True)
class RateSettings:
    """rate = { ... } of a listener: a token bucket for each source."""

    connections: int = setting(10, help="connections that one source may open", source="", low=1, high=1_000_000)
    per: Duration = setting(
        Duration(1), help="in this time, on average", source="", unit="seconds", low=0.001, high=86_400
    )
    burst: int = setting(20, help="at once, after a silence", source="", low=1, high=1_000_000)


@dataclass(frozen=True, kw_only=True)
class ProxyProtocolSettings:
    """proxy_protocol = { ... } of a listener: proxies that tell who their client is."""

    from_: tuple[str, ...] = setting(
        (),
        help='networks whose connections begin with a PROXY header; "unix:" for whoever connects over a Unix socket',
        source="never guessed: everybody else speaks for himself",
    )
    timeout: Duration = setting(
        Duration(5),
        help="until the header is whole",
        source="3 seconds at least: a lost SYN is repeated after 1 and 3 (proxy-protocol.txt, section 2)",
        unit="seconds",
        low=3,
        high=600,
    )


@dataclass(frozen=True, kw_only=True)
class ListenSettings:
    """[[listen]]: one service on one address, or on several."""

    address: str | None = setting(
        None, help="tcp://host:port, udp://, unix:/path, unixgram:/path, fd:name (passed to us)", source="FAQ II.2"
    )
    addresses: tuple[str, ...] = setting((), help="the same for several addresses", source="FAQ IV.4")
    service: str = setting("", help="a [service] table, a built-in, or module:attribute", source="")
    backlog: int = setting(
        4096,
        help="completed connections that may wait for accept",
        source="net.core.somaxconn of Linux 5.4 and later, which caps it; listen(2), FAQ III.3",
        unit="connections",
        low=1,
        high=65_535,
    )
    nodelay: bool = setting(
        True,
        help="TCP_NODELAY on every accepted connection",
        source="replies are gathered before they are sent, so Nagle would only delay; FAQ II.16",
    )
    reuse_address: bool | None = setting(
        None,
        help="SO_REUSEADDR; unset: on for tcp, so that a restart need not wait for TIME_WAIT, off for udp",
        source="FAQ IV.5",
    )
    reuse_port: bool = setting(False, help="SO_REUSEPORT: several processes share the port", source="FAQ IV.12")
    keepalive: KeepaliveSettings = setting(KeepaliveSettings, help="probes to a silent peer", source="FAQ II.8, IV.7")
    user_timeout: Duration = setting(
        Duration(240),
        help="sent data that is not acknowledged for so long makes the peer unreachable; 0: the system's own",
        source="as long as the keepalive probes take; TCP_USER_TIMEOUT, RFC 5482",
        unit="seconds",
        low=0,
        high=86_400,
    )
    linger: Duration | None = setting(
        None,
        help="SO_LINGER for this time; unset: off, close() returns at once and the kernel delivers",
        source="FAQ IV.6",
        unit="seconds",
        low=1,
        high=600,
    )
    receive_buffer: Size | None = setting(
        None,
        help="SO_RCVBUF; unset: the kernel's own, which grows",
        source="socket(7)",
        unit="bytes",
        low=256,
        high=1024 * MIB,
    )
    send_buffer: Size | None = setting(
        None,
        help="SO_SNDBUF; unset: the kernel's own, which grows",
        source="socket(7)",
        unit="bytes",
        low=256,
        high=1024 * MIB,
    )
    defer_accept: Duration | None = setting(
        None,
        help="wake up only when the peer has spoken, or after this time",
        source="TCP_DEFER_ACCEPT, tcp(7); not for services that greet first",
        unit="seconds",
        low=1,
        high=600,
    )
    fast_open: int | None = setting(
        None, help="TCP_FASTOPEN queue", source="RFC 7413, tcp(7)", unit="connections", low=1, high=65_535
    )
    free_bind: bool = setting(
        False, help="IP_FREEBIND: bind an address that the host does not have yet", source="ip(7)"
    )
    ipv6_only: bool | None = setting(
        None, help="IPV6_V6ONLY; unset: off for [::], which then serves both families", source="ipv6(7)"
    )
    interface: str | None = setting(None, help="SO_BINDTODEVICE: only this interface", source="socket(7)")
    mark: int | None = setting(None, help="SO_MARK of every packet", source="socket(7)", low=0, high=2**32 - 1)
    max_connections: int | None = setting(
        None, help="open at once through this listener", source="", unit="connections", low=1, high=1_000_000
    )
    max_connections_per_source: int | None = setting(
        None,
        help="open at once from one source; unset: 50, and no limit for 127.0.0.0/8 and ::1; 0: no limit",
        source="Postfix smtpd_client_connection_count_limit",
        unit="connections",
        low=0,
        high=1_000_000,
    )
    source_prefix_ipv4: int = setting(32, help="bits that make up a source", source="", unit="bits", low=8, high=32)
    source_prefix_ipv6: int = setting(
        64,
        help="bits that make up a source",
        source="RFC 6177: a site has a /64 at least",
        unit="bits",
        low=16,
        high=128,
    )
    rate: RateSettings | None = setting(None, help="connections of one source in a time", source="")
    at_limit: AtLimit = setting(
        "defer",
        help="past max_connections: wait in the backlog (sources: refuse), say banner and close, or send RST",
        source="",
    )
    banner: str = setting("", help="sent to whom is refused, ended by a newline", source="")
    names: bool = setting(
        False,
        help="look the names of clients up, for the log and for handlers that ask; nothing waits for them",
        source="FAQ IV.10",
    )
    allow: tuple[str, ...] = setting((), help="only these networks are let in", source="tcpd: hosts_access(5)")
    deny: tuple[str, ...] = setting((), help="these networks are not let in", source="tcpd: hosts_access(5)")
    tls: TlsSettings | None = setting(None, help="connections are encrypted", source="RFC 8446, RFC 5246")
    proxy_protocol: ProxyProtocolSettings | None = setting(
        None, help="the client's address comes from a PROXY header", source="HAProxy, proxy-protocol.txt"
    )
    datagram_budget: Size | None = setting(
        None,
        help="bytes of answers to datagrams of one source, whole again after a minute of its silence",
        source="default 1 MiB for built-in services, so that two of them cannot loop; none for handlers",
        unit="bytes",
        low=64 * KIB,
        high=1024 * 1024 * MIB,
    )


@dataclass(frozen=True, kw_only=True)
class ProgramLimits:
    """limits = { ... } of a service that executes a program (setrlimit(2)); unset: as the daemon was started."""

    cpu: Duration | None = setting(
        None,
        help="processor time of one process; then XCPU, and KILL a second later",
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
        help="processes of the program's user, all together; root has no limit",
        source="RLIMIT_NPROC",
        unit="processes",
        low=1,
        high=1_000_000,
    )
    file_size: Size | None = setting(
        None, help="the largest file it may write", source="RLIMIT_FSIZE", unit="bytes", low=0, high=1024 * 1024 * MIB
    )
    wall: Duration | None = setting(
        None,
        help="time until its process group gets TERM, and KILL 5 seconds later",
        source="xinetd has none; systemd.service(5), RuntimeMaxSec",
        unit="seconds",
        low=0.001,
        high=7 * 86_400,
    )


@dataclass(frozen=True, kw_only=True)
class FramingSettings:
    """[service.NAME] framing = { ... }; which key goes with which type is sockd.config_framing's business."""

    type: FramingName | None = setting(None, help="its name", source="")
    max: Size | None = setting(
        None,
        help="longest payload, in the place of max_frame",
        source="",
        unit="bytes",
        low=1,
        high=1024 * MIB,
    )
    ending: LineEnding | None = setting(
        None,
        help="line: what replies end in; same answers each line in kind",
        source="default lf: RFC 9112 2.2",
    )
    delimiter: str | None = setting(None, help="delimiter: what ends a frame, 1 to 8 bytes of UTF-8", source="")
    width: int | None = setting(
        None, help="prefix: bytes of the length, 1, 2, 3, 4 or 8", source="", unit="bytes", low=1, high=8
    )
    order: ByteOrder | None = setting(
        None, help="prefix: which byte of the length comes first", source="default big: network byte order"
    )
    includes_header: bool | None = setting(None, help="prefix: the length counts its own bytes", source="")
    mixed: bool | None = setting(
        None, help="octet-count: a frame that begins with no digit is a line", source="RFC 6587 3.4.2"
    )
    size: Size | None = setting(
        None, help="fixed: bytes of every frame", source="", unit="bytes", low=1, high=1024 * MIB
    )
    format: str | None = setting(None, help='record: as of Python\'s struct module, such as "!IHd"', source="FAQ II.15")


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """[service.NAME]; None means: as the handler's own Service says, else the default."""

    handler: str | None = setting(None, help="module:attribute", source="")
    builtin: str | None = setting(
        None,
        help="upper, echo, discard, chargen, qotd, systat, daytime, time or metrics",
        source="FAQ App. A, RFC 862 to RFC 868",
    )
    exec: tuple[str, ...] | None = setting(
        None, help="a program and its arguments, started for each connection", source="inetd(8), nowait"
    )
    user: str | None = setting(
        None, help="whom a program runs as; only a daemon that stays root has a choice", source=""
    )
    group: str | None = setting(None, help="its group, in place of the user's own", source="")
    environment: tuple[str, ...] | None = setting(
        None,
        help="what a program gets besides the connection's variables: NAME is kept, NAME=value is set",
        source="default PATH alone: the daemon's environment is nobody else's business",
    )
    stderr: str | None = setting(
        None,
        help="where a program's standard error goes: log, socket, null or the absolute path of a file",
        source="default log: inetd's own, the socket, shows errors to the client",
    )
    limits: ProgramLimits | None = setting(None, help="limits of a program", source="")
    relay: RelaySettings | None = setting(None, help="each connection is connected to a target", source="FAQ III.5")
    socks: SocksSettings | None = setting(
        None, help="a SOCKS server, which connects on behalf of its clients", source="RFC 1928, RFC 1929, FAQ III.2"
    )
    metrics: bool | None = setting(
        None, help='true: the daemon\'s numbers, as pages over HTTP; the same as builtin = "metrics"', source=""
    )
    max_instances: int | None = setting(
        None,
        help="programs that run at once, for all listeners; then it is as at_limit says",
        source="default 64: systemd.socket(5), MaxConnections",
        unit="programs",
        low=1,
        high=100_000,
    )
    blocking: bool | None = setting(
        None,
        help="the handler, a function, may block: it runs in one of [daemon] threads",
        source="default false: a function is called in the loop",
    )
    framing: FramingName | FramingSettings | None = setting(
        None, help="how the stream is cut into frames: a name, or a table with more", source=""
    )
    max_frame: Size | None = setting(
        None,
        help="longest frame, its delimiter not counted; longer ones end the connection",
        source="default 64 KiB: asyncio's StreamReader limit",
        unit="bytes",
        low=1,
        high=1024 * MIB,
    )
    idle_timeout: Duration | None = setting(
        None,
        help="a connection on which nothing moves for so long is closed",
        source="default 15 minutes: FAQ II.8",
        unit="seconds",
        low=0.001,
        high=7 * 86_400,
    )
    frame_timeout: Duration | None = setting(
        None,
        help="a frame that is not whole so long after its first byte ends the connection",
        source="default 1 minute: nginx client_header_timeout",
        unit="seconds",
        low=0.001,
        high=86_400,
    )
    write_timeout: Duration | None = setting(
        None,
        help="unsent bytes of which the peer takes none for so long end the connection",
        source="default 1 minute: nginx send_timeout",
        unit="seconds",
        low=0.001,
        high=86_400,
    )
    linger_timeout: Duration | None = setting(
        None,
        help="after our last byte, how long the peer's bytes are discarded until its end of file",
        source="default 5 seconds: nginx lingering_timeout; FAQ II.5",
        unit="seconds",
        low=0,
        high=600,
    )
    goodbye: str | None = setting(
        None,
        help="a last frame for every connection that a stop, or a listener's removal, ends",
        source="421 of RFC 5321, 3.8; default none",
    )
    high_water: Size | None = setting(
        None,
        help="unsent bytes at which a connection is no longer read",
        source="default 64 KiB: asyncio's transports",
        unit="bytes",
        low=1,
        high=1024 * MIB,
    )
    max_buffer: Size | None = setting(
        None,
        help="unsent bytes of one connection past which it is closed",
        source="default 256 MiB: a large reply, not a leak",
        unit="bytes",
        low=1,
        high=1024 * 1024 * MIB,
    )
    max_connections: int | None = setting(
        None, help="open at once, through all listeners", source="", unit="connections", low=1, high=1_000_000
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
