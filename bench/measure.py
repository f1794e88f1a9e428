# SPDX-License-Identifier: MIT
"""One round of one peer: how each kind of scenario is measured, and what the programs of the bench are built from."""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

from report import Round
from scenarios import IdleMemory, Load, Programs, Redis, Scenario, Trickle, Upload, Visits
from servers import BUILD, HERE, MissingPeerError, PeerError, Server, pinned, wait_for

# -O3 because the ceiling should be one: at -O2 gcc does not vectorise its upper().
CFLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wstrict-prototypes"]
WARMUP_S = 0.3
GRACE_S = 60.0  # for connecting, draining and a machine that is busy
SETTLE_S = 0.3  # memory is read when it has not changed for this long


def build() -> None:
    """Build the generators and the peers in C and Go; a peer without its library or compiler is left out."""
    BUILD.mkdir(exist_ok=True)
    compiler = [os.environ.get("CC", "cc"), *CFLAGS]
    for name in ("c_epoll", "loadgen", "upload", "visits", "trickle"):
        subprocess.run([*compiler, "-o", BUILD / name, HERE / f"{name}.c"], check=True)
    subprocess.run([*compiler, "-static", "-o", BUILD / "line", HERE / "line.c"], check=True)
    attempt("libevent", [*compiler, "-o", BUILD / "libevent", HERE / "peers/libevent.c", "-levent"])
    attempt("go_net", ["go", "build", "-o", BUILD / "go_net", HERE / "peers/go_net.go"])


def attempt(name: str, command: list[object]) -> None:
    """Build one that may not be possible here."""
    (BUILD / name).unlink(missing_ok=True)
    if shutil.which(str(command[0])) is not None:
        subprocess.run(list(map(str, command)), stderr=subprocess.DEVNULL, check=False)


def two_cores() -> tuple[int, int]:
    """A core for the server and one for the generator."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("bench: needs two cores, one for the server and one for the generator")
    return cores[0], cores[1]


def generate(core: int, program: str, *words: object) -> subprocess.Popen[bytes]:
    """Start a generator; the end of its standard input ends a run of loadgen that only holds connections."""
    pipe = subprocess.PIPE
    with pinned(core):
        return subprocess.Popen([BUILD / program, *map(str, words)], stdin=pipe, stdout=pipe, stderr=pipe)


def result_of(generator: subprocess.Popen[bytes], server: Server, timeout_s: float) -> Round:
    """End the generator and read the figures it prints last; raise PeerError when it found anything wrong."""
    try:
        out, errors = generator.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        generator.kill()
        generator.communicate()
        raise PeerError(f"the generator did not end within {timeout_s:g} s") from None
    if generator.returncode != 0:
        said = [errors.decode(errors="replace").strip(), out.decode().strip(), server.last_words()]
        raise PeerError("\n    ".join(filter(None, said)))
    return json.loads(out.splitlines()[-1])


def measure_load(scenario: Load, server: Server, core: int, seconds: float) -> Round:
    load = ("--connections", scenario.connections, "--window", scenario.in_flight, "--length", scenario.line_bytes)
    times = ("--seconds", seconds, "--warmup", WARMUP_S, "--server-pid", server.pid)
    expect = ("--expect", "echo" if scenario.service == "echo" else "upper")
    generator = generate(core, "loadgen", *load, *expect, "--idle", scenario.idle, *times, server.address)
    return result_of(generator, server, seconds + WARMUP_S + GRACE_S)


def measure_upload(scenario: Upload, server: Server, core: int, seconds: float) -> Round:
    words = (scenario.connections, scenario.line_bytes, seconds, server.pid, server.address)
    return result_of(generate(core, "upload", *words), server, seconds + GRACE_S)


def measure_visits(scenario: Visits, server: Server, core: int, seconds: float) -> Round:
    generator = generate(core, "visits", scenario.at_once, seconds, server.pid, server.address)
    return result_of(generator, server, seconds + GRACE_S)


def measure_programs(scenario: Programs, server: Server, core: int, seconds: float) -> Round:
    """As visits; the processor time is that of the programs as well, warm-up included."""
    before, begun = server.family_cpu_seconds(), time.monotonic()
    generator = generate(core, "visits", scenario.at_once, seconds, server.pid, server.address)
    row = result_of(generator, server, seconds + GRACE_S)
    cpu, wall = server.family_cpu_seconds() - before, time.monotonic() - begun
    return row | {"server_cpu": cpu / wall, "cpu_us": cpu / (row["per_second"] * wall) * 1e6}


def measure_trickle(scenario: Trickle, server: Server, core: int, seconds: float) -> Round:
    return result_of(generate(core, "trickle", scenario.line_bytes, server.pid, server.address), server, 2 * GRACE_S)


def measure_idle(scenario: IdleMemory, server: Server, core: int, seconds: float) -> Round:
    before, descriptors = settled_rss(server), server.descriptors()
    hold = ("--connections", 0, "--idle", scenario.connections, "--seconds", 2 * GRACE_S)
    generator = generate(core, "loadgen", *hold, server.address)

    def all_accepted() -> bool:
        return server.descriptors() >= descriptors + scenario.connections or generator.poll() is not None

    try:
        wait_for(all_accepted, GRACE_S, f"accepting {scenario.connections:,} connections")
        after = settled_rss(server)
    except BaseException:
        generator.kill()
        generator.communicate()
        raise
    result_of(generator, server, GRACE_S)
    growth = (after - before) / scenario.connections
    return {"rss_before": before, "rss_after": after, "bytes_per_connection": growth}


def settled_rss(server: Server) -> int:
    """Resident memory once it stands still."""
    rss, since = server.rss_bytes(), time.monotonic()
    deadline = since + GRACE_S / 4
    while time.monotonic() < min(since + SETTLE_S, deadline):
        time.sleep(SETTLE_S / 10)
        if (now := server.rss_bytes()) != rss:
            rss, since = now, time.monotonic()
    return rss


def measure_redis(scenario: Redis, server: Server, core: int, seconds: float) -> Round:
    """Ask with redis-benchmark; it does not compare the answers, it waits for one to each request."""
    requests = max(scenario.clients, round(scenario.requests_per_second * seconds))
    host, _, port = server.address.removeprefix("tcp://").rpartition(":")
    load = ("-t", "ping_inline", "-c", scenario.clients, "-P", scenario.pipeline, "-n", requests)
    command = ["redis-benchmark", "-h", host, "-p", port, *map(str, load), "--csv"]
    begun, own, cpu = time.monotonic(), children_cpu(), server.cpu_seconds()
    with pinned(core):
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_S)
    wall, own, cpu = time.monotonic() - begun, children_cpu() - own, server.cpu_seconds() - cpu
    if done.returncode != 0:
        raise PeerError(f"redis-benchmark: {done.stderr.strip()[-300:]}")
    lines = done.stdout.splitlines()
    row = next(csv.DictReader(lines[next(i for i, line in enumerate(lines) if line.startswith('"test"')) :]))
    percentiles = {f"p{n}_us": float(row[f"p{n}_latency_ms"]) * 1000 for n in (50, 99)}
    shares = {"server_cpu": cpu / wall, "generator_cpu": own / wall, "cpu_us": cpu / requests * 1e6}
    return {"per_second": float(row["rps"]), **percentiles, **shares}


def children_cpu() -> float:
    """Processor time of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def look_for_generator(scenario: Scenario) -> None:
    """Raise MissingPeerError when what asks is not installed."""
    if isinstance(scenario, Redis) and shutil.which("redis-benchmark") is None:
        raise MissingPeerError("no redis-benchmark: install redis-tools")


MEASURES: dict[type[Scenario], Callable[..., Round]] = {
    Load: measure_load,
    Upload: measure_upload,
    Visits: measure_visits,
    Programs: measure_programs,
    Trickle: measure_trickle,
    IdleMemory: measure_idle,
    Redis: measure_redis,
}


def measure(scenario: Scenario, server: Server, core: int, seconds: float) -> Round:
    """Return the figures of one round; raise PeerError when an answer was wrong."""
    return MEASURES[type(scenario)](scenario, server, core, seconds)
