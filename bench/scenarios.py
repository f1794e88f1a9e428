# SPDX-License-Identifier: MIT
"""What is measured and who is measured: tables of data. A new scenario or peer is a new row here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Transport = Literal["tcp", "unix"]
Service = Literal["upper", "echo", "count", "long", "pong", "program"]


@dataclass(frozen=True)
class Load:
    """Replies per second while `connections` keep `in_flight` lines of `line_bytes` (newline included) on their way."""

    transport: Transport
    connections: int
    in_flight: int
    line_bytes: int = 32
    idle: int = 0  # further connections that never speak
    service: Service = "upper"

    @property
    def title(self) -> str:
        wire = {"tcp": "TCP", "unix": "a Unix socket"}[self.transport]
        idle = f", {self.idle:,} more idle" if self.idle else ""
        echo = ", echoed" if self.service == "echo" else ""
        lines = f"{self.in_flight} x {self.line_bytes:,} bytes in flight"
        count = "one connection" if self.connections == 1 else f"{self.connections} connections"
        return f"{count} over {wire}, {lines}{echo}{idle}"


@dataclass(frozen=True)
class Upload:
    """Lines per second that are counted, and not answered, while `connections` send without a pause."""

    connections: int
    line_bytes: int
    transport: Transport = "tcp"
    service: Service = "count"

    @property
    def title(self) -> str:
        return f"{self.connections} connections send lines of {self.line_bytes} bytes, which are counted"


@dataclass(frozen=True)
class Visits:
    """Connections per second that connect, ask one line and close, `at_once` of them at a time."""

    at_once: int
    transport: Transport = "tcp"
    service: Service = "upper"

    @property
    def title(self) -> str:
        return f"short connections, {self.at_once} at once: connect, one line of 32 bytes, its answer, close"


@dataclass(frozen=True)
class Programs:
    """Connections per second that are each served by a program of its own, `at_once` of them at a time."""

    at_once: int
    transport: Transport = "tcp"
    service: Service = "program"

    @property
    def title(self) -> str:
        return f"a static C program for each connection, {self.at_once} at once: one line, its answer, close"


@dataclass(frozen=True)
class Trickle:
    """Time for one line of `line_bytes` that is sent byte by byte, and for one twice as long."""

    line_bytes: int
    transport: Transport = "tcp"
    service: Service = "long"

    @property
    def title(self) -> str:
        return f"one line of {self.line_bytes:,} bytes, a byte with each send, and one twice as long"


@dataclass(frozen=True)
class IdleMemory:
    """Growth of the server's RSS by `connections` that never speak, for each of them."""

    connections: int
    transport: Transport = "tcp"
    service: Service = "upper"

    @property
    def title(self) -> str:
        return f"resident memory for each of {self.connections:,} connections that never speak"


@dataclass(frozen=True)
class Redis:
    """Requests per second of redis-benchmark: PING inline, `pipeline` at once on each of `clients`."""

    pipeline: int
    clients: int = 50
    requests_per_second: int = 100_000  # a guess, from which --seconds makes a number of requests
    transport: Transport = "tcp"
    service: Service = "pong"

    @property
    def title(self) -> str:
        return f"redis-benchmark, PING inline, {self.clients} clients, -P {self.pipeline}"


Scenario = Load | Upload | Visits | Programs | Trickle | IdleMemory | Redis

SCENARIOS: dict[str, Scenario] = {
    "tcp-1x1": Load("tcp", connections=1, in_flight=1),
    "tcp-64x1": Load("tcp", connections=64, in_flight=1),
    "tcp-64x16": Load("tcp", connections=64, in_flight=16),
    "tcp-64x1-idle": Load("tcp", connections=64, in_flight=1, idle=8_000),
    "unix-64x1": Load("unix", connections=64, in_flight=1),
    "unix-64x16": Load("unix", connections=64, in_flight=16),
    "tcp-64k": Load("tcp", connections=8, in_flight=1, line_bytes=64 * 1024, service="echo"),
    "upload": Upload(connections=8, line_bytes=100),
    "short": Visits(at_once=64),
    "programs": Programs(at_once=16),
    "bytewise": Trickle(1 << 20),
    "idle": IdleMemory(10_000),
    "redis-1": Redis(pipeline=1),
    "redis-16": Redis(pipeline=16, requests_per_second=1_200_000),
}

LINES: dict[Service, str] = {"upper": "upper", "echo": "echo", "count": "count", "long": "upper"}


@dataclass(frozen=True)
class Peer:
    """A server.

    `command` is what to start: words in braces are filled in by servers.py. `services` are those it has, each with
    what {service} becomes. A peer that does not `announce` "listening PORT" on its standard output is asked for its
    port through the kernel. `environment` is added to ours. A peer without one of the `modules` or `programs` is left
    out.
    """

    label: str
    command: tuple[str, ...]
    services: Mapping[Service, str] = field(default_factory=LINES.copy)
    announces: bool = True
    environment: tuple[tuple[str, str], ...] = ()
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


# asyncio receives into a fresh 256 KiB object each time, which glibc maps and unmaps (its threshold is 128 KiB): two
# thirds of the throughput and more. A rival is shown at its best: these two keep it on the heap.
HEAP = (("MALLOC_MMAP_THRESHOLD_", str(4 << 20)), ("MALLOC_TRIM_THRESHOLD_", str(16 << 20)))

PONG: dict[Service, str] = {"pong": "pong"}
CALLED: dict[Service, str] = {"upper": "handler", "long": "handler"}
"""A function of Python for each line, as sockd's handlers are."""
SOCKD = ("{sockd}", "--foreground", "--log-level", "warning", "--listen", "{address}={service}")
HANDLERS: dict[Service, str] = {name: f"sockd_app:{name}" for name in ("upper", "echo", "long", "pong", "count")}
BESIDE = (*SOCKD, "--listen", "unix:{directory}/session=sockd_app:session")
"""The daemon with a coroutine service beside, so that asyncio's loop runs in it."""
BUILTINS: dict[Service, str] = {"upper": "upper", "echo": "echo"}
REDIS = ("redis-server", "--bind", "127.0.0.1", "--port", "{free_port}", "--save", "", "--dir", "{directory}")


def python(program: str) -> tuple[str, ...]:
    """The command of a peer in Python."""
    return ("{python}", program, "{address}", "{service}")


def superserver(program: str) -> tuple[str, ...]:
    """The command of one that executes a program for each connection."""
    return ("{python}", "superserver.py", program, "{free_port}", "{build}/line", "{directory}")


PROGRAM: dict[Service, str] = {"program": "program"}
SUPERSERVERS = ("xinetd", "tcpserver")
"""In place of ceiling and rival where programs are executed."""

PEERS: dict[str, Peer] = {
    "c-epoll": Peer("plain C epoll", ("{build}/c_epoll", "{address}", "{service}"), services=LINES | PONG),
    "sockd": Peer("sockd, Python function", SOCKD, services=HANDLERS, announces=False),
    "sockd-protocol": Peer(
        "sockd, Python protocol class", SOCKD, services={"upper": "sockd_app:Upper"}, announces=False
    ),
    "sockd-session": Peer("sockd, coroutine", SOCKD, services={"upper": "sockd_app:session"}, announces=False),
    "sockd-draining": Peer(
        "sockd, coroutine with drain()", SOCKD, services={"upper": "sockd_app:draining"}, announces=False
    ),
    "sockd-beside": Peer("sockd, Python function beside a coroutine", BESIDE, services=HANDLERS, announces=False),
    "sockd-builtin": Peer("sockd, built-in", SOCKD, services=BUILTINS, announces=False),
    "libevent": Peer("libevent bufferevent", ("{build}/libevent", "{address}", "{service}")),
    "go": Peer("Go net and bufio", ("{build}/go_net", "{address}", "{service}")),
    "uvloop-protocol": Peer(
        "uvloop Protocol", python("uvloop_protocol.py"), services=LINES | PONG | CALLED, modules=("uvloop",)
    ),
    "uvloop-inlined": Peer(
        "uvloop Protocol, inlined", python("uvloop_protocol.py"), services={"upper": "upper"}, modules=("uvloop",)
    ),
    "blazio-protocol": Peer(
        "blazio Protocol", python("blazio_protocol.py"), services=LINES | PONG | CALLED, modules=("blazio",)
    ),
    "rloop-protocol": Peer(
        "rloop Protocol", python("rloop_protocol.py"), services=LINES | PONG | CALLED, modules=("rloop",)
    ),
    "asyncio-protocol": Peer(
        "asyncio Protocol", python("asyncio_protocol.py"), services=LINES | CALLED, environment=HEAP
    ),
    "asyncio-buffer": Peer(
        "asyncio Protocol, sockd.buffer", python("asyncio_buffer.py"), services={"upper": "upper"}, environment=HEAP
    ),
    "uvloop-streams": Peer("uvloop streams", python("uvloop_streams.py"), modules=("uvloop",)),
    "asyncio-streams": Peer("asyncio streams", python("asyncio_streams.py"), environment=HEAP),
    "twisted": Peer("Twisted LineReceiver", python("twisted_lines.py"), modules=("twisted",)),
    "gevent": Peer("gevent", python("gevent_lines.py"), modules=("gevent",)),
    "redis": Peer("redis-server", REDIS, services=PONG, announces=False),
    "sockd-programs": Peer("sockd", superserver("sockd"), services=PROGRAM, announces=False),
    "xinetd": Peer("xinetd", superserver("xinetd"), services=PROGRAM, announces=False, programs=("xinetd",)),
    "tcpserver": Peer(
        "tcpserver", superserver("tcpserver"), services=PROGRAM, announces=False, programs=("tcpserver",)
    ),
}

CEILING = "c-epoll"
RIVAL = "uvloop-protocol"
MODEL = "redis"  # the rival where redis-benchmark asks
