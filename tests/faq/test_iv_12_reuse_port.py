# SPDX-License-Identifier: MIT
# Seen failing against a daemon that never sets SO_REUSEPORT (the second one is refused), and one that always does.
"""FAQ IV.12: SO_REUSEPORT, where it is asked for, lets several daemons share a port; SO_REUSEADDR does not."""

from __future__ import annotations

import socket
import subprocess

import pytest
from serving import STAY_ROOT

CLIENTS = 100


def toml(address, line):
    return f'[[listen]]\naddress = "{address}"\nservice = "upper"\n{line}\n'


def test_two_daemons_share_a_port_and_both_get_connections(daemon, read_to_end, until):
    first = daemon(toml=toml("tcp://127.0.0.1:0", "reuse_port = true"))
    second = daemon(toml=toml(first.address(), "reuse_port = true"))
    for _ in range(CLIENTS):
        with first.connect() as client:
            client.sendall(b"hello\n")
            client.shutdown(socket.SHUT_WR)
            assert read_to_end(client) == b"HELLO\n"
    until(lambda: len(first.logged("closed")) + len(second.logged("closed")) == CLIENTS)
    assert first.logged("closed")
    assert second.logged("closed")


def test_when_one_ends_the_other_serves_on(daemon):
    first = daemon(toml=toml("tcp://127.0.0.1:0", "reuse_port = true"))
    second = daemon(toml=toml(first.address(), "reuse_port = true"))
    assert first.stop() == 0
    assert {second.ask(b"hello\n") for _ in range(20)} == {b"HELLO\n"}


@pytest.mark.parametrize(("one_shares", "other_shares"), [(False, False), (True, False), (False, True)])
def test_all_of_them_must_say_so(daemon, sockd_script, tmp_path, one_shares, other_shares):
    one = daemon(toml=toml("tcp://127.0.0.1:0", f"reuse_port = {str(one_shares).lower()}"))
    (tmp_path / "other.toml").write_text(toml(one.address(), f"reuse_port = {str(other_shares).lower()}"))
    words = [sockd_script, *STAY_ROOT, "--foreground", "--config", f"{tmp_path}/other.toml"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    assert done.returncode == 71
    assert "EADDRINUSE" in done.stderr


@pytest.mark.parametrize(("line", "wanted"), [("", 0), ("reuse_port = true", 1)])
@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_it_is_read_back(daemon, sockets_of, scheme, line, wanted):
    (sock,) = sockets_of(daemon(toml=toml(f"{scheme}://127.0.0.1:0", line)))
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == wanted
