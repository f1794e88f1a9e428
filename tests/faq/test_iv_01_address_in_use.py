# SPDX-License-Identifier: MIT
# Seen failing against a daemon whose message ends with the errno.
"""FAQ IV.1: address already in use: the message tells a live holder from TIME_WAIT."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess

import psutil
import pytest
from serving import STAY_ROOT

WAITING = 5
APP = """
import sockd

def bye(line):
    raise sockd.Close(b"bye")
"""


@pytest.fixture
def refused(sockd_script, tmp_path):
    """Start a daemon that cannot bind; gives what it says."""

    def start(toml):
        (tmp_path / "second.toml").write_text(toml)
        words = [sockd_script, *STAY_ROOT, "--foreground", "--config", "second.toml"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=20)
        assert done.returncode == 71
        assert "listening" not in done.stderr
        return done.stderr

    return start


def configuration(address, more=""):
    return f'[[listen]]\naddress = "{address}"\nservice = "upper"\n{more}\n'


def ports_in_time_wait():
    """Local and remote port of each such connection."""
    found = psutil.net_connections("tcp")
    return {(link.laddr.port, link.raddr.port) for link in found if link.status == psutil.CONN_TIME_WAIT}


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_a_live_holder_is_named(daemon, refused, scheme):
    one = daemon(f"{scheme}://127.0.0.1:0=upper")
    said = refused(configuration(one.address()))
    assert f"{one.address()}: Address already in use (EADDRINUSE); held by pid {one.pid} (" in said
    assert "TIME_WAIT" not in said


def test_a_holder_that_is_no_sockd_is_named_too(refused):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert f"held by pid {os.getpid()} (" in refused(configuration(f"tcp://127.0.0.1:{sock.getsockname()[1]}"))


def test_connections_in_time_wait_are_counted(daemon, refused, until, read_to_end):
    """Only without SO_REUSEADDR do they stand in the way."""
    toml = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:bye"\nreuse_address = false\n'
    one = daemon(toml=toml, app=APP)
    ends = set()
    for _ in range(WAITING):
        client = one.connect()
        ends.add((one.port(), client.getsockname()[1]))
        client.sendall(b"x\n")
        assert read_to_end(client) == b"bye\n"
        client.close()
    until(lambda: ends <= ports_in_time_wait())
    assert one.stop(signal.SIGTERM) == 0
    said = refused(configuration(one.address(), "reuse_address = false"))
    counted = re.search(r"no process holds it: (\d+) connections in TIME_WAIT", said)
    assert int(counted[1]) >= WAITING  # others may have left some on this port
    assert "held by pid" not in said


def test_with_the_default_they_do_not(daemon, until, read_to_end):
    one = daemon("tcp://127.0.0.1:0=app:bye", app=APP)
    client = one.connect()
    ends = (one.port(), client.getsockname()[1])  # others may have left a connection in TIME_WAIT on this port
    client.sendall(b"x\n")
    assert read_to_end(client) == b"bye\n"
    client.close()
    until(lambda: ends in ports_in_time_wait())
    assert one.stop(signal.SIGTERM) == 0
    again = daemon(f"{one.address()}=upper")
    assert again.ask(b"hello\n") == b"HELLO\n"
