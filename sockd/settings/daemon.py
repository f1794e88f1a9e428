# SPDX-License-Identifier: MIT
"""What can be set of the process: [daemon], and its log."""

from __future__ import annotations

from typing import Literal

from sockd.settings.field import KIB, MIB, setting
from sockd.units import Duration, Size
from sockd.values import dataclass

NO_CONTROL = "none"
"""In place of the path of the control socket."""
Multiplexer = Literal["auto", "epoll", "poll", "select"]
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFacility = Literal[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "local0",
    "local1", "local2", "local3", "local4", "local5", "local6", "local7",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """[daemon] log = { ... }"""

    format: LogFormat = setting(
        "text", help="format of the log, one line per event", source="text for reading, json for log collectors"
    )
    level: LogLevel = setting("info", help="minimum severity of events that are logged", source="syslog.conf(5)")
    to: str | None = setting(
        None,
        help="stderr, syslog, journal, udp://host:port or the path of a file; unset: stderr, in the background syslog",
        source="syslog(3), systemd-journald.service(8); RFC 5424 and RFC 5426 for udp",
    )
    facility: LogFacility | None = setting(
        None,
        help="facility of the messages: for syslog, journal and udp://",
        source="syslog(3); default daemon; xinetd.conf(5), log_type",
        otherwise="daemon",
    )
    ident: str | None = setting(
        None,
        help="name of the program in the messages: for syslog, journal and udp://",
        source="openlog(3), ident; APP-NAME of RFC 5424; default sockd",
        otherwise="sockd",
    )
    warn_size: Size | None = setting(
        None,
        help="size of the log file above which a warning is written to it, once",
        source="xinetd.conf(5), log_type: the soft limit of FILE",
        unit="bytes",
        low=KIB,
        high=1024 * 1024 * MIB,
    )
    max_size: Size | None = setting(
        None,
        help="size of the log file above which nothing is written to it, until it is emptied or rotated",
        source="xinetd.conf(5), log_type: the hard limit of FILE",
        unit="bytes",
        low=KIB,
        high=1024 * 1024 * MIB,
    )


@dataclass(frozen=True, kw_only=True)
class DaemonSettings:
    """[daemon]"""

    user: str | None = setting(
        None,
        help='user to switch to after binding, by name or number; to keep running as root, set "root" explicitly',
        source="FAQ IV.8",
    )
    group: str | None = setting(
        None, help="group to switch to after binding, by name or number; unset: the user's own", source="FAQ IV.8"
    )
    chroot: str | None = setting(
        None,
        help="root directory to change to once everything is open (chroot(2)), preferably an empty one",
        source="FAQ II.20",
    )
    path: str | None = setting(
        None,
        help="directory from which handlers are imported, the last one of sys.path; relative: to the configuration's "
        "directory; unset: that directory",
        source="",
    )
    pidfile: str | None = setting(
        None,
        help="pid file, locked against a second daemon; its directory must not be writable by others",
        source="FAQ IV.3; flock(2)",
    )
    multiplexer: Multiplexer = setting(
        "auto",
        help="system call that waits for ready sockets; auto: on Linux, the C core's own epoll",
        source="FAQ II.14",
    )
    workers: int = setting(
        1,
        help="worker processes, each with one thread, under a small supervisor; 1: no workers, the daemon serves",
        source="one per processor to be used; nginx(8), worker_processes",
        unit="processes",
        low=1,
        high=256,
    )
    max_connections: int = setting(
        10_000,
        help="maximum open connections; at the limit, new ones wait in the backlog, and silent ones are closed",
        source="below 20,000, a common descriptor limit for services",
        unit="connections",
        low=1,
        high=1_000_000,
    )
    max_memory: Size = setting(
        Size(1024 * MIB),
        help="total memory of incomplete frames and pending output; a connection that would exceed it is closed",
        source="what a small host can spare; idle connections use none of it",
        unit="bytes",
        low=64 * KIB,
        high=1024 * 1024 * MIB,
    )
    max_worker_memory: Size | None = setting(
        None,
        help="with workers: a worker that uses more memory is replaced, and stops gracefully; unset: no limit",
        source="reload-on-rss of uWSGI; resident and swapped memory of proc_pid_status(5)",
        unit="bytes",
        low=16 * MIB,
        high=1024 * 1024 * MIB,
    )
    max_worker_requests: int | None = setting(
        None,
        help="with workers: requests (frames) after which a worker is replaced, less up to a tenth; unset: no limit",
        source="max_requests of gunicorn, with its jitter, so that workers do not end together",
        unit="requests",
        low=1,
        high=10**12,
    )
    max_worker_age: Duration | None = setting(
        None,
        help="with workers: time after which a worker is replaced, less up to a tenth; unset: no limit",
        source="max-worker-lifetime of uWSGI",
        unit="seconds",
        low=1,
        high=366 * 86_400,
    )
    handler_timeout: Duration | None = setting(
        None,
        help="with workers: time after which a worker that does not return from a handler is replaced; unset: off",
        source="timeout of gunicorn's workers; only its author knows how long a handler may take",
        unit="seconds",
        low=0.1,
        high=86_400,
    )
    stall_time: Duration = setting(
        Duration(0.1),
        help="log a handler that blocks the event loop for longer than this, while it blocks; 0: off",
        source="people notice a delay of a tenth of a second",
        unit="seconds",
        low=0,
        high=3600,
    )
    threads: int = setting(
        16,
        help="threads for handlers with blocking = true; a source other than this host has three quarters at most",
        source="close to min(32, cores + 4) of concurrent.futures",
        unit="threads",
        low=1,
        high=1024,
    )
    stop_timeout: Duration = setting(
        Duration(10),
        help="time limit of a graceful stop; then remaining connections are closed",
        source="well within the 90 s of systemd's TimeoutStopSec",
        unit="seconds",
        low=0,
        high=3600,
    )
    pre_drain: Duration = setting(
        Duration(0),
        help="at a graceful stop, how long to keep serving with /ready failing, until load balancers have noticed",
        source="two intervals of a load balancer's health check; 0: there is no load balancer",
        unit="seconds",
        low=0,
        high=3600,
    )
    upgrade_timeout: Duration = setting(
        Duration(30),
        help="time limit for the new process of an upgrade; if not ready, it is stopped and the old one keeps serving",
        source="a start takes half a second, and handlers may need to load data",
        unit="seconds",
        low=0.1,
        high=3600,
    )
    previous_timeout: Duration | None = setting(
        None,
        help="after an upgrade, how long the previous process serves connections that could not move; unset: no limit",
        source="worker_shutdown_timeout of nginx; then it stops as at TERM, and logs what is left",
        unit="seconds",
        low=1,
        high=366 * 86_400,
    )
    store_connections: bool = setting(
        False,
        help="at a stop, pass connections to systemd's file descriptor store; the next start takes them over",
        source="a restart then closes none; but systemctl stop empties the store, which closes all of them at once",
    )
    control: str | None = setting(
        None,
        help="absolute path of the control socket for sockctl, which only its owner may use; none turns it off",
        source="default: under systemd control.sock in RuntimeDirectory=, else none; example: /run/sockd/control.sock",
    )
    inetd_timeout: Duration = setting(
        Duration(120),
        help="with --inetd and wait: idle time after which sockd exits; the next client starts it again",
        source="MAXIDLE of comsat(8) and talkd(8), _RPCSVC_CLOSEDOWN of Sun RPC",
        unit="seconds",
        low=0.1,
        high=7 * 86_400,
    )
    log: LogSettings = setting(LogSettings, help="the log", source="")
