# SPDX-License-Identifier: MIT
# Seen failing against a daemon that sets SO_REUSEADDR on every socket: a second one shares the UDP port.
"""FAQ IV.5: SO_REUSEADDR is on for TCP, off for UDP, and an option; a second daemon on the same port is refused."""

from __future__ import annotations

import socket
import subprocess

import pytest


@pytest.mark.parametrize(
    ("scheme", "line", "wanted"),
    [
        ("tcp", "", True),
        ("udp", "", False),
        ("tcp", "reuse_address = false", False),
        ("udp", "reuse_address = true", True),
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_it_is_read_back(daemon, sockets_of, host, scheme, line, wanted):
    one = daemon(toml=f'[[listen]]\naddress = "{scheme}://{host}:0"\nservice = "upper"\n{line}\n')
    (sock,) = sockets_of(one)
    assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)) is wanted


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_a_second_daemon_on_the_same_port_is_refused(daemon, sockd_script, scheme):
    one = daemon(f"{scheme}://127.0.0.1:0=upper")
    words = [sockd_script, "--foreground", "--listen", f"{one.address()}=echo"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    assert done.returncode == 71
    assert "EADDRINUSE" in done.stderr
    assert one.ask(b"hello\n") == b"HELLO\n"
