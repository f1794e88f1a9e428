# SPDX-License-Identifier: MIT
"""Settings of a service: handler or program, framing, limits, deadlines."""

# ruff: noqa: RUF009, TC001 - setting() is a field specifier, typed and used like dataclasses.field; annotations are read

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sockd.settings.field import KIB, MIB, setting
from sockd.settings.relay import RelaySettings
from sockd.settings.socks import SocksSettings
from sockd.units import Duration, Size

FramingName = Literal[
    "line", "strict-line", "delimiter", "nul", "netstring", "prefix", "varint", "octet-count", "fixed", "record",
    "dot-block", "blank-line", "raw",
]  # fmt: skip


LineEnding = Literal["lf", "crlf", "same"]


ByteOrder = Literal["big", "little"]


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
    """[service.NAME] framing = { ... }; which key goes with which type is sockd.config.check_framing's business."""

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


__all__ = ["ProgramLimits", "ServiceSettings"]
