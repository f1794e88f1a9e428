# SPDX-License-Identifier: MIT
"""Lines over TLS 1.3: the CPU time of servers for each, sockd beside asyncio and uvloop; and what an idle one costs.

    python bench/tls.py [--rounds 3] [--seconds 2]

The servers are measured one after the other in each round, server and client each on a core of its own where there are
two; figures are medians.  `x`: the better one of uvloop's took so many times as long.  HAProxy, where it is installed,
has the plain C server behind it, which shares its core; its figure is HAProxy's own time alone.
"""

import argparse
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from measure import build
from servers import BUILD, free_port, wait_for

BIN = Path(sys.executable).parent
PEERS = Path(__file__).parent / "peers"
SHAPES = {"64x1x32": (64, 1, 32), "64x16x32": (64, 16, 32), "8x1x16384": (8, 1, 16_384)}
IDLE = 200
SOCKD = ("sockd function", "sockd session coroutine")
SERVERS = {
    SOCKD[0]: ("long",),
    SOCKD[1]: ("session",),
    "uvloop Protocol": ("uvloop_protocol.py",),
    "uvloop streams": ("uvloop_streams.py",),
    "asyncio Protocol": ("asyncio_protocol.py",),
    "asyncio streams": ("asyncio_streams.py",),
}
HAPROXY = "HAProxy, plain C behind it"
if shutil.which("haproxy"):
    SERVERS[HAPROXY] = ("haproxy",)
PROXY = """\
global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen lines
  bind 127.0.0.1:{port} ssl crt {room}/both.pem ssl-min-ver TLSv1.3
  server plain 127.0.0.1:{plain}
"""
CONFIGURATION = """\
[daemon]
path = "{peers}"
{user}
[[listen]]
address = "tcp://127.0.0.1:0"
service = "lines"
tls = {{ certificate = "{room}/certificate.pem", key = "{room}/key.pem" }}
[service.lines]
handler = "sockd_app:{handler}"
"""

USER = "" if os.geteuid() else 'user = "root"'


def certify(room: Path) -> None:
    names = ("-keyout", room / "key.pem", "-out", room / "certificate.pem", "-addext", "subjectAltName=DNS:localhost")
    words = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    subprocess.run([*words, "-subj", "/CN=localhost", *names], check=True, capture_output=True)


@contextmanager
def proxying(room: Path):
    """Yield the process of HAProxy, and its port."""
    port, core = free_port(), min(os.sched_getaffinity(0))
    (room / "both.pem").write_text((room / "certificate.pem").read_text() + (room / "key.pem").read_text())
    with subprocess.Popen(
        [BUILD / "c_epoll", "tcp://127.0.0.1:0", "upper"], stdout=subprocess.PIPE, text=True
    ) as plain:
        os.sched_setaffinity(plain.pid, {core})
        behind = plain.stdout.readline().split()[1]
        (room / "haproxy.cfg").write_text(PROXY.format(port=port, plain=behind, room=room))
        with subprocess.Popen(
            ["haproxy", "-db", "-q", "-f", room / "haproxy.cfg"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as proxy:
            os.sched_setaffinity(proxy.pid, {core})
            try:
                wait_for(lambda: f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text(), 5, "HAProxy")
                yield proxy.pid, port
            finally:
                proxy.terminate()
                plain.terminate()


@contextmanager
def serving(name: str, room: Path):
    """Yield the process of a server, and its port."""
    if name == HAPROXY:
        with proxying(room) as found:
            yield found
        return
    what = SERVERS[name][0]
    if name in SOCKD:
        (room / "sockd.toml").write_text(CONFIGURATION.format(peers=PEERS, room=room, handler=what, user=USER))
        command = [BIN / "sockd", "--foreground", "--config", room / "sockd.toml"]
    else:
        command = [sys.executable, PEERS / what, "tcp://127.0.0.1:0", "upper"]
    environment = dict(os.environ, BENCH_TLS=str(room))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=room
    ) as server:
        os.sched_setaffinity(server.pid, {min(os.sched_getaffinity(0))})
        found = None
        for said in server.stdout:
            if found := re.search(r"(?:listening |127\.0\.0\.1:)(\d+)", said):
                break
        if found is None:
            raise SystemExit(f"{name} does not serve")
        try:
            yield server.pid, int(found[1])
        finally:
            server.terminate()


def connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(sock, server_hostname="localhost")


def busy_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def one_round(clients: list[ssl.SSLSocket], block: bytes) -> None:
    for client in clients:
        client.sendall(block)
    for client in clients:
        left = len(block)
        while left:
            left -= len(client.recv(left))


def measure(name: str, shape: tuple[int, int, int], room: Path, context: ssl.SSLContext, seconds: float) -> float:
    """Return the server's CPU time in us a line."""
    count, lines, size = shape
    block = (b"x" * (size - 1) + b"\n") * lines
    with serving(name, room) as (pid, port):
        clients = [connect(port, context) for _ in range(count)]
        for _ in range(20):
            one_round(clients, block)
        rounds, before, until = 0, busy_ns(pid), time.monotonic() + seconds
        while time.monotonic() < until:
            one_round(clients, block)
            rounds += 1
        took = busy_ns(pid) - before
        for client in clients:
            client.close()
    return took / 1000 / (rounds * count * lines)


def idle(name: str, room: Path, context: ssl.SSLContext) -> tuple[float, float]:
    """Return KiB of memory and descriptors for each idle connection."""
    with serving(name, room) as (pid, port):
        clients = [connect(port, context) for _ in range(20)]

        def state() -> tuple[int, int]:
            one_round(clients, b"x\n")
            kib = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
            return kib, len(os.listdir(f"/proc/{pid}/fd"))

        before = state()
        clients += [connect(port, context) for _ in range(IDLE)]
        after = state()
        for client in clients:
            client.close()
    return (after[0] - before[0]) / IDLE, (after[1] - before[1]) / IDLE


def main() -> int:
    parser = argparse.ArgumentParser(description="Lines over TLS.")
    parser.add_argument("--rounds", type=int, default=3, help="each measures every server once (default: 3)")
    parser.add_argument("--seconds", type=float, default=2, help="for each measurement (default: 2)")
    arguments = parser.parse_args()
    build()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as directory:
        room = Path(directory)
        certify(room)
        context = ssl.create_default_context(cafile=room / "certificate.pem")
        figures = {(name, shape): [] for shape in SHAPES for name in SERVERS}
        for _ in range(arguments.rounds):
            for name, shape in figures:
                os.sched_setaffinity(0, set(cores))  # which serving() takes the first of
                figures[name, shape].append(measure(name, SHAPES[shape], room, context, arguments.seconds))
        for shape in SHAPES:
            times = {name: median(figures[name, shape]) for name in SERVERS}
            rival = min(time for name, time in times.items() if name.startswith("uvloop"))
            for name, time_us in times.items():
                print(f"{shape:10} {name:26} {time_us:8.2f} us a line  x{rival / time_us:.2f}")
        for name in SERVERS:
            memory, descriptors = idle(name, room, context)
            print(f"idle       {name:26} {memory:8.1f} KiB, {descriptors:.0f} descriptors a connection")
    return 0


if __name__ == "__main__":
    sys.exit(main())
