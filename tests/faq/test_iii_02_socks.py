# SPDX-License-Identifier: MIT
# Seen failing against a server that answers 0x5b to every request of SOCKS 4, one that asks nobody for a password, and
# one without the kinds of addresses (rules.KINDS empty): loopback was connected to.
"""FAQ III.2: a SOCKS 4, 4a and 5 server as a service, with rules and passwords, under the programs that people have."""

from __future__ import annotations

import shutil
import subprocess

import pytest

APP = """
import sockd

class Http(sockd.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""

    def data_received(self, data):
        self.data += data
        if b"\\r\\n\\r\\n" in self.data:
            self.transport.write(b"HTTP/1.0 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nhello\\n")
            self.transport.close()
"""
TOML = """
[[listen]]
address = "tcp://127.0.0.1:0"
service = "proxy"
[[listen]]
address = "tcp://127.0.0.1:0"
service = "app:Http"
[service.proxy]
socks = {{ {table} }}
"""


def needs(program, package):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"package {package} is missing")


pytestmark = needs("curl", "curl")


@pytest.fixture
def proxy(daemon):
    """Start a proxy and an HTTP server; gives both ports."""

    def start(table='allow = ["loopback"]'):
        one = daemon(toml=TOML.format(table=table), app=APP, listeners=2)
        return one.port(0), one.port(1)

    return start


def run(*words, environment=None):
    words = ["env", *(f"{name}={value}" for name, value in (environment or {}).items()), *words]
    return subprocess.run(words, capture_output=True, timeout=60)


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h"])
def test_every_version(proxy, scheme):
    port, http = proxy()
    for host in ("127.0.0.1", "localhost"):
        done = run("curl", "-sS", "-4", "-x", f"{scheme}://127.0.0.1:{port}", f"http://{host}:{http}/")
        assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr


def test_passwords(proxy, tmp_path, sockctl_script):
    line = subprocess.run([sockctl_script, "password", "alice"], input=b"secret\n", capture_output=True, timeout=60)
    (tmp_path / "users").write_bytes(line.stdout)
    port, http = proxy(f'allow = ["user alice to loopback"], users = "{tmp_path}/users"')
    for login, code in (("alice:secret@", 0), ("alice:wrong@", 97), ("bob:secret@", 97), ("", 97)):
        done = run("curl", "-sS", "-x", f"socks5h://{login}127.0.0.1:{port}", f"http://localhost:{http}/")
        assert done.returncode == code, done.stderr


def test_rules(proxy):
    """Nothing of the house is connected to unless a rule names it."""
    port, http = proxy("")
    for host in ("127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1"):
        done = run("curl", "-sS", "-x", f"socks5h://127.0.0.1:{port}", f"http://{host}:{http}/")
        assert done.returncode == 97, (host, done.stdout)
        assert b"(2)" in done.stderr  # not allowed by ruleset


@needs("proxychains4", "proxychains4")
def test_proxychains(proxy, tmp_path):
    port, http = proxy()
    conf = tmp_path / "proxychains.conf"
    conf.write_text(f"strict_chain\nproxy_dns\n[ProxyList]\nsocks5 127.0.0.1 {port}\n")
    done = run("proxychains4", "-q", "-f", conf, "curl", "-sS", f"http://127.0.0.1:{http}/")
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr


@needs("socksify", "dante-client")
def test_socksify(proxy, tmp_path):
    port, http = proxy()
    conf = tmp_path / "socks.conf"
    conf.write_text(
        f"resolveprotocol: fake\nroute {{ from: 0.0.0.0/0 to: 127.0.0.1/32 port = {http} via: 127.0.0.1 port = {port}\n"
        " proxyprotocol: socks_v5\n command: connect\n method: none\n}\n"
    )
    done = run("socksify", "curl", "-sS", f"http://127.0.0.1:{http}/", environment={"SOCKS_CONF": conf})
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr
