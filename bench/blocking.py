# SPDX-License-Identifier: MIT
"""Four blocking handlers that compute (`blocking = true`): side by side, beside one after the other.

    python bench/blocking.py [--rounds 3] [--seconds 2] [PYTHON...]

Each PYTHON has sockd installed; without any it is this one.  A handler is a loop in Python, of some milliseconds.  Four
connections ask without a pause, with `threads` of 1 and of 4; the ratio of the two is 1 where a global lock lets one
thread compute at a time, and up to the number of cores where there is none.  `CPU` is the daemon's processor time
for each reply.  Figures are medians of the rounds.
"""

import argparse
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median

CLIENTS = 4
HANDLER = """\
def compute(line):
    total = 0
    for number in range(100_000):
        total += number & 7
    return b"%d" % total
"""
CONFIGURATION = """\
[daemon]
path = "{room}"
threads = {threads}
{user}
[[listen]]
address = "tcp://127.0.0.1:0"
service = "work"
[service.work]
handler = "computing:compute"
blocking = true
"""
USER = "" if os.geteuid() else 'user = "root"'
ABOUT = """
import sys, sysconfig
lock = getattr(sys, "_is_gil_enabled", lambda: True)
import sockd._sockbuf
t = "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print("%d.%d.%d" % sys.version_info[:3] + t + (", with a global lock" if lock() else ", without a global lock"))
"""


@contextmanager
def serving(python: str, threads: int, room: Path):
    """Yield the port of a daemon, and its process."""
    (room / "computing.py").write_text(HANDLER)
    (room / "sockd.toml").write_text(CONFIGURATION.format(room=room, threads=threads, user=USER))
    command = [python, "-P", "-m", "sockd", "--foreground", "--config", room / "sockd.toml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=room) as server:
        said = []
        for line in server.stdout:
            said.append(line)
            if found := re.search(r"(?:listening |127\.0\.0\.1:)(\d+)", line):
                break
        else:
            raise SystemExit(f"{python} does not serve: {''.join(said)}")
        try:
            yield int(found[1]), server.pid
        finally:
            server.terminate()


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def replies(port: int, pid: int, seconds: float) -> tuple[float, float]:
    """Return the replies per second to all clients, each with two lines in flight, and milliseconds of CPU for each."""
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS)]
    for one in clients:
        one.sendall(b"1\n2\n")
    start, used = time.monotonic(), processor_seconds(pid)
    count = 0
    while (now := time.monotonic()) < start + seconds:
        for one in select.select(clients, [], [], start + seconds - now)[0]:
            answered = one.recv(4096).count(b"\n")
            count += answered
            one.sendall(b"1\n" * answered)
    used = processor_seconds(pid) - used
    for one in clients:
        one.close()
    return count / seconds, 1000 * used / max(count, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("pythons", nargs="*", default=[sys.executable], metavar="PYTHON")
    arguments = parser.parse_args()
    print(f"{arguments.rounds} rounds of {arguments.seconds:g} s, {len(os.sched_getaffinity(0))} cores")
    print("| Python | 1 thread, replies/s | CPU | 4 threads | CPU | ratio |\n|---|---:|---:|---:|---:|---:|")
    for python in arguments.pythons:
        about = subprocess.run([python, "-P", "-c", ABOUT], capture_output=True, text=True, check=True).stdout.strip()
        rounds = []
        with tempfile.TemporaryDirectory() as name:
            for _ in range(arguments.rounds):
                figures = ()
                for threads in (1, CLIENTS):
                    with serving(python, threads, Path(name)) as (port, pid):
                        figures += replies(port, pid, arguments.seconds)
                rounds.append(figures)
        one, cpu_of_one, four, cpu_of_four = (median(column) for column in zip(*rounds, strict=True))
        ratio = median(many / single for single, _, many, _ in rounds)
        row = (about, f"{one:,.0f}", f"{cpu_of_one:.1f} ms", f"{four:,.0f}", f"{cpu_of_four:.1f} ms", f"{ratio:.2f}")
        print(f"| CPython {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
