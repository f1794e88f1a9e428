"""What is measured and who is measured: two tables of data. A new scenario or peer is a new row here."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Load:
    """Replies per second while `connections` keep `in_flight` lines of `line_bytes` (newline included) on their way."""

    transport: Literal["tcp", "unix"]
    connections: int
    in_flight: int
    line_bytes: int = 32
    idle: int = 0  # further connections that never speak

    @property
    def title(self) -> str:
        wire = {"tcp": "TCP", "unix": "a Unix socket"}[self.transport]
        idle = f", {self.idle:,} more idle" if self.idle else ""
        return f"{self.connections} connections over {wire}, {self.in_flight} x {self.line_bytes} bytes in flight{idle}"


@dataclass(frozen=True)
class IdleMemory:
    """Growth of the server's RSS by `connections` that never speak, for each of them."""

    connections: int
    peers: tuple[str, ...]
    transport: Literal["tcp", "unix"] = "tcp"

    @property
    def title(self) -> str:
        return f"resident memory for each of {self.connections:,} connections that never speak"


@dataclass(frozen=True)
class Peer:
    """A server that answers each line in upper case.

    `command` is what to start: words in braces are filled in by servers.py. A peer that does not `announce`
    "listening PORT" on its standard output is asked for its port through the kernel. `environment` is added to ours.
    """

    label: str
    command: tuple[str, ...]
    announces: bool = True
    environment: tuple[tuple[str, str], ...] = ()


SCENARIOS: dict[str, Load | IdleMemory] = {
    "tcp-64x1": Load("tcp", connections=64, in_flight=1),
    "tcp-64x16": Load("tcp", connections=64, in_flight=16),
    "unix-64x1": Load("unix", connections=64, in_flight=1),
    "unix-64x16": Load("unix", connections=64, in_flight=16),
    "idle": IdleMemory(10_000, ("c-epoll", "sockd", "uvloop-protocol", "asyncio-protocol", "asyncio-streams")),
}

# asyncio receives into a fresh 256 KiB object each time, which glibc maps and unmaps (its threshold is 128 KiB): two
# thirds of the throughput and more. A rival is shown at its best: these two keep it on the heap.
HEAP = (("MALLOC_MMAP_THRESHOLD_", str(4 << 20)), ("MALLOC_TRIM_THRESHOLD_", str(16 << 20)))

SOCKD = ("{sockd}", "--foreground", "--log-level", "warning", "--listen")

PEERS: dict[str, Peer] = {
    "c-epoll": Peer("plain C epoll", ("{build}/c_epoll", "{address}")),
    "sockd": Peer("sockd, Python function", (*SOCKD, "{address}=sockd_app:upper"), announces=False),
    "sockd-builtin": Peer("sockd, built-in upper", (*SOCKD, "{address}=upper"), announces=False),
    "uvloop-protocol": Peer("uvloop Protocol", ("{python}", "uvloop_protocol.py", "{address}")),
    "asyncio-protocol": Peer("asyncio Protocol", ("{python}", "asyncio_protocol.py", "{address}"), environment=HEAP),
    "asyncio-buffer": Peer(
        "asyncio Protocol, sockd.buffer", ("{python}", "asyncio_buffer.py", "{address}"), environment=HEAP
    ),
    "uvloop-streams": Peer("uvloop streams", ("{python}", "uvloop_streams.py", "{address}")),
    "asyncio-streams": Peer("asyncio streams", ("{python}", "asyncio_streams.py", "{address}"), environment=HEAP),
}

CEILING = "c-epoll"
RIVAL = "uvloop-protocol"
