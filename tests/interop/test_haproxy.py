# SPDX-License-Identifier: MIT
"""A real HAProxy in front of sockd: its PROXY headers of every kind, and its health check.

Seen failing with the CRC32C computed over the addresses alone, and with LOCAL taken for an error.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import closing

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not here")

APP = """
def who(line, connection):
    proxied = connection.get_extra_info("proxied")
    tlvs = " ".join(f"{kind:02x}={value.hex()}" for kind, value in proxied.header.tlvs)
    return f"{connection.peer} v{proxied.header.version} {tlvs}".encode()
"""
LISTEN = """
[[listen]]
address = "tcp://127.0.0.1:0"
service = "app:who"
proxy_protocol = { from = ["127.0.0.1"] }
"""
FRONT = """
global
    log stderr format raw daemon
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout check 30s
frontend front
    bind fd@{listening}
    bind {socket}
    default_backend back
backend back
    server one {server} {options}
"""
KINDS = {
    "v1": "send-proxy",
    "v2": "send-proxy-v2",
    "v2 of a tls proxy": "send-proxy-v2-ssl-cn",
    "v2 with its sum": "send-proxy-v2 proxy-v2-options crc32c",
    "v2 with all": "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority,ssl,cert-cn",
}


@pytest.fixture
def haproxy(tmp_path):
    """HAProxy before an address, as sockd prints it; returns its port, and where its socket for Unix clients is."""
    running = []

    def start(address, options):
        path = tmp_path / "front.sock"
        server = address.removeprefix("tcp://")
        with socket.create_server(("127.0.0.1", 0)) as listening:
            text = FRONT.format(listening=listening.fileno(), socket=path, server=server, options=options)
            (tmp_path / "haproxy.cfg").write_text(text)
            words = ["haproxy", "-db", "-f", tmp_path / "haproxy.cfg"]
            process = subprocess.Popen(words, stderr=subprocess.DEVNULL, pass_fds=[listening.fileno()])
            running.append(process)
            _until(path.exists)
            return listening.getsockname()[1], str(path)

    yield start
    for process in running:
        process.kill()
        process.wait()


def _until(tell, seconds=30):
    end = time.monotonic() + seconds
    while not tell():
        assert time.monotonic() < end
        time.sleep(0.02)  # only until the next look


@pytest.mark.parametrize("name", KINDS)
def test_its_header_is_understood(serve, haproxy, tmp_path, name):
    (tmp_path / "app.py").write_text(APP)
    server = serve(config=LISTEN)
    port, _ = haproxy(server.addresses[0], KINDS[name])
    for _ in range(20):
        with closing(socket.create_connection(("127.0.0.1", port), 30)) as sock:
            sock.sendall(b"who\n")
            said = sock.makefile("rb").readline().decode().split()
            assert said[:2] == [f"tcp://127.0.0.1:{sock.getsockname()[1]}", "v1" if name == "v1" else "v2"]
            assert ("03=" in " ".join(said)) == ("sum" in name or "all" in name)
    assert [event["why"] for event in server.having("no PROXY header")] == []


def test_a_client_without_an_address_is_unknown(serve, haproxy, tmp_path):
    """Whoever came to HAProxy over a Unix socket: the proxy itself is the peer."""
    (tmp_path / "app.py").write_text(APP)
    server = serve(config=LISTEN)
    _, path = haproxy(server.addresses[0], "send-proxy-v2")
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(30)
        sock.connect(path)
        sock.sendall(b"who\n")
        said = sock.makefile("rb").readline().decode().split()
    assert said[0].startswith(("tcp://127.0.0.1:", "unix:"))
    assert said[1] == "v2"


@pytest.mark.parametrize("options", ["check inter 50 send-proxy", "check inter 50 send-proxy-v2"], ids=["v1", "v2"])
def test_its_health_check_is_quiet(serve, haproxy, tmp_path, options):
    (tmp_path / "app.py").write_text(APP)
    server = serve(config=LISTEN, options=["--log-level", "debug"])
    port, _ = haproxy(server.addresses[0], options)
    if options.endswith("v2"):
        server.wait_for("connection of the proxy itself", count=5)
    else:
        server.wait_for("closed", count=5)
    warnings = [event for event in server.events if event["level"] in ("warning", "error")]
    assert [event for event in warnings if "root" not in event["message"]] == []
    with closing(socket.create_connection(("127.0.0.1", port), 30)) as sock:
        sock.sendall(b"who\n")
        assert sock.makefile("rb").readline().startswith(b"tcp://127.0.0.1:")
