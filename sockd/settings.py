"""What can be set: frozen dataclasses, each field with unit, default and source.

The names of the fields are the keys of sockd.toml.  Reading and checking a file
belongs to sockd.config; nothing here imports or opens anything.
"""

# ruff: noqa: ANN401, RUF009 - setting() is a field specifier, typed and used like dataclasses.field

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

KIB = 1024
MIB = 1024 * KIB

Multiplexer = Literal["auto", "epoll", "poll", "select"]
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
FramingName = Literal["line", "raw"]


class Size(int):
    """A number of bytes; in TOML an integer or text such as "64 KiB" or "100 KB"."""


class Duration(float):
    """A number of seconds; in TOML a number or text such as "500ms" or "15m"."""


def setting(
    default: Any,
    *,
    help: str,
    source: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Declare one setting; a callable default makes a fresh value each time."""
    about = {"help": help, "source": source, "unit": unit, "low": low, "high": high}
    if callable(default):
        return field(default_factory=default, metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """[daemon] log = { ... }"""

    format: LogFormat = setting("text", help="one line an event", source="text for people, json for collectors")
    level: LogLevel = setting("info", help="least severe event that is written", source="syslog.conf(5)")


@dataclass(frozen=True, kw_only=True)
class DaemonSettings:
    """[daemon]"""

    multiplexer: Multiplexer = setting(
        "auto",
        help="how readiness is learned; auto is the C set's own epoll on Linux",
        source="FAQ II.14",
    )
    max_connections: int = setting(
        10_000,
        help="connections open at once; at the limit new ones wait in the backlog",
        source="below the 20,000 descriptors that a service is commonly given",
        unit="connections",
        low=1,
        high=1_000_000,
    )
    stop_timeout: Duration = setting(
        Duration(10),
        help="how long a stop may take before what is left is closed",
        source="well within the 90 s of systemd's TimeoutStopSec",
        unit="seconds",
        low=0,
        high=3600,
    )
    log: LogSettings = setting(LogSettings, help="the log", source="")


@dataclass(frozen=True, kw_only=True)
class ListenSettings:
    """[[listen]]: one service on one address, or on several."""

    address: str | None = setting(None, help="tcp://host:port, udp://, unix:/path, unixgram:/path", source="FAQ II.2")
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


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """[service.NAME]; None means: as the handler's own Service says, else the default."""

    handler: str | None = setting(None, help="module:attribute", source="")
    builtin: str | None = setting(None, help="upper, echo or discard", source="FAQ App. A, RFC 862, RFC 863")
    framing: FramingName | None = setting(None, help="how the stream is cut into frames", source="")
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
    linger_timeout: Duration | None = setting(
        None,
        help="after our last byte, how long the peer's bytes are discarded until its end of file",
        source="default 5 seconds: nginx lingering_timeout; FAQ II.5",
        unit="seconds",
        low=0,
        high=600,
    )
    high_water: Size | None = setting(
        None,
        help="unsent bytes at which a connection is no longer read",
        source="default 64 KiB: asyncio's transports",
        unit="bytes",
        low=1,
        high=1024 * MIB,
    )


DEFAULT_FRAMING: FramingName = "line"
DEFAULT_MAX_FRAME = Size(64 * KIB)
DEFAULT_IDLE_TIMEOUT = Duration(15 * 60)
DEFAULT_LINGER_TIMEOUT = Duration(5)
DEFAULT_HIGH_WATER = Size(64 * KIB)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The whole configuration: the keys of sockd.toml."""

    daemon: DaemonSettings = setting(DaemonSettings, help="the process", source="")
    listen: tuple[ListenSettings, ...] = setting((), help="the listeners", source="")
    service: dict[str, ServiceSettings] = setting(dict, help="the services by name", source="")
