# SPDX-License-Identifier: MIT
"""Abstract Unix names (`unix:@name`) and MPTCP as addresses of listeners, in plan, over an upgrade, and as targets."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest
from controlling import Sockctl
from serving import STAY_ROOT

NAME = f"sockd-test-abstract-{os.getpid()}"
IPPROTO_MPTCP = 262
pytestmark = pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="abstract names are Linux's")


def ask(name, data=b"x\n"):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(f"\0{name}")
        sock.sendall(data)
        return sock.recv(10)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_abstract_name_is_served_and_relayed_to(serve, tmp_path, workers):
    sockctl, name = Sockctl(tmp_path), f"{NAME}-{workers}"
    text = f'[daemon]\nworkers = {workers}\ncontrol = "{sockctl.path}"\n'
    text += f'[[listen]]\naddress = "unix:@{name}"\nservice = "upper"\n'
    text += '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "back"\n'
    text += f'[service.back]\nrelay = {{ to = ["unix:@{name}"] }}\n'
    server = serve(config=text)
    assert ask(name) == b"X\n"
    assert server.connect(server.addresses[1]).ask(b"y") == b"Y"
    assert f"kept  unix:@{name}  upper" in sockctl.say("plan", "sockd.toml")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.bind(f"\0{name}-peer")
        peer.settimeout(20)
        peer.connect(f"\0{name}")
        peer.sendall(b"z\n")
        assert peer.recv(10) == b"Z\n"
        assert f"unix:@{name}-peer" in [row["peer"] for row in sockctl.ask("connections")]
    sockctl.ask("upgrade")
    assert ask(name) == b"X\n"
    sockctl.ask("reload")
    assert ask(name) == b"X\n"
    done = sockctl.talk("connect", f"unix:@{name}", said="w\n")
    assert done.stdout == "W\n"
    sockctl.run("stop", "--wait")


def test_one_that_is_taken_is_named(sockd_script, tmp_path):
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(f"\0{NAME}")
        holder.listen()
        (tmp_path / "sockd.toml").write_text(f'[[listen]]\naddress = "unix:@{NAME}"\nservice = "upper"\n')
        command = [sockd_script, *STAY_ROOT, "-f", "-c", "sockd.toml"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert done.returncode == 71
        assert f"unix:@{NAME}: Address already in use (EADDRINUSE); held by pid {os.getpid()}" in done.stderr


def test_mptcp_serves_clients_of_tcp_and_of_mptcp(serve, tmp_path):
    try:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    except OSError as error:
        pytest.skip(f"this kernel has no MPTCP: {error}")
    sockctl = Sockctl(tmp_path)
    text = f'[daemon]\ncontrol = "{sockctl.path}"\n'
    server = serve(config=text + '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\nmptcp = true\n')
    host, _, port = server.addresses[0].removeprefix("tcp://").rpartition(":")
    with client:
        client.settimeout(20)
        client.connect((host, int(port)))
        for expected in (b"X\n", b"X\n"):
            client.sendall(b"x\n")
            assert client.recv(10) == expected
            sockctl.ask("upgrade")
    assert server.connect().ask(b"y") == b"Y"
    assert not server.having("MPTCP not available, using TCP")
    sockctl.run("stop", "--wait")
