# SPDX-License-Identifier: MIT
"""SOCKS servers side by side: sockd, Dante's and microsocks, sessions a second.

    python bench/socks.py                                  # every server, 5 rounds of 3 s
    python bench/socks.py --server sockd --rounds 2 --seconds 1

A session is: connect, no login, CONNECT to an echo server on this host, one byte there and back, close. Every round
starts every server afresh, one after the other. The server has one core; the generator (socks.c) and the echo
server, which is a sockd, share the other. A server that is not installed is left out and named; DANTED and MICROSOCKS
name programs that are elsewhere.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from servers import BUILD, HERE, find_sockd, free_port, pinned

CFLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra"]
START_S = 10.0
SESSIONS = 32
SERVERS = ("sockd", "danted", "microsocks")
SOCKD = """
[daemon]
{user}
log = {{ level = "warning" }}
stop_timeout = "1s"
[[listen]]
address = "tcp://127.0.0.1:{port}"
service = "{service}"
[service.proxy]
socks = {{ allow = ["loopback"] }}
"""
DANTE = """
logoutput: /dev/null
internal: 127.0.0.1 port = {port}
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
"""


def sockd(directory, port, service):
    path = directory / f"{service}.toml"
    path.write_text(SOCKD.format(port=port, service=service, user='user = "root"' if os.geteuid() == 0 else ""))
    return [find_sockd(), "--foreground", "-c", str(path)]


def command_of(name, directory, port):
    """The command of a server; None where it is not installed."""
    if name == "sockd":
        return sockd(directory, port, "proxy")
    program = os.environ.get(name.upper()) or shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        return None
    if name == "microsocks":
        return [program, "-i", "127.0.0.1", "-p", str(port)]
    (directory / "danted.conf").write_text(DANTE.format(port=port))
    return [program, "-f", str(directory / "danted.conf")]


@contextmanager
def running(command, port, core):
    """A server that listens, in a group of its own, on its core."""
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with pinned(core):
        process = subprocess.Popen(command, **options)
    try:
        end = time.monotonic() + START_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"{command[0]} does not listen")
            time.sleep(0.02)  # until it listens; nothing tells when
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="append", choices=SERVERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    given = parser.parse_args()
    generator = BUILD / "socks"
    BUILD.mkdir(exist_ok=True)
    subprocess.run(["cc", *CFLAGS, "-o", str(generator), str(HERE / "socks.c")], check=True)
    cores = sorted(os.sched_getaffinity(0))[:2]
    found = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        echo, port = free_port(), free_port()  # before sessions in TIME_WAIT have taken every port
        with running(sockd(directory, echo, "echo"), echo, cores[-1]):
            for _ in range(given.rounds):
                for server in given.server or SERVERS:
                    command = command_of(server, directory, port)
                    if command is None:
                        found.setdefault(server, [])
                        continue
                    with running(command, port, cores[0]):
                        words = [str(generator), str(port), str(echo), str(SESSIONS), str(given.seconds)]
                        with pinned(cores[-1]):
                            done = subprocess.run(words, capture_output=True, text=True, check=True)
                        rate, failed = float(done.stdout.split()[0]), int(done.stdout.split()[2])
                        found.setdefault(server, []).append((rate, failed))
    for server, rounds in found.items():
        if not rounds:
            print(f"{server:<12} is not installed")
            continue
        rates = sorted(rate for rate, _ in rounds)
        failures = sum(failed for _, failed in rounds)
        print(
            f"{server:<12} {statistics.median(rates):7,.0f}/s  ({rates[0]:,.0f} to {rates[-1]:,.0f})  {failures} failed"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
