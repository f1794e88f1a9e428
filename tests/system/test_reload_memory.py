# SPDX-License-Identifier: MIT
"""A reload costs nothing that stays: handlers of megabytes, TLS, threads, coroutines, programs, relays, datagrams.

SOCKD_SOAK=1 reloads 300 times.
Seen to fail: with modules of handlers left to Python's own collector, or former listeners looked at after half a
second only, tens of generations are there at a time; with the socket list of the start kept, or what was imported taken
back when the reload is done, one module of before stays for ever.
"""

from __future__ import annotations

import json
import time

import pytest
from controlling import Sockctl
from watching import SOAK, WITHIN_S, _until

RELOADS = 300 if SOAK else 30
WARM_UP = 150 if SOAK else 20
KEPT_REPLY_BYTES = (1 if SOAK else 16) << 20
"""Of growth behind the warm-up; a module that stays at each reload makes 120 MB of it."""
APP = """
import builtins
import gc
import json
import weakref
import sockd

class Large(bytearray):
    __hash__ = object.__hash__

LARGE = Large(b"x" * (4 << 20))
if not hasattr(builtins, "every_large"):
    builtins.every_large = weakref.WeakSet()
builtins.every_large.add(LARGE)

def how_many(line):
    import sys
    assert sys.modules["app"].LARGE is LARGE  # what is imported late is of this generation, too
    memory = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
    counts = {}
    for one in gc.get_objects():
        name = str(type(one).__module__)
        if name.partition(".")[0] in ("sockd", "app", "ssl", "logging"):
            key = f"{name}.{type(one).__qualname__}"
            counts[key] = counts.get(key, 0) + 1
    return json.dumps([len(builtins.every_large), memory * 1024, counts]).encode()

class Protocol(sockd.LineProtocol):
    def line_received(self, line):
        self.send(line)

async def session(reader, writer):
    async for line in reader:
        writer.write(line)

service = sockd.Service(blocking=True)
service.frame(bytes.upper)

@service.startup
def up():
    pass

def datagram(line):
    return line
"""
LISTEN = '[[listen]]\naddress = "{}"\nservice = "{}"\n'
SERVICES = (
    "app:how_many",
    "app:Protocol",
    "app:session",
    "app:service",
    "upper",
    "program",
    "relay",
    "socks",
    "metrics",
)


def configuration(certificate):
    tls = f'tls = {{ certificate = "{certificate.path}", key = "{certificate.key}" }}\n'
    plain = "".join(LISTEN.format("tcp://127.0.0.1:0", name) for name in SERVICES)
    secured = "".join(LISTEN.format("tcp://127.0.0.1:0", name) + tls for name in SERVICES)
    tables = '[service.program]\nexec = ["/bin/cat"]\nuser = "root"\n'
    tables += '[service.relay]\nrelay = { to = ["tcp://127.0.0.1:9"] }\n[service.socks]\nsocks = {}\n'
    return plain + secured + LISTEN.format("udp://127.0.0.1:0", "app:datagram") + tables


@pytest.fixture
def house(daemon, tmp_path, certificates):
    top = f'[daemon]\ncontrol = "{tmp_path}/control.sock"\n'
    one = daemon(toml=top + configuration(certificates.server), app=APP)
    one.sockctl = Sockctl(tmp_path)
    return one


def test_reloads_cost_nothing_that_stays(house, record_property):
    one = house

    def look():
        said = one.ask(b"?\n", size=1 << 20)
        assert said, one.logged("handler failed")[-1]["traceback"]
        modules, memory, counts = json.loads(said)
        return modules, memory, counts

    for count in range(WARM_UP + RELOADS):
        one.sockctl.ask_directly("reload")
        if count == WARM_UP:
            _until(lambda: look()[0] == 1)
            _, before, counts = look()
        if count % 10 == 0:
            assert look()[0] <= 2
    _until(lambda: look()[0] == 1)
    end = time.monotonic() + WITHIN_S
    while True:  # timers of the last generations have their time
        _, after, now = look()
        more = {name: (counts.get(name, 0), count) for name, count in now.items() if count > counts.get(name, 0) + 3}
        if not more or time.monotonic() > end:
            break
    record_property("growth", after - before)
    assert not more, more
    assert after - before < KEPT_REPLY_BYTES, f"{before} -> {after}"
