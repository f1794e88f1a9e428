# SPDX-License-Identifier: MIT
"""What the storm's daemon serves: a row for each listener, and the text of sockd.toml.

Every kind of handler by every framing, every built-in, programs, relays and SOCKS servers; each way to them that there
is: IPv4, IPv6, Unix sockets, datagrams, PROXY headers, TLS with and without clients' certificates, STARTTLS, rules.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sockd.services.socks.users import Scrypt
from sockd.wire import framing as wire

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 4096
FRAMINGS = {
    "line": ('"line"', wire.Line(LIMIT)),
    "line-crlf": ('{ type = "line", ending = "crlf" }', wire.Line(LIMIT, b"\r\n")),
    "line-same": ('{ type = "line", ending = "same" }', wire.Line(LIMIT, "same")),
    "strict-line": ('"strict-line"', wire.StrictLine(LIMIT)),
    "delimiter": ('{ type = "delimiter", delimiter = ";;" }', wire.Delimiter(LIMIT, b";;")),
    "nul": ('"nul"', wire.Nul(LIMIT)),
    "netstring": ('"netstring"', wire.Netstring(LIMIT)),
    "prefix1": ('{ type = "prefix", width = 1 }', wire.Prefix(LIMIT, 1)),
    "prefix2": ('{ type = "prefix", width = 2, order = "little" }', wire.Prefix(LIMIT, 2, "little")),
    "prefix3": ('{ type = "prefix", width = 3 }', wire.Prefix(LIMIT, 3)),
    "prefix4": ('{ type = "prefix", width = 4, includes_header = true }', wire.Prefix(LIMIT, 4, "big", True)),
    "prefix8": ('{ type = "prefix", width = 8 }', wire.Prefix(LIMIT, 8)),
    "varint": ('"varint"', wire.Varint(LIMIT)),
    "octet-count": ('"octet-count"', wire.OctetCount(LIMIT)),
    "octet-mixed": ('{ type = "octet-count", mixed = true }', wire.OctetCount(LIMIT, mixed=True)),
    "fixed": ('{ type = "fixed", size = 16 }', wire.Fixed(16)),
    "record": ('{ type = "record", format = "!BB14s" }', wire.Record("!BB14s")),
    "dot-block": ('"dot-block"', wire.DotBlock(LIMIT)),
    "blank-line": ('"blank-line"', wire.BlankLine(LIMIT)),
    "raw": ('"raw"', wire.Raw()),
}
UNBOUNDED = ("fixed", "record", "raw")
BY_EVERY_FRAMING = {
    "function": "answer",
    "connection": "with_connection",
    "batch": "batch",
    "protocol": "Frames",
    "moving": "Moves",
    "blocking": "blocking",
    "blocking-batch": "blocking_batch",
}
BY_ONE = {
    ("text", "line"): "texts",
    ("lines", "line"): "Lines",
    ("data", "raw"): "Data",
    ("buffered", "raw"): "Buffered",
    ("unmade", "line"): "unmade",
    ("oddly-made", "line"): "oddly_made",
    ("session", "line"): "session",
    ("raw-session", "raw"): "raw_session",
}
MUTE = ("unmade", "oddly-made")
"""Kinds that answer nobody."""
TIMES = """idle_timeout = "30s"
linger_timeout = "1s"
write_timeout = "3s"
frame_timeout = "3s"
high_water = "16 KiB"
max_buffer = "8 MiB"
"""
USER, PASSWORD = b"alice", b"secret"
USER_OF_PROGRAMS = 'user = "root"\n' if os.geteuid() == 0 else ""
PEER_ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Row:
    """One listener.

    Attributes:
        service: of the configuration.
        kind: of handler, or the service's own name.
        framing: key of FRAMINGS.
        scheme: tcp4, tcp6, scoped (IPv6 with its interface), unix, udp4, udp6, unixgram.
        more: keys of the [[listen]] table, TOML.
        way: what comes before the first frame: proxy, tls, client-ca, starttls, socks, socks-users.
    """

    service: str
    kind: str
    framing: str
    scheme: str
    more: str = ""
    way: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return "+".join([self.service, self.scheme, *sorted(self.way)])

    @property
    def is_datagram(self) -> bool:
        return self.scheme.startswith(("udp", "unixgram"))


@dataclass
class Plan:
    """Rows and the tables of their services.

    Args:
        directory: of the daemon, for Unix paths; short, for sun_path has 108 bytes.
        certificates: of storm.certificates.
        scope: an interface with a link-local address; empty for none.
    """

    directory: Path
    certificates: object
    scope: str = ""
    rows: list[Row] = field(default_factory=list)
    tables: dict[str, str] = field(default_factory=dict)

    def add(self, service, kind, framing, *schemes, more="", way=()):
        self.rows += [Row(service, kind, framing, scheme, more, frozenset(way)) for scheme in schemes]

    def table(self, name, text, *, timed=True):
        self.tables[name] = text + ("\n" + TIMES if timed else "")

    def path(self, row: Row) -> str:
        return f"{self.directory}/{self.rows.index(row)}"

    def address(self, row: Row) -> str:
        """Return the address to bind; ports are the kernel's choice."""
        match row.scheme:
            case "tcp6" | "udp6":
                return f"{row.scheme[:3]}://[::1]:0"
            case "scoped":
                return f"tcp://[fe80::1%{self.scope}]:0"
            case "unix" | "unixgram":
                return f"{row.scheme}:{self.path(row)}"
        return f"{row.scheme[:3]}://{PEER_ADDRESS}:0"


def plan_of(directory: Path, certificates, scope: str = "") -> Plan:
    plan = Plan(directory, certificates, scope)
    _handlers(plan)
    _ways(plan)
    _others(plan)
    return plan


def _handlers(plan: Plan) -> None:
    schemes = ("tcp4", "unix", "tcp6")
    number = 0
    for kind, handler in BY_EVERY_FRAMING.items():
        for framing, (text, _) in FRAMINGS.items():
            limit = "" if framing in UNBOUNDED else f"max_frame = {LIMIT}\n"
            name = f"{kind}-{framing}"
            plan.table(name, f'handler = "app:{handler}"\nframing = {text}\n{limit}')
            plan.add(name, kind, framing, schemes[number % 3])
            number += 1
    for (kind, framing), handler in BY_ONE.items():
        limit = "" if framing in UNBOUNDED else f"max_frame = {LIMIT}\n"
        plan.table(kind, f'handler = "app:{handler}"\nframing = "{framing}"\n{limit}')
        plan.add(kind, kind, framing, "tcp4", "unix")
    for kind in ("upper", "echo", "discard", "chargen", "qotd", "daytime", "time"):
        plan.add(kind, kind, "line", "tcp4", "unix")
        plan.add(kind, kind, "line", "udp4", "unixgram", more='datagram_budget = "1024 MiB"\n')
    for service, framing in (("function-line", "line"), ("blocking-line", "line"), ("function-record", "record")):
        plan.add(service, service.partition("-")[0], framing, "udp4", "udp6", "unixgram")
    plan.add("text", "text", "line", "udp4")
    if plan.scope:
        plan.add("lines", "lines", "line", "scoped")
        plan.add("function-line", "function", "line", "scoped")


def _ways(plan: Plan) -> None:
    """Each way to the service by some of the kinds that take connections differently."""
    made = plan.certificates
    tls = f'certificate = "{made.server.path}", key = "{made.server.key}", handshake_timeout = "3s"'
    proxy = 'proxy_protocol = { from = ["127.0.0.0/8", "::1", "unix:"], timeout = "3s" }\n'
    rules = (
        'allow = ["127.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24", "::1", "2001:db8::/32"]\n'
        "max_connections_per_source = 5\n"
        'rate = { connections = 2000, per = "1s", burst = 2000 }\n'
    )
    served = [
        ("lines", "lines", "line"),
        ("function-line", "function", "line"),
        ("batch-netstring", "batch", "netstring"),
        ("blocking-line", "blocking", "line"),
        ("moving-prefix4", "moving", "prefix4"),
        ("session", "session", "line"),
        ("relay", "relay", "line"),
        ("socks", "socks", "line"),
        ("exec", "exec", "raw"),
        ("metrics", "metrics", "raw"),
    ]
    for number, one in enumerate(served):
        family = ("tcp4", "tcp6")[number % 2]
        client_ca = f'client_ca = "{made.ca}"'
        plan.add(*one, family, more=f"tls = {{ {tls} }}\n", way={"tls"})
        plan.add(*one, "unix", more=f"tls = {{ {tls}, {client_ca} }}\n", way={"tls", "client-ca"})
        plan.add(*one, family, "unix", more=proxy, way={"proxy"})
        plan.add(*one, family, more=proxy + rules + f"tls = {{ {tls} }}\n", way={"proxy", "tls", "rules"})
        plan.add(*one, family, more=rules + 'names = true\nat_limit = "refuse"\nbanner = "no"\n', way={"rules"})
        plan.add(*one, family, more=rules + 'at_limit = "reset"\n', way={"rules"})
    starttls = f"tls = {{ {tls}, starttls = true }}\n"
    for service, framing in (("connection-line", "line"), ("protocol-netstring", "netstring"), ("session", "line")):
        plan.add(service, service.partition("-")[0], framing, "tcp4", "unix", more=starttls, way={"starttls"})
    plan.add("lines", "lines", "line", "tcp4", more=proxy + starttls, way={"proxy", "starttls"})


def _others(plan: Plan) -> None:
    target = plan.directory / "target"
    echo = next(plan.address(row) for row in plan.rows if row.service == "echo" and row.scheme == "unix")
    times = 'idle_timeout = "30s"'
    relay = f'half_close_timeout = "4s", connect_timeout = "10s", retry_after = "100ms", to = ["{echo}"'
    plan.table("relay", f'{times}\nrelay = {{ {relay}, "unix:{plan.directory}/nobody"] }}', timed=False)
    plan.table("relay-rude", f"{times}\nrelay = {{ {relay.replace(echo, f'unix:{target}')}] }}", timed=False)
    headed = relay.replace(echo, f"unix:{target}") + '], proxy_header = "v2"'
    plan.table("relay-headed", f"{times}\nrelay = {{ {headed} }}", timed=False)
    socks = (
        'negotiation_timeout = "4s", connect_timeout = "10s", idle_timeout = "30s", half_close_timeout = "4s", '
        'allow = ["loopback", "own", "*"]'
    )
    plan.table("socks", f"socks = {{ {socks} }}", timed=False)
    plan.table("socks-users", f'socks = {{ {socks}, users = "{plan.directory}/users" }}', timed=False)
    plan.table(
        "exec", f'exec = ["/bin/cat"]\nmax_instances = 32\n{USER_OF_PROGRAMS}limits = {{ wall = "20s" }}', timed=False
    )
    plan.table("metrics", f"metrics = true\n{TIMES}", timed=False)
    for service in ("relay", "relay-rude", "relay-headed"):
        plan.add(service, service, "line", "tcp4", "tcp6", "unix")
    plan.add("socks", "socks", "line", "tcp4", "tcp6", "unix")
    plan.add("socks-users", "socks-users", "line", "tcp4", "unix")
    plan.add("exec", "exec", "raw", "tcp4", "unix")
    plan.add("metrics", "metrics", "raw", "tcp4", "unix")


def toml_of(plan: Plan, *, workers: int = 1, level: str = "warning", without: int = -1, extra: str = "") -> str:
    """Return the text of sockd.toml.

    Args:
        workers: processes.
        level: of the log.
        without: number of a row whose listener is left out.
        extra: TOML behind it.
    """
    text = [
        f'[daemon]\ncontrol = "{plan.directory}/control.sock"\nworkers = {workers}\nmax_connections = 4000\n'
        f'stop_timeout = "5s"\nstall_time = "10s"\nthreads = 8\nmax_memory = "256 MiB"\n'
        f'log = {{ format = "json", level = "{level}" }}\n'
    ]
    for number, row in enumerate(plan.rows):
        if number != without:
            text.append(f'[[listen]]\naddress = "{plan.address(row)}"\nservice = "{row.service}"\n{row.more}')
    text += [f"[service.{name}]\n{table}\n" for name, table in plan.tables.items()]
    return "\n".join([*text, extra])


def users_text() -> str:
    """Return a file of users with the one that honest clients are; its hash is a cheap one."""
    empty = Scrypt(4, 8, 1, b"salt of the storm", bytes(32))
    hashed = Scrypt(empty.ln, empty.r, empty.p, empty.salt, empty.compute(PASSWORD))
    return f"{USER.decode()}:{hashed}\n"
