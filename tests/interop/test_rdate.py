# SPDX-License-Identifier: MIT
"""The time service asked by the real rdate, daytime by nc, over TCP and UDP."""

from __future__ import annotations

import shutil
import time

import pytest
from programs import needs, port_of

needs_rdate = pytest.mark.skipif(not shutil.which("rdate"), reason="rdate is not here")


@needs_rdate
@pytest.mark.parametrize(("scheme", "options"), [("tcp", "-po"), ("udp", "-upo")])
def test_rdate_prints_the_time(serve, run, scheme, options):
    server = serve(f"{scheme}://127.0.0.1:0=time")
    port = server.addresses[0].rpartition(":")[2]
    done = run("rdate", options, port, "127.0.0.1", env={"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/sbin:/usr/bin"})
    assert done.returncode == 0, done.stderr
    told = time.strptime(done.stdout.decode().strip(), "%a %b %d %H:%M:%S UTC %Y")
    assert abs(time.mktime(told) - time.timezone - time.time()) < 60


@needs("nc", "netcat-openbsd")
@pytest.mark.parametrize(("scheme", "options"), [("tcp", ["-d"]), ("udp", ["-u", "-w1"])])
def test_nc_prints_the_day(serve, run, scheme, options):
    server = serve(f"{scheme}://127.0.0.1:0=daytime")
    done = run("nc", *options, "127.0.0.1", port_of(server.addresses[0]), input=b"\n")
    assert done.stderr == b""
    told = time.strptime(done.stdout.decode().strip(), "%a %b %d %H:%M:%S %Y")
    assert abs(time.mktime(told) - time.time()) < 60
