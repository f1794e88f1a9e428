# SPDX-License-Identifier: MIT
"""Real proxies behind a relay: HAProxy and nginx read the PROXY headers that it sends, and say who the client is.

Seen failing with source and destination of the header exchanged, and without a header.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

LIMIT_S = 20
AS = '[daemon]\nuser = "root"\n' if os.geteuid() == 0 else ""
NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
NGINX = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
HAPROXY = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
CONFIG = """
[[listen]]
address = "{listen}"
service = "back"
[service.back]
relay = {{ to = ["{to}"], proxy_header = "{version}" }}
"""
HAPROXY_CONFIG = """
defaults
    mode http
    timeout client 10s
    timeout connect 10s
    timeout server 10s
frontend who
    bind {bind} accept-proxy
    http-request return status 200 content-type text/plain lf-string "%ci:%cp %fi:%fp"
"""
NGINX_CONFIG = """
daemon off;
master_process off;
load_module {module};
error_log stderr;
pid {directory}/nginx.pid;
events {{ }}
stream {{
    server {{
        listen {bind} proxy_protocol;
        return "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port";
    }}
}}
"""


@pytest.fixture
def start(tmp_path):
    """Start a proxy with its configuration, and wait until it listens at its Unix socket or port."""
    running = []

    def begin(program, text, bind):
        (tmp_path / "proxy.conf").write_text(text)
        words = ["-db", "-f"] if program == HAPROXY else ["-c"]
        process = subprocess.Popen([program, *words, tmp_path / "proxy.conf"], stderr=subprocess.DEVNULL)
        running.append(process)
        end = time.monotonic() + LIMIT_S
        while not _listens(bind):
            assert process.poll() is None, f"{program} has ended"
            assert time.monotonic() < end, f"{program} does not listen"

    yield begin
    for process in running:
        process.kill()
        process.wait()


def _listens(bind):
    with socket.socket() as sock, suppress(OSError):
        sock.connect(bind)
        return True
    return False


def _free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()


def _ends(client, host="127.0.0.1"):
    ours, theirs = client.sock.getsockname()[1], client.sock.getpeername()[1]
    return f"{host}:{ours} {host}:{theirs}"


@pytest.mark.skipif(not HAPROXY, reason="haproxy is not here")
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("listen", ["tcp://127.0.0.1:0", "tcp://[::1]:0"])
def test_haproxy_knows_the_client(serve, start, has_ipv6, version, listen):
    if "::1" in listen and not has_ipv6:
        pytest.skip("no IPv6 on loopback here")
    bind = _free()
    start(HAPROXY, HAPROXY_CONFIG.format(bind=f"127.0.0.1:{bind[1]}"), bind)
    server = serve(config=AS + CONFIG.format(listen=listen, to=f"tcp://127.0.0.1:{bind[1]}", version=version))
    client = server.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")
    head, _, body = client.to_end().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body.decode() == _ends(client, "::1" if "::1" in listen else "127.0.0.1")


@pytest.mark.skipif(not (NGINX and NGINX_MODULE.exists()), reason="nginx with its stream module is not here")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx_knows_the_client(serve, start, tmp_path, version):
    bind = _free()
    text = NGINX_CONFIG.format(bind=f"127.0.0.1:{bind[1]}", module=NGINX_MODULE, directory=tmp_path)
    start(NGINX, text, bind)
    server = serve(
        config=AS + CONFIG.format(listen="tcp://127.0.0.1:0", to=f"tcp://127.0.0.1:{bind[1]}", version=version)
    )
    client = server.connect()
    assert client.to_end().decode() == _ends(client)
