# SPDX-License-Identifier: MIT
# Seen failing against a daemon that takes numbers alone for ports, and a check that says nothing of services(5).
"""FAQ IV.11: a port by the name of its service; --check points out one that another service has registered."""

from __future__ import annotations

import socket
import subprocess

import pytest

SERVICES = "smtp 25/tcp mail\nmy-policy {}/tcp\nonly-udp {}/udp\n"


@pytest.fixture
def port():
    """A port that is free, and registered by nobody."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def check(sockd_script):
    def run(address, prefix=()):
        words = [*prefix, sockd_script, "--check", "--listen", f"{address}=upper"]
        return subprocess.run(words, capture_output=True, text=True, timeout=20)

    return run


def test_a_name_of_etc_services_is_a_port(daemon, etc, port):
    """An administrator moves the service by a line of /etc/services."""
    one = daemon("tcp://127.0.0.1:my-policy=upper", prefix=etc(services=SERVICES.format(port, port)))
    assert one.port() == port
    assert one.ask(b"hello\n") == b"HELLO\n"


def test_a_port_of_another_service_is_pointed_out(check, etc, port):
    prefix = etc(services=SERVICES.format(port, port))
    for address, name in ((f"tcp://127.0.0.1:{port}", "my-policy"), ("tcp://127.0.0.1:25", "smtp")):
        done = check(address, prefix)
        assert done.returncode == 0
        assert name in done.stderr
        assert str(address) in done.stderr


def test_a_port_of_nobody_and_a_name_are_not(check, etc, port):
    prefix = etc(services=SERVICES.format(port, port))
    for address in ("tcp://127.0.0.1:1", "tcp://127.0.0.1:smtp", "tcp://127.0.0.1:my-policy", "udp://127.0.0.1:25"):
        done = check(address, prefix)
        assert done.returncode == 0
        assert "/etc/services" not in done.stderr, done.stderr


def test_a_name_of_the_other_protocol_is_explained(check, etc, port):
    done = check("tcp://127.0.0.1:only-udp", etc(services=SERVICES.format(port, port)))
    assert done.returncode == 64
    assert "'only-udp' is a service of udp only" in done.stderr
