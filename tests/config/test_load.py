# SPDX-License-Identifier: MIT
"""The table of wrong configurations, and the right ones."""

import os
import re
import textwrap
from ipaddress import ip_network

import pytest

from sockd.config import load as module
from sockd.config.command_line import from_command_line
from sockd.config.load import load, loads
from sockd.errors import EX_CONFIG, EX_NOPERM, EX_USAGE, ConfigurationError, PermissionFault, UsageError
from sockd.settings import DaemonSettings, Duration, LogSettings, Settings, Size
from sockd.settings.address import Address
from sockd.settings.listen import KeepaliveSettings, ListenSettings, RateSettings
from sockd.settings.service import ServiceSettings

BUILTINS = "upper, echo, discard, chargen, qotd, systat, daytime, time, metrics"
LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:7000"\nservice = "upper"\n'
SOCKS = LISTEN + "[service.proxy]\n"
RELAY = LISTEN + "[service.back]\n"
POLICY = LISTEN + '[service.policy]\nbuiltin = "echo"\n'

# Name; text, LISTEN + "x" has x in line 4, POLICY + "x" has it in line 6; the whole message behind "sockd.toml".
WRONG = [
    # A SOCKS server.
    (
        "socks that is no table",
        SOCKS + 'socks = "yes"\n',
        ':5: service.proxy.socks: "yes", text, is not allowed here; write socks = { users = "/etc/sockd/users" }',
    ),
    (
        "key of socks misspelt",
        SOCKS + 'socks = { alow = ["*"] }\n',
        ':5: service.proxy.socks.alow: unknown key; did you mean "allow"?',
    ),
    (
        "rule without a network",
        SOCKS + 'socks = { deny = ["10.0.0.0/33"] }\n',
        ':5: service.proxy.socks.deny[0]: "10.0.0.0/33" has "10.0.0.0/33", which is not a network; write 192.0.2.7, '
        "10.0.0.0/8 or 2001:db8::/32",
    ),
    (
        "rule with bits behind its prefix",
        SOCKS + 'socks = { deny = ["from 10.0.0.1/8"] }\n',
        ':5: service.proxy.socks.deny[0]: "from 10.0.0.1/8" has "10.0.0.1/8", which has bits set after its prefix; '
        "write 10.0.0.0/8",
    ),
    (
        "rule with a mapped network",
        SOCKS + 'socks = { deny = ["::ffff:10.0.0.0/104"] }\n',
        ':5: service.proxy.socks.deny[0]: "::ffff:10.0.0.0/104" has "::ffff:10.0.0.0/104", which never '
        "matches, because these are matched as IPv4; write 10.0.0.0/8",
    ),
    (
        "kind of address misspelt",
        SOCKS + 'socks = { allow = ["lopback"] }\n',
        ':5: service.proxy.socks.allow[0]: "lopback" has "lopback", which is not a kind of address; did you mean '
        '"loopback"?',
    ),
    (
        "word of a rule misspelt",
        SOCKS + 'socks = { allow = ["* form 10.0.0.0/8"] }\n',
        ':5: service.proxy.socks.allow[0]: "* form 10.0.0.0/8" has "to" twice; a rule is such as "10.0.0.0/8:443", '
        '"*.example.com" or "user alice to private:22"; did you mean "from"?',
    ),
    (
        "rule with ports the wrong way round",
        SOCKS + 'socks = { allow = ["*:443-80"] }\n',
        ':5: service.proxy.socks.allow[0]: "*:443-80" has the ports "443-80"; write a number, or a range'
        " such as 8000-8999, up to 65535",
    ),
    (
        "rule of a user where nobody logs in",
        SOCKS + 'socks = { allow = ["user alice"] }\n',
        ':5: service.proxy.socks.allow[0]: "user alice" names a user, but no client logs in; add users, or '
        "remove the user",
    ),
    (
        "users that are relative",
        SOCKS + 'socks = { users = "users" }\n',
        ':5: service.proxy.socks.users: "users" is not an absolute path, and a daemon changes its '
        "working directory; write one, such as /etc/sockd/users",
    ),
    (
        "source that is a name",
        SOCKS + 'socks = { source = "eth0" }\n',
        ':5: service.proxy.socks.source: "eth0" is not the address of a host; write a local IP address, such as '
        '"192.0.2.1"',
    ),
    (
        "time of a SOCKS server that is too short",
        SOCKS + 'socks = { connect_timeout = "1ms" }\n',
        ':5: service.proxy.socks.connect_timeout: "1ms" is too small; allowed: 100ms to 10m',
    ),
    (
        "framing of a SOCKS server",
        SOCKS + 'socks = {}\nframing = "line"\n',
        ":6: service.proxy.framing: does not apply to a SOCKS server; its settings are in socks = { ... }",
    ),
    # A relay.
    (
        "relay without a target",
        RELAY + "relay = {}\n",
        ':5: service.back.relay.to: has no target; write to = ["tcp://10.0.0.5:25"]',
    ),
    (
        "relay that is no table",
        RELAY + 'relay = "tcp://h:1"\n',
        ':5: service.back.relay: "tcp://h:1", text, is not allowed here; write relay = { to = ["tcp://10.0.0.5:25"] }',
    ),
    (
        "target that takes datagrams",
        RELAY + 'relay = { to = ["udp://h:1"] }\n',
        ':5: service.back.relay.to[0]: "udp://h:1" is not a valid target; write tcp://host:port or unix:/path',
    ),
    (
        "target twice",
        RELAY + 'relay = { to = ["tcp://h:1", "tcp://h:1"] }\n',
        ':5: service.back.relay.to[1]: "tcp://h:1" is a duplicate of to[0]',
    ),
    (
        "target at port 0",
        RELAY + 'relay = { to = ["tcp://h:0"] }\n',
        ':5: service.back.relay.to[0]: "tcp://h:0" has port 0, which cannot be connected to; write the target\'s port',
    ),
    (
        "balance unknown",
        RELAY + 'relay = { to = ["tcp://h:1"], balance = "least-connection" }\n',
        ':5: service.back.relay.balance: "least-connection" is not valid; allowed: "round-robin", '
        '"least-connections" or "race"; did you mean "least-connections"?',
    ),
    (
        "framing of a relay",
        RELAY + 'relay = { to = ["tcp://h:1"] }\nmax_frame = "1 KiB"\n',
        ":6: service.back.max_frame: does not apply to a relay, which does not parse the stream; its own"
        " timeouts are in relay = { ... }",
    ),
    (
        "way that is none",
        RELAY + 'relay = { to = ["tcp://h:1"], via = "http://h:1" }\n',
        ':5: service.back.relay.via: "http://h:1" is not a SOCKS server; write socks5://host:port or '
        "socks5://user@host:port",
    ),
    (
        "way with a password",
        RELAY + 'relay = { to = ["tcp://h:1"], via = "socks5://a:b@h:1" }\n',
        ':5: service.back.relay.via: "socks5://a:b@h:1" contains a password, '
        "which others could read; write user@ alone",
    ),
    (
        "user on the way without a password",
        RELAY + 'relay = { to = ["tcp://h:1"], via = "socks5://a@h:1" }\n',
        ':5: service.back.relay.via: "socks5://a@h:1" names a user without a password; set via_password '
        "to the path of a file that holds it",
    ),
    (
        "password of nobody",
        RELAY + 'relay = { to = ["tcp://h:1"], via_password = "/p" }\n',
        ':5: service.back.relay.via_password: "/p" requires a user in via; write via = '
        "socks5://user@host:port, or remove it",
    ),
    (
        "password at no absolute path",
        RELAY + 'relay = { to = ["tcp://h:1"], via = "socks5://a@h:1", via_password = "p" }\n',
        ':5: service.back.relay.via_password: "p" is not an absolute path; write one, such as /etc/sockd/via.password',
    ),
    (
        "race through a SOCKS server",
        RELAY + 'relay = { to = ["tcp://h:1"], via = "socks5://h:1", balance = "race" }\n',
        ':5: service.back.relay.balance: "race" requires direct connections, but with via the SOCKS '
        "server connects; write round-robin",
    ),
    (
        "Unix target through a SOCKS server",
        RELAY + 'relay = { to = ["unix:/s"], via = "socks5://h:1" }\n',
        ':5: service.back.relay.to[0]: "unix:/s" is on this host, and the SOCKS '
        "server cannot reach it; remove it, or via",
    ),
    (
        "check too often",
        RELAY + 'relay = { to = ["tcp://h:1"], check = { interval = "1ms" } }\n',
        ':5: service.back.relay.check.interval: "1ms" is too small; allowed: 100ms to 1d',
    ),
    # The text is not TOML.
    ("header not closed", "[daemon\n" + LISTEN, ":1:8: expected ']' at the end of a table declaration"),
    (
        "word without quotes",
        "[daemon]\nmultiplexer = epoll\n" + LISTEN,
        ':2:15: invalid value; write text, sizes and durations in quotes: "epoll"',
    ),
    (
        "size without quotes",
        POLICY + "max_frame = 64 KiB  # a comment\n",
        ":6:16: expected newline or end of document after a statement; "
        'write text, sizes and durations in quotes: "64 KiB"',
    ),
    (
        "key twice",
        LISTEN + "backlog = 1\nbacklog = 2\n",
        ":5:12: cannot overwrite a value; the key is already set above",
    ),
    (
        "table twice",
        LISTEN + "[daemon]\n[daemon]\n",
        ":5:8: cannot declare daemon twice; the table is already declared above; "
        "write a list of tables with two brackets, [[listen]]",
    ),
    (
        "quote not closed",
        '[daemon.log]\nlevel = "info\n' + LISTEN,
        ":2:14: illegal character '\\n'; a closing quote is missing",
    ),
    (
        "long text not closed",
        LISTEN + '[service.a]\nhandler = """a:b\n',
        ':6:1: unterminated string; a closing """ is missing',
    ),
    (
        "list not closed",
        '[[listen]]\naddresses = ["tcp://:7000",\nservice = "upper"\n',
        ":3:1: invalid value; a closing ] is missing above",
    ),
    (
        "not UTF-8",
        b"# one\n# caf\xe9\n",
        ":2: byte 0xe9 is not UTF-8; save the file as UTF-8",
    ),
    ("nested too deeply", "a = " + "[" * 20_000, ": lists or tables are nested too deeply"),
    ("too many digits", "a = " + "9" * 5000, ": a number has too many digits"),
    # Keys that are not there.
    (
        "empty",
        "",
        ': nothing to serve; add [[listen]] with address = "tcp://127.0.0.1:7007" and service = "upper"',
    ),
    ("unknown table", LISTEN + "[deamon]\n", ':4: deamon: unknown key; did you mean "daemon"?'),
    (
        "unknown list of tables",
        LISTEN.replace("listen", "listeners"),
        ':1: listeners: unknown key; did you mean "listen"?',
    ),
    (
        "key misspelt",
        LISTEN + "[daemon]\nmax_connection = 5\n",
        ':5: daemon.max_connection: unknown key; did you mean "max_connections"?',
    ),
    (
        "key misspelt that is needed",
        LISTEN.replace("service", "servise"),
        ':3: listen[0].servise: unknown key; did you mean "service"?',
    ),
    (
        "user that cannot be",
        LISTEN + '[daemon]\nuser = "a:b"\n',
        ':5: daemon.user: "a:b" is not a valid user; write a name such as "nobody", or a number',
    ),
    (
        "group that cannot be",
        LISTEN + '[daemon]\nuser = "nobody"\ngroup = ""\n',
        ':6: daemon.group: "" is not a valid group; write a name such as "nogroup", or a number',
    ),
    (
        "group without user",
        LISTEN + '[daemon]\ngroup = "nogroup"\n',
        ':5: daemon.group: "nogroup" requires a user; add user = "nobody" or another one',
    ),
    (
        "chroot that is relative",
        LISTEN + '[daemon]\nchroot = "empty"\n',
        ':5: daemon.chroot: "empty" is not an absolute path, and a daemon changes '
        "its working directory; write one, such as "
        "/var/empty",
    ),
    (
        "pidfile that is relative",
        LISTEN + '[daemon]\npidfile = "sockd.pid"\n',
        ':5: daemon.pidfile: "sockd.pid" is not an absolute path, and a daemon '
        "changes its working directory; write one, such as "
        "/run/sockd/sockd.pid",
    ),
    (
        "pidfile that is a directory",
        LISTEN + '[daemon]\npidfile = "/run/"\n',
        ':5: daemon.pidfile: "/run/" is a directory; name a file in it',
    ),
    (
        "control that is relative",
        LISTEN + '[daemon]\ncontrol = "c.sock"\n',
        ':5: daemon.control: "c.sock" is not an absolute path, and a daemon changes '
        "its working directory; write one, such as "
        "/run/sockd/control.sock",
    ),
    (
        "control that is a directory",
        LISTEN + '[daemon]\ncontrol = "/run/"\n',
        ':5: daemon.control: "/run/" is a directory; name a file in it',
    ),
    (
        "collector without a host",
        LISTEN + '[daemon]\nlog = { to = "udp://:514" }\n',
        ':5: daemon.log.to: "udp://:514" is not the address of a collector; write udp://host:port',
    ),
    (
        "collector with a port that is none",
        LISTEN + '[daemon]\nlog = { to = "udp://log:99999" }\n',
        ':5: daemon.log.to: "udp://log:99999" is not the address of a collector; write udp://host:port',
    ),
    (
        "goodbye of a program",
        LISTEN + '[service.x]\nexec = ["/bin/true"]\ngoodbye = "x"\n',
        ":6: service.x.goodbye: does not apply to a program, which reads and writes the socket itself",
    ),
    (
        "log that leads nowhere",
        LISTEN + '[daemon]\nlog = { to = "sysolg" }\n',
        ':5: daemon.log.to: "sysolg" is neither stderr, syslog, journal, udp://host:port '
        'nor an absolute path; did you mean "syslog"?',
    ),
    (
        "key unlike any",
        LISTEN + '[daemon]\ncolour = "red"\n',
        ":5: daemon.colour: unknown key; the keys of [daemon] are user, group, chroot, path, pidfile, "
        "multiplexer, workers, max_connections, max_memory, max_worker_memory, max_worker_requests, max_worker_age, "
        "handler_timeout, stall_time, threads, stop_timeout, "
        "pre_drain, upgrade_timeout, previous_timeout, store_connections, control, "
        "inetd_timeout, log",
    ),
    (
        "built-in that blocks",
        LISTEN + '[service.upper]\nbuiltin = "upper"\nblocking = true\n',
        ":6: service.upper.blocking: does not apply to a built-in, which never blocks",
    ),
    (
        "no threads",
        LISTEN + "[daemon]\nthreads = 0\n",
        ":5: daemon.threads: 0 is too small; allowed: 1 to 1024 threads",
    ),
    (
        "key of another table",
        LISTEN + 'idle_timeout = "5m"\n',
        ":4: listen[0].idle_timeout: unknown key; idle_timeout belongs to [service.NAME]",
    ),
    (
        "key of the log",
        LISTEN + '[daemon]\nlevel = "debug"\n',
        ":5: daemon.level: unknown key; level belongs to daemon.log",
    ),
    (
        "key that needs quotes",
        LISTEN + '"back log" = 5\n',
        ':4: listen[0]."back log": unknown key; did you mean "backlog"?',
    ),
    # Tables in the wrong place.
    (
        "one bracket",
        LISTEN.replace("[[listen]]", "[listen]"),
        ":1: listen: a table is not allowed here; write [[listen]]",
    ),
    (
        "two brackets",
        LISTEN + '[[service]]\nbuiltin = "echo"\n',
        ":4: service: a list is not allowed here; write [service.NAME]",
    ),
    (
        "service is text",
        LISTEN + '[service]\npolicy = "a:b"\n',
        ':5: service.policy: "a:b", text, is not allowed here; write [service.policy]',
    ),
    (
        "listener is text",
        'listen = [\n  { address = "tcp://:1", service = "upper" },\n  "tcp://:2",\n]\n',
        ':3: listen[1]: "tcp://:2", text, is not allowed here; write a table',
    ),
    (
        "log is text",
        LISTEN + '[daemon]\nlog = "debug"\n',
        ':5: daemon.log: "debug", text, is not allowed here; write log = { level = "info" }',
    ),
    # Values of the wrong kind.
    (
        "text for an integer",
        LISTEN + 'backlog = "many"\n',
        ':4: listen[0].backlog: "many" is text; allowed: 1 to 65535 connections',
    ),
    (
        "no number for a number",
        LISTEN + "max_load = nan\n",
        ":4: listen[0].max_load: nan is not a number; allowed: 0.01 to 1000000",
    ),
    (
        "boolean for an integer",
        LISTEN + "backlog = true\n",
        ":4: listen[0].backlog: true is a boolean; allowed: 1 to 65535 connections",
    ),
    (
        "fraction for an integer",
        LISTEN + "backlog = 10.5\n",
        ":4: listen[0].backlog: 10.5 is a number with a fraction; allowed: 1 to 65535 connections",
    ),
    (
        "date for an integer",
        LISTEN + "backlog = 2026-11-23\n",
        ":4: listen[0].backlog: 2026-11-23 is a date or time; allowed: 1 to 65535 connections",
    ),
    (
        "list for an integer",
        LISTEN + "backlog = [1]\n",
        ":4: listen[0].backlog: a list is not valid here; allowed: 1 to 65535 connections",
    ),
    (
        "integer for a boolean",
        LISTEN + "nodelay = 1\n",
        ":4: listen[0].nodelay: 1 is an integer; allowed: true or false",
    ),
    (
        "text for a boolean",
        LISTEN + 'nodelay = "yes"\n',
        ':4: listen[0].nodelay: "yes" is text; allowed: true or false',
    ),
    (
        "integer for an address",
        '[[listen]]\naddress = 7000\nservice = "upper"\n',
        ":2: listen[0].address: 7000 is an integer; allowed: text, in quotes",
    ),
    (
        "text for a list",
        '[[listen]]\naddresses = "tcp://:7000"\nservice = "upper"\n',
        ':2: listen[0].addresses: "tcp://:7000" is text; write addresses = ["tcp://:7000"]',
    ),
    (
        "integer in a list",
        '[[listen]]\naddresses = [7000]\nservice = "upper"\n',
        ":2: listen[0].addresses[0]: 7000 is an integer; allowed: text, in quotes",
    ),
    (
        "not a multiplexer",
        LISTEN + '[daemon]\nmultiplexer = "epol"\n',
        ':5: daemon.multiplexer: "epol" is not valid; allowed: "auto", "epoll", "poll" or "select"; '
        'did you mean "epoll"?',
    ),
    (
        "integer for a multiplexer",
        LISTEN + "[daemon]\nmultiplexer = 3\n",
        ':5: daemon.multiplexer: 3 is an integer; allowed: "auto", "epoll", "poll" or "select"',
    ),
    (
        "not a level, in an inline table",
        LISTEN + '[daemon]\nlog = { level = "warn" }\n',
        ':5: daemon.log.level: "warn" is not valid; allowed: "debug", "info", "warning" or "error"; '
        'did you mean "warning"?',
    ),
    (
        "not a format, in a dotted key",
        LISTEN + '[daemon]\nlog.format = "jsn"\n',
        ':5: daemon.log.format: "jsn" is not valid; allowed: "text" or "json"; did you mean "json"?',
    ),
    # Values out of range.
    (
        "too small",
        LISTEN + "[daemon]\nmax_connections = 0\n",
        ":5: daemon.max_connections: 0 is too small; allowed: 1 to 1000000 connections",
    ),
    (
        "too large",
        LISTEN + "[daemon]\nmax_connections = 1_000_001\n",
        ":5: daemon.max_connections: 1000001 is too large; allowed: 1 to 1000000 connections",
    ),
    (
        "far too large",
        LISTEN + "[daemon]\nmax_connections = 0x1" + "0" * 5000 + "\n",
        ":5: daemon.max_connections: an integer of 20001 bits is too large; allowed: 1 to 1000000 connections",
    ),
    # Sizes.
    (
        "unit of sizes",
        POLICY + 'max_frame = "64 Kb"\n',
        ':6: service.policy.max_frame: "64 Kb" has the unknown unit "Kb"; units are B, KB, KiB, MB, MiB, GB, GiB; '
        'allowed: 1 B to 1 GiB; did you mean "KB"?',
    ),
    (
        "no size",
        POLICY + 'max_frame = "big"\n',
        ':6: service.policy.max_frame: "big" is not a size; write a number and a unit, such as "64 KiB"; '
        "allowed: 1 B to 1 GiB",
    ),
    (
        "size with a fraction",
        POLICY + "max_frame = 1.5\n",
        ':6: service.policy.max_frame: 1.5 is not a size; write an integer or text such as "64 KiB"; '
        "allowed: 1 B to 1 GiB",
    ),
    (
        "half a byte",
        POLICY + 'max_frame = "0.5 B"\n',
        ':6: service.policy.max_frame: "0.5 B" is not a whole number of bytes; allowed: 1 B to 1 GiB',
    ),
    (
        "negative size",
        POLICY + "high_water = -4\n",
        ":6: service.policy.high_water: -4 is negative; allowed: 1 B to 1 GiB",
    ),
    (
        "size too large",
        POLICY + 'high_water = "2 GiB"\n',
        ':6: service.policy.high_water: "2 GiB" is too large; allowed: 1 B to 1 GiB',
    ),
    # Durations.
    (
        "unit of durations",
        POLICY + 'idle_timeout = "15 min"\n',
        ':6: service.policy.idle_timeout: "15 min" has the unknown unit "min"; units are d, h, m, s, ms; '
        'allowed: 1ms to 7d; did you mean "m"?',
    ),
    (
        "no duration",
        POLICY + 'idle_timeout = "never"\n',
        ':6: service.policy.idle_timeout: "never" is not a duration; '
        'write a number and a unit, such as "15m" or "1h30m"; allowed: 1ms to 7d',
    ),
    (
        "boolean for a duration",
        POLICY + "idle_timeout = false\n",
        ':6: service.policy.idle_timeout: false is not a duration; write seconds or text such as "15m"; '
        "allowed: 1ms to 7d",
    ),
    (
        "duration in disorder",
        POLICY + 'idle_timeout = "30s1m"\n',
        ':6: service.policy.idle_timeout: "30s1m" has units out of order; '
        'they go from large to small, each once, as in "1h30m"; allowed: 1ms to 7d',
    ),
    (
        "no unit at the end",
        POLICY + 'linger_timeout = "1m30"\n',
        ':6: service.policy.linger_timeout: "1m30" has a number without unit; units are d, h, m, s, ms; '
        "allowed: 0s to 10m",
    ),
    (
        "infinite duration",
        LISTEN + "[daemon]\nstop_timeout = inf\n",
        ":5: daemon.stop_timeout: inf is not a finite time; allowed: 0s to 1h",
    ),
    (
        "duration that is not a number",
        LISTEN + "[daemon]\nstop_timeout = nan\n",
        ":5: daemon.stop_timeout: nan is not a finite time; allowed: 0s to 1h",
    ),
    (
        "duration of zero",
        POLICY + "idle_timeout = 0\n",
        ":6: service.policy.idle_timeout: 0 is too small; allowed: 1ms to 7d",
    ),
    # Listeners.
    (
        "no address",
        '[[listen]]\nservice = "upper"\n',
        ':1: listen[0]: has no address; write address = "tcp://127.0.0.1:7007" and service = "upper"',
    ),
    (
        "address and addresses",
        LISTEN + 'addresses = ["tcp://127.0.0.1:7001"]\n',
        ":4: listen[0].addresses: is set together with address; set exactly one of the two",
    ),
    (
        "no service",
        LISTEN + '[[listen]]\naddress = "tcp://127.0.0.1:7001"\n',
        ':4: listen[1]: has no service; write service = "upper", the name of a [service] table, or "module:attribute"',
    ),
    (
        "service unknown",
        POLICY.replace('"upper"', '"polcy"'),
        f':3: listen[0].service: "polcy" is not a service; known: policy, {BUILTINS}; did you mean "policy"?',
    ),
    (
        "service with a dot",
        LISTEN.replace("upper", "app.greet"),
        ':3: listen[0].service: "app.greet" is not a service; did you mean '
        '"app:greet"? (a handler is module:attribute)',
    ),
    (
        "service without attribute",
        LISTEN.replace("upper", "app:"),
        ':3: listen[0].service: "app:" has no attribute; a handler is module:attribute, such as "app:greet"',
    ),
    (
        "address twice",
        LISTEN + LISTEN,
        ':5: listen[1].address: "tcp://127.0.0.1:7000" is a duplicate of listen[0].address',
    ),
    (
        "address twice in one list",
        '[[listen]]\naddresses = [\n  "tcp://127.0.0.1:80",\n  "tcp://127.0.0.1:80",\n]\nservice = "upper"\n',
        ':3: listen[0].addresses[1]: "tcp://127.0.0.1:80" is a duplicate of listen[0].addresses[0]',
    ),
    # Tables of a listener, and who is let in.
    (
        "keepalive is text",
        LISTEN + 'keepalive = "2m"\n',
        ':4: listen[0].keepalive: "2m", text, is not allowed here; write keepalive = { idle = "2m", '
        'interval = "30s", count = 4 }',
    ),
    (
        "keepalive too short",
        LISTEN + 'keepalive = { idle = "500ms" }\n',
        ':4: listen[0].keepalive.idle: "500ms" is too small; allowed: 1s to 9h6m7s',
    ),
    (
        "key of keepalive misspelt",
        LISTEN + "keepalive.probes = 3\n",
        ":4: listen[0].keepalive.probes: unknown key; the keys of keepalive are on, idle, interval, count",
    ),
    (
        "rate is a number",
        LISTEN + "rate = 3\n",
        ":4: listen[0].rate: 3, an integer, is not allowed here; write rate = { connections = 10, per = "
        '"1s", burst = 20 }',
    ),
    (
        "rate of nothing",
        LISTEN + "rate = { connections = 0 }\n",
        ":4: listen[0].rate.connections: 0 is too small; allowed: 1 to 1000000",
    ),
    (
        "key of rate misspelt",
        LISTEN + "rate = { conections = 5 }\n",
        ':4: listen[0].rate.conections: unknown key; did you mean "connections"?',
    ),
    (
        "key of rate outside",
        LISTEN + "burst = 5\n",
        ":4: listen[0].burst: unknown key; burst belongs to rate",
    ),
    (
        "not a choice at the limit",
        LISTEN + 'at_limit = "rest"\n',
        ':4: listen[0].at_limit: "rest" is not valid; allowed: "defer", "refuse" or "reset"; did you mean "reset"?',
    ),
    (
        "banner for a reset",
        LISTEN + 'at_limit = "reset"\nbanner = "busy"\n',
        ':5: listen[0].banner: "busy" is never sent, because at_limit is '
        '"reset"; write at_limit = "refuse", or remove it',
    ),
    (
        "banner of two lines",
        LISTEN + 'banner = "busy\\nlater"\n',
        ':4: listen[0].banner: "busy\\nlater" contains an unprintable character; '
        "a banner is one line, and sockd appends the newline",
    ),
    (
        "allow is text",
        LISTEN + 'allow = "10.0.0.0/8"\n',
        ':4: listen[0].allow: "10.0.0.0/8" is text; write allow = ["10.0.0.0/8"]',
    ),
    (
        "no network",
        LISTEN + 'allow = [\n  "::1",\n  "10.0.0.0/33",\n]\n',
        ':6: listen[0].allow[1]: "10.0.0.0/33" is not a network; '
        'write an address or a prefix, such as "192.0.2.7", "10.0.0.0/8" or "2001:db8::/32"',
    ),
    (
        "bits behind the prefix",
        LISTEN + 'deny = ["10.0.0.1/8"]\n',
        ':4: listen[0].deny[0]: "10.0.0.1/8" has bits set after its prefix; write "10.0.0.0/8", or the address alone',
    ),
    (
        "IPv4 within IPv6",
        LISTEN + 'deny = ["::ffff:10.0.0.0/104"]\n',
        ':4: listen[0].deny[0]: "::ffff:10.0.0.0/104" never matches, because IPv4 clients are matched as IPv4; '
        'write "10.0.0.0/8"',
    ),
    (
        "network with an interface",
        LISTEN + 'allow = ["fe80::1%eth0"]\n',
        ':4: listen[0].allow[0]: "fe80::1%eth0" names an interface, but sources are matched without one; '
        "remove the % and what follows",
    ),
    (
        "interface too long",
        LISTEN + 'interface = "sixteen-letters0"\n',
        ':4: listen[0].interface: "sixteen-letters0" has 16 bytes; an interface name has 1 to 15 (IFNAMSIZ)',
    ),
    (
        "interface with a slash",
        LISTEN + 'interface = "eth/0"\n',
        ':4: listen[0].interface: "eth/0" contains "/", which an interface name cannot contain',
    ),
    (
        "mark out of range",
        LISTEN + "mark = 4294967296\n",
        ":4: listen[0].mark: 4294967296 is too large; allowed: 0 to 4294967295",
    ),
    (
        "linger that would reset",
        LISTEN + "linger = 0\n",
        ":4: listen[0].linger: 0 is too small; allowed: 1s to 10m",
    ),
    (
        "budget below a datagram",
        LISTEN + 'datagram_budget = "1 KiB"\n',
        ':4: listen[0].datagram_budget: "1 KiB" is too small; allowed: 64 KiB to 1024 GiB',
    ),
    (
        "workers none",
        LISTEN + "[daemon]\nworkers = 0\n",
        ":5: daemon.workers: 0 is too small; allowed: 1 to 256 processes",
    ),
    # Services.
    (
        "no handler",
        LISTEN + "[service.policy]\n",
        ':4: service.policy: has no handler; write handler = "module:attribute", builtin = "upper", exec = ["/path"], '
        'tcpmux = ["+rsync"], relay = { to = ["tcp://host:port"] }, socks = {} or metrics = true',
    ),
    (
        "handler and builtin",
        POLICY + 'handler = "app:greet"\n',
        ":5: service.policy.builtin: is set together with handler; a service "
        "has exactly one of handler, builtin, exec, "
        "tcpmux, relay, socks, metrics",
    ),
    (
        "metrics false",
        LISTEN + "[service.numbers]\nmetrics = false\n",
        ":5: service.numbers.metrics: must be true, or removed; a service has exactly one kind",
    ),
    (
        "builtin unknown",
        POLICY.replace('"echo"', '"eccho"'),
        f':5: service.policy.builtin: "eccho" is not a built-in service; known: {BUILTINS}; did you mean "echo"?',
    ),
    (
        "name of a built-in",
        POLICY.replace("policy", "discard"),
        ':4: service.discard: "discard" is the name of a built-in; choose another, or set builtin = "discard"',
    ),
    (
        "name that cannot be used",
        POLICY.replace("policy", '"a b"'),
        ':4: service."a b": "a b" is not a valid name; use 1 to 64 of the characters A-Z a-z 0-9 _ . -',
    ),
    (
        "handler is a file",
        LISTEN + '[service.a]\nhandler = "./app.py:greet"\n',
        ':5: service.a.handler: "./app.py:greet" is not module:attribute, such as "app:greet"; '
        '"./app.py" is not a valid module name',
    ),
    (
        "handler is a keyword",
        LISTEN + '[service.a]\nhandler = "app:class"\n',
        ':5: service.a.handler: "app:class" is not module:attribute, such as "app:greet"; '
        '"class" is not a valid attribute name',
    ),
    (
        "handler without module",
        LISTEN + '[service.a]\nhandler = ":greet"\n',
        ':5: service.a.handler: ":greet" has no module; a handler is module:attribute, such as "app:greet"',
    ),
    (
        "handler with dots",
        LISTEN + '[service.a]\nhandler = "app.greet"\n',
        ':5: service.a.handler: "app.greet" has no ":"; a handler is module:attribute, such as "app:greet"; '
        'did you mean "app:greet"?',
    ),
]

# What sockd.net.address.address refuses; its words are tested there, here that they come with line and key.
WRONG_ADDRESSES = [
    ("port that is no service", "tcp://127.0.0.1:smpt", ":2: listen[0].address: ", "'smpt' is not a tcp service"),
    ("port out of range", "tcp://127.0.0.1:99999", ":2: listen[0].address: ", "99999 is out of range"),
    ("unknown scheme", "tpc://127.0.0.1:7000", ":2: listen[0].address: ", "did you mean tcp://127.0.0.1:7000"),
    ("no scheme", "127.0.0.1:7000", ":2: listen[0].address: ", "did you mean tcp://127.0.0.1:7000"),
    ("relative path", "unix:run/a", ":2: listen[0].address: ", "'run/a' is relative"),
]


def addresses(*texts):
    return tuple(map(Address.parse, texts))


def networks(*texts):
    return tuple(map(ip_network, texts))


def message_of(text):
    with pytest.raises(ConfigurationError) as caught:
        loads(text, name="sockd.toml")
    assert type(caught.value) is ConfigurationError
    assert caught.value.exit_code == EX_CONFIG
    return str(caught.value)


@pytest.mark.parametrize(("text", "expected"), [pytest.param(*row[1:], id=row[0]) for row in WRONG])
def test_wrong(text, expected):
    assert message_of(text) == f"sockd.toml{expected}"


@pytest.mark.parametrize(("address", "start", "part"), [pytest.param(*row[1:], id=row[0]) for row in WRONG_ADDRESSES])
def test_wrong_address(address, start, part):
    message = message_of(LISTEN.replace("tcp://127.0.0.1:7000", address))
    assert message.startswith(f"sockd.toml{start}")
    assert address in message
    assert part in message
    assert "\n" not in message


def test_every_wrong_configuration_has_its_own_message():
    texts = [row[1] for row in WRONG] + [LISTEN.replace("tcp://127.0.0.1:7000", row[1]) for row in WRONG_ADDRESSES]
    assert len(texts) >= 40
    messages = [message_of(text) for text in texts]
    bare = {re.sub(r"^sockd\.toml[:0-9]*", "", message) for message in messages}
    assert len(bare) == len(texts)
    assert all(message.isprintable() for message in messages)


def test_all_mistakes_of_a_file_are_reported_in_its_order():
    text = """\
        [daemon]
        multiplexer = "epol"
        log = { level = "warn", format = 3 }

        [[listen]]
        address = "tpc://:1"
        backlog = 0

        [service.a]
        idle_timeout = "1x"
        handler = "a"
    """
    message = message_of(textwrap.dedent(text))
    assert re.findall(r"^sockd\.toml:(\d+): (\S+):", message, re.MULTILINE) == [
        ("2", "daemon.multiplexer"),
        ("3", "daemon.log.level"),
        ("3", "daemon.log.format"),
        ("5", "listen[0]"),
        ("6", "listen[0].address"),
        ("7", "listen[0].backlog"),
        ("10", "service.a.idle_timeout"),
        ("11", "service.a.handler"),
    ]
    assert len(message.split("\n")) == 8


def test_a_wrong_list_element_has_its_own_line():
    text = '[[listen]]\naddresses = [\n  "tcp://:1",\n  "udp://:2",\n  \'tcp:///\',\n]\nservice = "upper"\n'
    assert message_of(text).startswith("sockd.toml:5: listen[0].addresses[2]: ")


def test_a_port_that_the_kernel_chooses_may_stand_many_times():
    text = '[[listen]]\naddresses = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]\nservice = "upper"\n'
    assert loads(text + text, name="x")


def test_addresses_are_equal_as_addresses_not_as_texts():
    text = '[[listen]]\naddresses = ["tcp://127.0.0.1:7", "tcp://[::1]:7"]\nservice = "upper"\n'
    assert loads(text, name="x")
    with pytest.raises(ConfigurationError, match="is a duplicate of"):
        loads(text.replace("[::1]", "127.0.0.1"), name="x")


def test_ports_have_names_where_services_cannot_be_read():
    text = LISTEN.replace("7000", "frobnicate")
    assert loads(text, name="x", services=frozenset({("tcp", "frobnicate")}))
    with pytest.raises(ConfigurationError, match="'frobnicate' is not a tcp service"):
        loads(text, name="x")


def test_messages_hold_control_characters_escaped():
    message = message_of(LISTEN + '[daemon]\nmultiplexer = "\\u001b[31m\\n\\u0085\\u007f"\n')
    assert '"\\u001b[31m\\n\\u0085\\u007f"' in message
    assert message.isprintable()


def test_a_long_value_is_cut():
    message = message_of(LISTEN + f'[daemon]\nmultiplexer = "{"x" * 1000}"\n')
    assert len(message) < 300


def test_every_option_of_a_listener_is_read():
    text = """\
        [[listen]]
        address = "tcp://127.0.0.1:7000"
        service = "upper"
        reuse_address = false
        reuse_port = true
        keepalive = { idle = "1m", count = 2 }
        user_timeout = 0
        linger = "5s"
        receive_buffer = "128 KiB"
        send_buffer = 65536
        defer_accept = "3s"
        fast_open = 16
        free_bind = true
        ipv6_only = true
        interface = "lo"
        mark = 4294967295
        max_connections = 100
        max_connections_per_source = 5
        rate = { connections = 2, per = "1m" }
        at_limit = "refuse"
        banner = "try later"
        allow = ["10.0.0.0/8", "::1", "192.0.2.7"]
        deny = ["10.1.0.0/16"]
        datagram_budget = "64 KiB"
    """
    (listen,) = loads(textwrap.dedent(text), name="x").listen
    assert listen == ListenSettings(
        address=Address.parse("tcp://127.0.0.1:7000"),
        service="upper",
        reuse_address=False,
        reuse_port=True,
        keepalive=KeepaliveSettings(idle=Duration(60), count=2),
        user_timeout=Duration(0),
        linger=Duration(5),
        receive_buffer=Size(131_072),
        send_buffer=Size(65_536),
        defer_accept=Duration(3),
        fast_open=16,
        free_bind=True,
        ipv6_only=True,
        interface="lo",
        mark=2**32 - 1,
        max_connections=100,
        max_connections_per_source=5,
        rate=RateSettings(connections=2, per=Duration(60)),
        at_limit="refuse",
        banner="try later",
        allow=networks("10.0.0.0/8", "::1", "192.0.2.7"),
        deny=networks("10.1.0.0/16"),
        datagram_budget=Size(65_536),
    )


def test_a_whole_file():
    text = """\
        [daemon]
        multiplexer = "poll"
        max_connections = 500
        stop_timeout = "1m30s"
        log = { format = "json", level = "debug" }

        [[listen]]
        address = "tcp://127.0.0.1:7000"
        service = "policy"
        backlog = 10
        nodelay = false

        [[listen]]
        addresses = ["udp://127.0.0.1:7000", "unix:/run/a.sock"]
        service = "app.main:Handlers.greet"

        [service.policy]
        handler = "mypackage.policy:service"
        framing = "raw"
        max_frame = "64 KiB"
        idle_timeout = "15m"
        linger_timeout = 2.5
        high_water = 4096

        [service.echo]
        builtin = "echo"
        idle_timeout = "1m"

        [service.unused]
        builtin = "discard"
    """
    settings = loads(textwrap.dedent(text), name="sockd.toml")
    assert settings == Settings(
        daemon=DaemonSettings(
            multiplexer="poll",
            max_connections=500,
            stop_timeout=Duration(90),
            log=LogSettings(format="json", level="debug"),
        ),
        listen=(
            ListenSettings(address=Address.parse("tcp://127.0.0.1:7000"), service="policy", backlog=10, nodelay=False),
            ListenSettings(
                addresses=addresses("udp://127.0.0.1:7000", "unix:/run/a.sock"), service="app.main:Handlers.greet"
            ),
        ),
        service={
            "policy": ServiceSettings(
                handler="mypackage.policy:service",
                framing="raw",
                max_frame=Size(65_536),
                idle_timeout=Duration(900),
                linger_timeout=Duration(2.5),
                high_water=Size(4096),
            ),
            "echo": ServiceSettings(builtin="echo", idle_timeout=Duration(60)),
            "unused": ServiceSettings(builtin="discard"),
        },
    )
    assert type(settings.service["policy"].max_frame) is Size
    assert type(settings.service["policy"].high_water) is Size
    assert type(settings.service["policy"].idle_timeout) is Duration
    assert type(settings.service["policy"].linger_timeout) is Duration


def test_what_is_not_set_has_its_default():
    assert loads(LISTEN, name="x") == Settings(
        listen=(ListenSettings(address=Address.parse("tcp://127.0.0.1:7000"), service="upper"),)
    )


@pytest.mark.parametrize(
    ("key", "value", "result"),
    [
        ("backlog", "1", 1),
        ("backlog", "65535", 65_535),
    ],
)
def test_the_ends_of_a_range_are_allowed(key, value, result):
    assert getattr(loads(LISTEN + f"{key} = {value}\n", name="x").listen[0], key) == result


def test_a_byte_order_mark_is_skipped():
    assert loads(b"\xef\xbb\xbf" + LISTEN.encode(), name="x") == loads(LISTEN, name="x")


def test_load_reads_a_file_and_names_it(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(LISTEN)
    assert load(path) == load(str(path)) == loads(LISTEN, name="x")
    path.write_text(LISTEN + "backlog = 0\n")
    with pytest.raises(ConfigurationError, match=re.escape(f"{path}:4: listen[0].backlog: 0 ")):
        load(path)


def test_load_names_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "none.toml")
    assert str(caught.value) == f"{tmp_path / 'none.toml'}: No such file or directory (ENOENT)"
    assert caught.value.exit_code == EX_CONFIG


def test_load_names_a_directory(tmp_path):
    with pytest.raises(ConfigurationError, match="is a directory, not a file"):
        load(tmp_path)


def test_load_tells_missing_rights_apart(tmp_path):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied", path)

    with pytest.raises(PermissionFault, match="EACCES") as caught:
        load(tmp_path / "a.toml", opener=refuse)
    assert caught.value.exit_code == EX_NOPERM


def test_load_reads_no_endless_file(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.toml").write_text(LISTEN)
    with pytest.raises(ConfigurationError, match=r"a\.toml: larger than 10 bytes; this is not a configuration"):
        load(tmp_path / "a.toml")


def test_find(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "SYSTEM_FILE", tmp_path / "etc.toml")
    assert module.find() is None
    (tmp_path / "etc.toml").touch()
    assert module.find() == tmp_path / "etc.toml"
    os.symlink("nowhere", tmp_path / "sockd.toml")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert module.find() == module.LOCAL_FILE
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # nothing of the current directory
    assert module.find() == tmp_path / "etc.toml"


def test_command_line():
    settings = from_command_line(
        ["tcp://127.0.0.1:7000=app:greet", "unix:/tmp/a=b.sock=upper"],
        multiplexer="select",
        log_level="debug",
        log_format="json",
    )
    assert settings == Settings(
        daemon=DaemonSettings(multiplexer="select", log=LogSettings(format="json", level="debug")),
        listen=(
            ListenSettings(address=Address.parse("tcp://127.0.0.1:7000"), service="app:greet"),
            ListenSettings(address=Address.parse("unix:/tmp/a=b.sock"), service="upper"),
        ),
    )


def test_command_line_over_a_file():
    base = loads(POLICY + '[daemon]\nmultiplexer = "poll"\nlog.format = "json"\n', name="x")
    assert from_command_line(base=base) == base
    settings = from_command_line(["udp://127.0.0.1:1=policy"], base=base, log_level="error")
    assert settings.listen == (ListenSettings(address=Address.parse("udp://127.0.0.1:1"), service="policy"),)
    assert settings.service == base.service
    assert settings.daemon.multiplexer == "poll"
    assert settings.daemon.log == LogSettings(format="json", level="error")


@pytest.mark.parametrize(
    ("listen", "options", "expected"),
    [
        (
            ["tcp://127.0.0.1:7000"],
            {},
            '--listen "tcp://127.0.0.1:7000": write ADDRESS=SERVICE, such as tcp://127.0.0.1:7007=upper',
        ),
        (["=upper"], {}, '--listen "=upper": write ADDRESS=SERVICE, such as tcp://127.0.0.1:7007=upper'),
        (["tcp://:1="], {}, '--listen "tcp://:1=": write ADDRESS=SERVICE, such as tcp://127.0.0.1:7007=upper'),
        (
            ["tcp://:1=uper"],
            {},
            f'--listen "tcp://:1=uper": "uper" is not a service; known: {BUILTINS}; did you mean "upper"?',
        ),
        (
            ["tcp://:1=upper", "tcp://:1=echo"],
            {},
            '--listen "tcp://:1=echo": "tcp://:1" is a duplicate of listen[0].address',
        ),
        (
            [],
            {"multiplexer": "kqueue", "log_level": "warn"},
            '--multiplexer "kqueue" is not valid; allowed: "auto", "epoll", "poll" or "select"\n'
            '--log-level "warn" is not valid; allowed: "debug", "info", "warning" or "error"; '
            'did you mean "warning"?',
        ),
        ([], {"log_format": "xml"}, '--log-format "xml" is not valid; allowed: "text" or "json"'),
    ],
)
def test_wrong_command_line(listen, options, expected):
    with pytest.raises(UsageError) as caught:
        from_command_line(listen, **options)
    assert str(caught.value) == expected
    assert caught.value.exit_code == EX_USAGE


def test_wrong_address_on_the_command_line():
    with pytest.raises(UsageError, match=r'^--listen "tpc://:1=upper": .*did you mean tcp://:1'):
        from_command_line(["tpc://:1=upper"])
