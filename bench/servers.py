# SPDX-License-Identifier: MIT
"""One peer's process: start it on its core, learn where it listens, read its memory, stop it."""

import importlib.util
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from scenarios import Peer, Service, Transport

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
POLL_S = 0.01


class MissingPeerError(Exception):
    """The peer cannot run here, through no fault of its own: it is left out and named."""


class PeerError(Exception):
    """The peer, or the generator against it, did not do what it should."""


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Let the processes started inside begin life on `core`; threads they start stay there too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def wait_for(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Return when `condition` is true; raise PeerError naming `what` when it is not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise PeerError(f"{what}: not within {timeout_s:g} s")
        time.sleep(POLL_S)


class Server:
    """A running peer; a context manager that stops it."""

    def __init__(self, peer: Peer, service: Service, transport: Transport, core: int) -> None:
        command = peer.command
        look_for(peer)
        self._directory = tempfile.TemporaryDirectory(prefix="sockd-bench-")
        self._path = Path(self._directory.name) / "socket"
        self._errors = Path(self._directory.name) / "stderr"
        words = {
            "address": "tcp://127.0.0.1:0" if transport == "tcp" else f"unix:{self._path}",
            "build": str(BUILD),
            "python": sys.executable,
            "sockd": find_sockd() if "{sockd}" in command else "",
            "service": peer.services[service],
            "directory": self._directory.name,
            "free_port": str(free_port()),
        }
        with pinned(core), self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [word.format_map(words) for word in command],
                cwd=HERE / "peers",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | dict(peer.environment),
            )
        self.pid = self._process.pid
        try:
            self.address = self._announced(transport) if peer.announces else self._found(transport)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _announced(self, transport: str) -> str:
        ready, _, _ = select.select([self._process.stdout], [], [], START_TIMEOUT_S)
        line = self._process.stdout.readline().decode() if ready else ""
        if not line.startswith("listening "):
            raise PeerError(f"did not start: {self.last_words() or 'no word from it'}")
        return self._at(transport, line.split()[1])

    def _found(self, transport: str) -> str:
        """Ask the kernel which socket the process listens on: its log is for people."""
        ports: list[int] = []

        def listens() -> bool:
            if self._process.poll() is not None:
                raise PeerError(f"exited with {self._process.returncode}: {self.last_words()}")
            if transport == "unix":
                return is_listening_path(str(self._path))
            ports.extend(listening_ports(self.pid))
            return bool(ports)

        wait_for(listens, START_TIMEOUT_S, "listening")
        return self._at(transport, str(ports[0]) if ports else "")

    def _at(self, transport: str, port: str) -> str:
        return f"tcp://127.0.0.1:{port}" if transport == "tcp" else f"unix:{self._path}"

    def last_words(self) -> str:
        """The end of what it wrote to standard error."""
        return self._errors.read_text(errors="replace").strip()[-600:]

    def rss_bytes(self) -> int:
        """Resident memory; smaps_rollup counts pages where statm may lag behind by a batch for each thread."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
        raise PeerError("no Rss in smaps_rollup")

    def cpu_seconds(self) -> float:
        """Processor time of all its threads: CPUCLOCK_SCHED of the process, as clock_getcpuclockid(3) makes it."""
        return time.clock_gettime(~self.pid << 3 | 2)

    def family_cpu_seconds(self) -> float:
        """The same with that of its children that have ended."""
        return sum(psutil.Process(self.pid).cpu_times()[:4])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._directory.cleanup()


def look_for(peer: Peer) -> None:
    """Raise MissingPeerError when its program or its modules are not there."""
    program = peer.command[0].format(build=BUILD, python=sys.executable, sockd=sys.executable)
    if shutil.which(program) is None:
        raise MissingPeerError(f"no {Path(program).name}: not installed, or not built for want of what it is made from")
    for name in peer.programs:
        if find_program(name) is None:
            raise MissingPeerError(f"no {name}: neither installed nor unpacked by tests/interop/install")
    for module in peer.modules:
        if importlib.util.find_spec(module) is None:
            raise MissingPeerError(f"no {module} in this Python; install the dependency group bench")


def find_program(name: str) -> str | None:
    """A program that is installed, or unpacked for the tests, since packages that exclude each other have it."""
    unpacked = (HERE.parent / "build" / "interop").glob("*/usr/*bin")
    return shutil.which(name, path=os.pathsep.join([*map(str, sorted(unpacked)), os.environ["PATH"], "/usr/sbin"]))


def free_port() -> int:
    """A port that nobody listens on now, for a server that cannot take 0; sessions may hold it in TIME_WAIT."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_sockd() -> str:
    """The sockd of the environment that runs the bench, else the one on PATH."""
    beside = Path(sys.executable).parent / "sockd"
    found = str(beside) if beside.exists() else shutil.which("sockd")
    if found is None:
        raise MissingPeerError("no sockd beside this Python nor on PATH; install the project first (pip install .)")
    return found


def listening_ports(pid: int) -> list[int]:
    """TCP ports that process `pid` listens on; empty while there are none."""
    process = psutil.Process(pid)
    connections = getattr(process, "net_connections", None) or process.connections  # the name before psutil 6
    return [c.laddr.port for c in connections("tcp") if c.status == psutil.CONN_LISTEN]


def is_listening_path(path: str) -> bool:
    """Whether the kernel marks the Unix socket as listening: flag __SO_ACCEPTCON, 0x10000, in /proc/net/unix."""
    rows = (line.split(maxsplit=7) for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return any(len(row) == 8 and row[7] == path and int(row[3], 16) & 0x10000 for row in rows)
