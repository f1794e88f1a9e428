# SPDX-License-Identifier: MIT
"""`optional = true` of a listener: what cannot be bound is reported, tried again, and served once it can be."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from controlling import Sockctl

LISTEN = '[[listen]]\naddress = "{}"\nservice = "upper"\n'


def taken():
    """Return a socket that listens, and its address as sockd has it."""
    sock = socket.create_server(("127.0.0.1", 0))
    return sock, f"tcp://127.0.0.1:{sock.getsockname()[1]}"


@pytest.mark.parametrize("workers", [1, 2])
def test_an_address_that_is_taken_is_served_once_it_is_free(serve, tmp_path, workers):
    sockctl = Sockctl(tmp_path)
    holder, address = taken()
    text = f'[daemon]\nworkers = {workers}\ncontrol = "{sockctl.path}"\n'
    with closing(holder):
        server = serve(config=text + LISTEN.format("tcp://127.0.0.1:0") + LISTEN.format(address) + "optional = true\n")
        said = server.wait_for("optional address not bound, trying again")
        assert (said["address"], "Address already in use" in said["error"]) == (address, True)
        assert server.connect().ask(b"x") == b"X"
        assert [row["address"] for row in sockctl.ask("status")["absent"]] == [address]
        assert f"{address}  upper: not bound, tried again: " in sockctl.say("status")
    server.wait_for("listening", address=address)
    assert server.connect(address).ask(b"x") == b"X"
    assert sockctl.ask("status")["absent"] == []


def test_of_a_name_the_others_are_served(serve, tmp_path):
    """localhost has 127.0.0.1 and ::1 here, and one of its two ports is taken."""
    families = {one[0] for one in socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)}
    if families != {socket.AF_INET, socket.AF_INET6}:
        pytest.skip("localhost has one address here")
    sockctl = Sockctl(tmp_path)
    holder, address = taken()
    port = address.rpartition(":")[2]
    with closing(holder):
        text = f'[daemon]\ncontrol = "{sockctl.path}"\n' + LISTEN.format(f"tcp://localhost:{port}")
        server = serve(config=text + "optional = true\n")
        assert server.wait_for("optional address not bound, trying again")["address"] == address
        assert server.connect(f"tcp://[::1]:{port}").ask(b"x") == b"X"
    server.wait_for("listening", address=address)
    assert server.connect(address).ask(b"x") == b"X"


def test_a_reload_can_add_one(serve, tmp_path):
    sockctl = Sockctl(tmp_path)
    holder, address = taken()
    server = serve(config=f'[daemon]\ncontrol = "{sockctl.path}"\n' + LISTEN.format("tcp://127.0.0.1:0"))
    config = tmp_path / "sockd.toml"
    with closing(holder):
        config.write_text(config.read_text() + LISTEN.format(address))
        assert sockctl.run("reload").returncode == 71
        config.write_text(config.read_text() + "optional = true\n")
        sockctl.ask("reload")
        assert server.wait_for("optional address not bound, trying again")["address"] == address
    assert sockctl.ask("reload")["changes"]["added"] == [[address, "upper"]]
    assert server.connect(address).ask(b"x") == b"X"
