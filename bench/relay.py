# SPDX-License-Identifier: MIT
"""Relays side by side: sockd, HAProxy's TCP mode with and without its splicing, nginx stream, socat.

    python bench/relay.py                                  # every case, every relay, 5 rounds of 3 s
    python bench/relay.py --case one --relay sockd --relay haproxy-splice --rounds 2 --seconds 1
    python bench/relay.py --socks                          # through SOCKS servers: sockd, Dante's, microsocks

Each round starts every relay afresh, one after the other; only ratios within a run mean anything. The relay has one
core, the generator, which is client and server in one, the other. A relay that is not installed is left out and named.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import socks
from servers import BUILD, HERE, MissingPeerError, PeerError, find_sockd, free_port, pinned, wait_for

CFLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wstrict-prototypes"]
START_S = 10.0
GRACE_S = 30.0


@dataclass(frozen=True)
class Case:
    mode: str
    connections: int
    unit: str
    per: float
    title: str


CASES = {
    "many": Case("bulk", 16, "MB/s", 1e6, "16 streams"),
    "one": Case("bulk", 1, "MB/s", 1e6, "one stream"),
    "ping": Case("ping", 64, "k/s", 1e3, "64 connections, one message of 64 bytes there and back"),
}

SOCKD = """
[daemon]
log = {{ level = "warning" }}
[[listen]]
address = "tcp://127.0.0.1:{port}"
service = "back"
[service.back]
relay = {{ to = ["tcp://127.0.0.1:{server}"] }}
"""
HAPROXY = """
global
    maxconn 1000
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
{splice}
listen relay
    bind 127.0.0.1:{port}
    server back 127.0.0.1:{server}
"""
NGINX = """
daemon off;
master_process off;
load_module {module};
error_log {directory}/error.log;
pid {directory}/pid;
events {{ worker_connections 1024; }}
stream {{
    server {{
        listen 127.0.0.1:{port};
        proxy_pass 127.0.0.1:{server};
    }}
}}
"""
NGINX_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


def command(name: str, directory: Path, port: int, server: int) -> list[str]:
    """Write a relay's configuration and tell how it is started."""
    program = {"haproxy-splice": "haproxy"}.get(name, name)
    if program != "sockd" and not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
        raise MissingPeerError(f"no {program} here")
    if name == "sockd":
        text, words = SOCKD, [find_sockd(), "--foreground", "-c", "{file}"]
        words += ["--user", "root"] if os.geteuid() == 0 else []
    elif program == "haproxy":
        text, words = HAPROXY, ["haproxy", "-db", "-f", "{file}"]
    elif name == "nginx":
        if not Path(NGINX_MODULE).exists():
            raise MissingPeerError("nginx has no stream module here")
        text, words = NGINX, ["nginx", "-c", "{file}"]
    else:
        listen = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay"
        return ["socat", listen, f"TCP:127.0.0.1:{server},nodelay"]
    splice = "    option splice-auto" if name == "haproxy-splice" else ""
    if name == "haproxy-splice":
        splice = "    option splice-request\n    option splice-response"
    file = directory / "configuration"
    file.write_text(text.format(port=port, server=server, splice=splice, directory=directory, module=NGINX_MODULE))
    return [word.format(file=file) for word in words]


RELAYS = ("sockd", "haproxy-splice", "haproxy", "nginx", "socat")


def socks_command(name: str, directory: Path, port: int) -> list[str]:
    """Tell how a SOCKS server is started."""
    words = socks.command_of(name, directory, port)
    if words is None:
        raise MissingPeerError(f"no {name} here")
    return words


def answers(port: int) -> bool:
    """Whether somebody listens, without connecting: a relay would pass that on."""
    wanted = f"0100007F:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1] == wanted and row[3] == "0A" for row in rows)


def cpu_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # a child of socat, which ends with its connection
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def measure(
    name: str, case: Case, seconds: float, cores: tuple[int, int], *, by_socks: bool
) -> tuple[float, float, float]:
    """One round of one relay: what it moved a second, and the shares of a core of the relay and of the generator."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sockd-bench-")))
        port, server = free_port(), free_port()
        words = socks_command(name, directory, port) if by_socks else command(name, directory, port, server)
        with pinned(cores[0]), (directory / "errors").open("wb") as errors:
            relay = subprocess.Popen(words, stdout=errors, stderr=errors)
        stack.callback(relay.wait)
        stack.callback(relay.terminate)
        wait_for(lambda: answers(port) or relay.poll() is not None, START_S, f"{name} listening")
        if relay.poll() is not None:
            raise PeerError(f"{name}: {(directory / 'errors').read_text()[-400:]}")
        load = [BUILD / "relay", case.mode, case.connections, seconds, server, port, *(["socks"] if by_socks else [])]
        with pinned(cores[1]):
            generator = subprocess.Popen([*map(str, load)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        warm = generator.stdout.readline()
        before = cpu_seconds(relay.pid)
        if generator.poll() is None and warm:
            wait_for(
                lambda: (
                    generator.poll() is not None
                    or not psutil.pid_exists(generator.pid)
                    or psutil.Process(generator.pid).status() == "zombie"
                ),
                seconds + GRACE_S,
                "the generator",
            )
        used = cpu_seconds(relay.pid) - before
        out, errors_text = generator.communicate(timeout=GRACE_S)
        if generator.returncode:
            raise PeerError(f"{name}: {errors_text.decode()}")
        count, took, share = map(float, out.split())
        return count / took / case.per, used / took, share


def main() -> None:
    parser = argparse.ArgumentParser(description="Relays side by side.")
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--relay", choices=sorted({*RELAYS, *socks.SERVERS}), action="append")
    parser.add_argument("--socks", action="store_true", help="through SOCKS servers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("bench: needs two cores, one for the relay and one for the generator")
    BUILD.mkdir(exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, *CFLAGS, "-o", BUILD / "relay", HERE / "relay.c"], check=True)
    for key in arguments.case or CASES:
        relays = arguments.relay or (socks.SERVERS if arguments.socks else RELAYS)
        table(CASES[key], list(relays), arguments, (cores[0], cores[1]))


def table(case: Case, relays: list[str], arguments: argparse.Namespace, cores: tuple[int, int]) -> None:
    """Measure one case and print medians, each with the median of its ratios to the first relay's of the same round."""
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in relays}
    for turn in range(arguments.rounds):
        for name in relays[turn % len(relays) :] + relays[: turn % len(relays)]:
            if name not in seen:
                continue
            try:
                seen[name].append(measure(name, case, arguments.seconds, cores, by_socks=arguments.socks))
            except MissingPeerError as missing:
                print(f"left out: {missing}")
                del seen[name]
    print(f"\n{case.title}\n{'':16} {case.unit:>8} {'sockd is':>9} {'range':>13} {'relay':>6} {'load':>6}")
    for name, rounds in seen.items():
        ratios = [ours[0] / one[0] for ours, one in zip(seen.get("sockd", rounds), rounds, strict=True)]
        middle = [statistics.median(column) for column in zip(*rounds, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        ratio = statistics.median(ratios)
        print(f"{name:16} {middle[0]:8.0f} {ratio:9.2f} {spread:>13} {middle[1]:6.2f} {middle[2]:6.2f}", flush=True)


if __name__ == "__main__":
    main()
