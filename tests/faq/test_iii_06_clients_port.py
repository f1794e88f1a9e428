# SPDX-License-Identifier: MIT
# Seen failing against a client that binds its source address without IP_BIND_ADDRESS_NO_PORT: the second connection
# finds no port.
"""FAQ III.6: the client's port is the system's choice; a source address can be given without using up a port."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from sockd.client.connect import connect
from sockd.net.address.address import Address
from sockd.net.connect.happy_eyeballs import IP_BIND_ADDRESS_NO_PORT

APP = """
def peer(line, connection):
    return connection.peer.encode()
"""
ONLY_PORT = 45_454


@pytest.fixture
def talk(sockctl_script):
    """Start a client and have its first answer, with the connection left open."""
    with ExitStack() as stack:

        def start(*words, prefix=()):
            words = [*prefix, sockctl_script, "connect", *words]
            client = stack.enter_context(
                subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            )
            stack.callback(client.kill)
            client.stdin.write(b"who\n")
            client.stdin.flush()
            return client.stdout.readline().decode().strip()

        yield start


def test_the_port_is_the_systems_choice(daemon, talk):
    one = daemon("tcp://127.0.0.1:0=app:peer", app=APP)
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [int(talk(one.address()).rpartition(":")[2]) for _ in range(5)]
    assert len(set(ports)) == 5
    assert all(low <= port <= high for port in ports)


@pytest.mark.parametrize(("listen", "source"), [("127.0.0.1", "127.0.0.9"), ("[::1]", "::1")])
def test_a_source_address_can_be_given(daemon, talk, listen, source):
    one = daemon(f"tcp://{listen}:0=app:peer", app=APP)
    host = f"[{source}]" if ":" in source else source
    assert talk("--source", source, one.address()).startswith(f"tcp://{host}:")


@pytest.mark.skipif(sys.platform != "linux", reason="IP_BIND_ADDRESS_NO_PORT is Linux's")
def test_the_option_is_read_back(daemon):
    one = daemon("tcp://127.0.0.1:0=upper")
    with connect(Address.parse(one.address()), timeout=20, source="127.0.0.9") as sock:
        assert sock.getsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT)
    with connect(Address.parse(one.address()), timeout=20) as sock:
        assert not sock.getsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT)


def test_one_port_serves_for_two_peers(daemon, network, talk):
    """With one port to choose from, two connections to different servers share it; bind() would have used it up."""
    one = daemon("tcp://127.0.0.1:0=app:peer", "tcp://127.0.0.2:0=app:peer", app=APP, prefix=network.prefix)
    script = f"echo {ONLY_PORT} {ONLY_PORT} > /proc/sys/net/ipv4/ip_local_port_range"
    subprocess.run([*network.prefix, "sh", "-c", script], check=True)
    for address in one.addresses:
        assert talk("--source", "127.0.0.9", address, prefix=network.prefix) == f"tcp://127.0.0.9:{ONLY_PORT}"


def test_a_source_of_another_family_is_refused(sockctl_script):
    words = [sockctl_script, "connect", "--source", "127.0.0.1", "tcp://[::1]:7"]
    done = subprocess.run(words, input=b"", capture_output=True, timeout=20)
    assert done.returncode == 71
    assert b"tcp://[::1]:7: no address of the same family as 127.0.0.1" in done.stderr
