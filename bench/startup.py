# SPDX-License-Identifier: MIT
"""What a start costs: sockd's short runs beside Python's own, and the memory of a daemon without clients.

    python bench/startup.py [--rounds 15]

Each round runs every command once, one after the other.  CPU time and wall time are medians, memory is the peak; `x` is
the median ratio of CPU time to `python -c pass` of the same round.  `make bench` runs it first.

Second table: `systemd-socket-activate --accept --inetd`, where it is installed, starts a process for each connection,
which answers one line; wall time from connect(2) to the end, and processor time of all its children.
"""

import argparse
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import measure
import psutil
from servers import free_port, wait_for

BIN = Path(sys.executable).parent
HERE = Path(__file__).parent
BASE = "python -c pass"
COMMANDS = {
    BASE: (sys.executable, "-c", "pass"),
    "python -c 'import asyncio'": (sys.executable, "-c", "import asyncio"),
    "python -c 'import socketserver'": (sys.executable, "-c", "import socketserver"),
    "sockd --inetd upper": (str(BIN / "sockd"), "--inetd", "upper"),
    "sockd --version": (str(BIN / "sockd"), "--version"),
    "sockd --help": (str(BIN / "sockd"), "--help"),
    "sockctl status": (str(BIN / "sockctl"), "status", "--control", "/nonexistent"),
}
EXIT_CODES = {"sockctl status": 71}  # nobody answers: the same up to connect(2)
ACTIVATED = {
    "sockd --inetd upper": (str(BIN / "sockd"), "--inetd", "upper"),
    "python, socketserver": (sys.executable, str(HERE / "peers" / "socketserver_lines.py")),
    "a static C program": (str(HERE / "build" / "line"),),
}
SERVER = (sys.executable, str(HERE / "peers" / "socketserver_lines.py"), "tcp://127.0.0.1:0")
DAEMONS = {
    "sockd --foreground": ("--foreground", "--listen", "tcp://127.0.0.1:0=upper"),
    "python, socketserver": SERVER,
    "sockd with a coroutine": ("--foreground", "--listen", "tcp://127.0.0.1:0=bench_app:session"),
}
APP = "async def session(reader, writer):\n    writer.write(await reader.readline())\n"


def build(room: Path) -> str:
    program = room / "startup"
    subprocess.run(["cc", "-O2", "-o", program, HERE / "startup.c"], check=True)
    return str(program)


def run(program: str, line: Path, name: str) -> tuple[int, int, int]:
    """Return wall and CPU time in us, and the peak of memory in KiB."""
    words = subprocess.run([program, line, *COMMANDS[name]], check=True, capture_output=True, text=True).stdout.split()
    wall, cpu, memory, code = map(int, words)
    if code != EXIT_CODES.get(name, 0):
        raise SystemExit(f"{name}: exit code {code}")
    return wall, cpu, memory


@contextmanager
def activating(words: tuple[str, ...]):
    """Yield the process of systemd-socket-activate, and its port."""
    port = free_port()
    command = ["systemd-socket-activate", "--accept", "--inetd", "-l", f"127.0.0.1:{port}", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as parent:
        try:
            wait_for(lambda: f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text(), 5, command[0])
            yield psutil.Process(parent.pid), port
        finally:
            parent.terminate()


def activate(words: tuple[str, ...], times: int) -> tuple[float, float]:
    """Return the wall time of a connection, and the processor time of what serves it, in ms."""
    with activating(words) as (parent, port):
        walls = []
        for _ in range(times):
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.sendall(b"hello\n")
                sock.shutdown(socket.SHUT_WR)
                said = sock.makefile("rb").read()
            if said != b"HELLO\n":
                raise SystemExit(f"{words[0]} answered {said!r}")
            walls.append(time.monotonic() - began)
        wait_for(lambda: not parent.children(), 5, "the end of the last one")
        used = parent.cpu_times()
    return median(walls) * 1000, (used.children_user + used.children_system) / times * 1000


def resident(words: tuple[str, ...], room: Path) -> int:
    """Return the resident memory of a server in KiB, once it serves."""
    (room / "bench_app.py").write_text(APP)
    command = SERVER if words is SERVER else (str(BIN / "sockd"), *words)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=room) as daemon:
        for said in daemon.stdout:
            if "Press Ctrl-C" in said or said.startswith("listening"):
                break
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        daemon.terminate()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def main() -> int:
    parser = argparse.ArgumentParser(description="What a start costs.")
    parser.add_argument("--rounds", type=int, default=15, help="each runs every command once (default: 15)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory:
        room = Path(directory)
        program, line = build(room), room / "line"
        line.write_bytes(b"hello\n")
        figures = {name: [] for name in COMMANDS}
        for number in range(rounds + 1):
            for name, rows in figures.items():
                row = run(program, line, name)
                if number:  # the first one reads the files
                    rows.append(row)
        print("| command | CPU | x | wall | peak |\n|---|---:|---:|---:|---:|")
        for name, rows in figures.items():
            ratio = median(mine[1] / base[1] for mine, base in zip(rows, figures[BASE], strict=True))
            wall, cpu, peak = (median(column) for column in zip(*rows, strict=True))
            print(f"| `{name}` | {cpu / 1000:.0f} ms | {ratio:.1f} | {wall / 1000:.0f} ms | {peak / 1024:.1f} MiB |")
        if shutil.which("systemd-socket-activate"):
            measure.build()
            print("\n| started for a connection by systemd-socket-activate | wall | CPU |\n|---|---:|---:|")
            for name, words in ACTIVATED.items():
                wall, cpu = activate(words, 3 * rounds)
                print(f"| {name} | {wall:.1f} ms | {cpu:.1f} ms |")
        print("\n| daemon without clients | resident |\n|---|---:|")
        for name, words in DAEMONS.items():
            print(f"| `{name}` | {resident(words, room) / 1024:.1f} MiB |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
