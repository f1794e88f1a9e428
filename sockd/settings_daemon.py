"""What can be set of the process: [daemon], and its log."""

# ruff: noqa: RUF009 - setting() is a field specifier, typed and used like dataclasses.field

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sockd.setting import KIB, MIB, Duration, Size, setting

Multiplexer = Literal["auto", "epoll", "poll", "select"]
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """[daemon] log = { ... }"""

    format: LogFormat = setting("text", help="one line an event", source="text for people, json for collectors")
    level: LogLevel = setting("info", help="least severe event that is written", source="syslog.conf(5)")
    to: str | None = setting(
        None,
        help="stderr, syslog, journal, udp://host:port or the path of a file; unset: stderr, syslog in the background",
        source="syslog(3), systemd-journald.service(8); RFC 5424 and RFC 5426 for udp",
    )


@dataclass(frozen=True, kw_only=True)
class DaemonSettings:
    """[daemon]"""

    user: str | None = setting(
        None,
        help="name or number of the user that serves, once everything is bound; root stays root with user = root only",
        source="FAQ IV.8",
    )
    group: str | None = setting(
        None, help="name or number of the group that serves; unset: the user's own", source="FAQ IV.8"
    )
    chroot: str | None = setting(
        None,
        help="a folder, best an empty one, that is the whole file system once everything is open",
        source="FAQ II.20",
    )
    pidfile: str | None = setting(
        None,
        help="keeps a second daemon out, by its lock; in a folder that others cannot write",
        source="FAQ IV.3; flock(2)",
    )
    multiplexer: Multiplexer = setting(
        "auto",
        help="how readiness is learned; auto is the C set's own epoll on Linux",
        source="FAQ II.14",
    )
    workers: int = setting(
        1,
        help="processes that serve, each with one thread, under a small supervisor; 1: the daemon serves itself",
        source="as many as processors are to be busy; nginx(8), worker_processes",
        unit="processes",
        low=1,
        high=256,
    )
    max_connections: int = setting(
        10_000,
        help="connections open at once; at the limit new ones wait in the backlog",
        source="below the 20,000 descriptors that a service is commonly given",
        unit="connections",
        low=1,
        high=1_000_000,
    )
    max_memory: Size = setting(
        Size(1024 * MIB),
        help="memory of all unfinished frames and unsent replies; the connection that would need more is closed",
        source="what a small host can spare; an idle connection counts nothing",
        unit="bytes",
        low=64 * KIB,
        high=1024 * 1024 * MIB,
    )
    stall_time: Duration = setting(
        Duration(0.1),
        help="a handler that holds up the loop for longer is named in the log, while it does; 0: no report",
        source="a tenth of a second is noticed by people",
        unit="seconds",
        low=0,
        high=3600,
    )
    threads: int = setting(
        16,
        help="in which handlers with blocking = true run; while all are at work, those connections are not read",
        source="about concurrent.futures' min(32, cores + 4)",
        unit="threads",
        low=1,
        high=1024,
    )
    stop_timeout: Duration = setting(
        Duration(10),
        help="how long a stop may take before what is left is closed",
        source="well within the 90 s of systemd's TimeoutStopSec",
        unit="seconds",
        low=0,
        high=3600,
    )
    pre_drain: Duration = setting(
        Duration(0),
        help="at a stop, how long everything is served still while /ready says no: until balancers have noticed",
        source="two intervals of a balancer's health check; 0: nobody asks",
        unit="seconds",
        low=0,
        high=3600,
    )
    upgrade_timeout: Duration = setting(
        Duration(30),
        help="how long the new process of an upgrade may take to be ready; then it is ended and the old one serves on",
        source="a start takes half a second, and handlers may have something to load",
        unit="seconds",
        low=0.1,
        high=3600,
    )
    store_connections: bool = setting(
        False,
        help="at a stop, leave connections to systemd's descriptor store, from which the next start takes them",
        source="a restart then ends none; but systemctl stop ends all of them at once, for the store is emptied",
    )
    control: str | None = setting(
        None,
        help="absolute path of the socket on which sockctl asks and tells; of its owner alone",
        source="an example is /run/sockd/control.sock",
    )
    inetd_timeout: Duration = setting(
        Duration(120),
        help="with --inetd and wait: idle for so long, sockd ends, and the next client starts it again",
        source="MAXIDLE of comsat(8) and talkd(8), _RPCSVC_CLOSEDOWN of Sun RPC",
        unit="seconds",
        low=0.1,
        high=7 * 86_400,
    )
    log: LogSettings = setting(LogSettings, help="the log", source="")
