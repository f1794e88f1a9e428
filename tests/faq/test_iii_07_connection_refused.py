# SPDX-License-Identifier: MIT
# Seen failing against a client that does not say what it tried, and one that goes on trying until its time is over.
"""FAQ III.7: connection refused is reported at once, with what was tried."""

from __future__ import annotations

import socket
import subprocess
import time

import pytest

AT_ONCE_S = 5  # with a time-out of a minute


@pytest.fixture
def refused(sockctl_script):
    def run(address, prefix=()):
        begin = time.monotonic()
        words = [*prefix, sockctl_script, "connect", "--timeout", "60s", address]
        done = subprocess.run(words, input=b"hello\n", capture_output=True, timeout=90)
        assert time.monotonic() - begin < AT_ONCE_S
        assert done.returncode == 75
        assert done.stdout == b""
        return done.stderr.decode()

    return run


@pytest.fixture
def port():
    """A port on which nobody listens: it is bound, and no more than that."""
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::", 0))
        yield sock.getsockname()[1]


def test_the_message_names_the_address(refused, port):
    said = refused(f"tcp://127.0.0.1:{port}")
    assert said == (
        f"sockctl: connection refused: tcp://127.0.0.1:{port} (tried 127.0.0.1:{port}: Connection refused)\n"
    )


def test_every_address_that_was_tried_is_named(refused, port):
    said = refused(f"tcp://:{port}")
    assert f"[::1]:{port}: Connection refused; 127.0.0.1:{port}: Connection refused" in said


def test_every_address_of_a_name(refused, port, etc):
    said = refused(f"tcp://two.test:{port}", etc(hosts="127.0.0.11 two.test\n127.0.0.12 two.test\n"))
    assert f"127.0.0.11:{port}: Connection refused; 127.0.0.12:{port}: Connection refused" in said


def test_a_datagram_that_nobody_takes_is_refused_too(refused, port):
    assert "connection refused" in refused(f"udp://127.0.0.1:{port}")


def test_a_unix_path_that_nobody_serves(refused, tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/left")
    assert "Connection refused" in refused(f"unix:{tmp_path}/left")


def test_a_daemon_that_has_ended_refuses(daemon, refused):
    one = daemon("tcp://127.0.0.1:0=upper")
    assert one.ask(b"hello\n") == b"HELLO\n"
    assert one.stop() == 0
    assert "connection refused" in refused(one.address())
