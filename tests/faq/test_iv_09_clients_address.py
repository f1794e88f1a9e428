# SPDX-License-Identifier: MIT
# Seen failing against a daemon that tells the same port, and the same path, of every client.
"""FAQ IV.9: the client's address: on the connection, and in the log."""

from __future__ import annotations

import socket

import pytest

APP = """
import sockd

def peer(line, connection):
    name = connection.get_extra_info("peername")
    return f"{connection.peer} {name}".encode()

def fails(line):
    raise RuntimeError("as asked")
"""


@pytest.mark.parametrize(
    ("listen", "source", "text"),
    [
        ("tcp://127.0.0.1:0", "127.0.0.1", "tcp://127.0.0.1:{}"),
        ("tcp://127.0.0.1:0", "127.0.0.77", "tcp://127.0.0.77:{}"),
        ("tcp://[::1]:0", "::1", "tcp://[::1]:{}"),
    ],
)
def test_over_tcp(daemon, listen, source, text):
    one = daemon(f"{listen}=app:peer", app=APP)
    client = one.connect(before=lambda sock: sock.bind((source, 0)))
    port = client.getsockname()[1]
    client.sendall(b"who\n")
    said = client.recv(200).decode()
    assert said.startswith(text.format(port) + " ")
    assert f"('{source}', {port}" in said
    client.close()
    assert one.closed("eof")["peer"] == text.format(port)


def test_an_ipv4_client_of_a_listener_for_both_families_is_printed_as_ipv4(daemon):
    one = daemon("tcp://:0=app:peer", app=APP)
    with socket.create_connection(("127.0.0.1", one.port())) as client:
        port = client.getsockname()[1]
        client.sendall(b"who\n")
        assert client.recv(200).decode().startswith(f"tcp://127.0.0.1:{port} ")
    assert one.closed("eof")["peer"] == f"tcp://127.0.0.1:{port}"


@pytest.mark.parametrize("name", ["", "{}/client", "\0{}/abstract"])
def test_over_a_unix_socket(daemon, tmp_path, name):
    """A client has a name there only if it has bound one."""
    one = daemon(f"unix:{tmp_path}/s=app:peer", app=APP)
    name = name.format(tmp_path)
    client = one.connect(before=lambda sock: name and sock.bind(name))
    client.sendall(b"who\n")
    text = "unix:" + name.replace("\0", "@")
    assert client.recv(500).decode().startswith(f"{text} ")
    client.close()
    assert one.closed("eof")["peer"] == text


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_of_a_datagram(daemon, host):
    one = daemon(f"udp://{host}:0=app:fails", app=APP)
    client = one.connect()
    client.send(b"x\n")
    assert one.wait_for("handler failed")["peer"] == f"udp://{host}:{client.getsockname()[1]}"


def test_of_one_that_resets_at_once(daemon, name_of, reset):
    """It is known from accept(); getpeername() would fail by then."""
    one = daemon("tcp://127.0.0.1:0=app:peer", app=APP)
    client = one.connect()
    peer = name_of(client)
    reset(client)
    one.closed("reset", peer=peer)
