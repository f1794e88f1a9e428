# SPDX-License-Identifier: MIT
"""The SOCKS server under the clients that people have, in a network of its own.

Every client reaches an HTTP server and an echo server through it: by address and by name, with a user and without.
Seen failing with 0x02 chosen where no user is needed (tsocks), and with a datagram's header left out (PySocks).
"""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from sockd.services.socks.users import Scrypt

HOST = "192.0.2.80"  # tsocks takes no proxy for 127.0.0.0/8
OPEN, LOGIN = 1080, 1081
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
CONFIG = """
[[listen]]
address = "tcp://127.0.0.1:1080"
service = "open"
[[listen]]
address = "tcp://127.0.0.1:1081"
service = "login"
[[listen]]
addresses = ["tcp://192.0.2.80:8080", "tcp://127.0.0.1:8080"]
service = "app:Http"
[[listen]]
addresses = ["tcp://192.0.2.80:7", "tcp://127.0.0.1:7", "udp://192.0.2.80:7"]
service = "echo"
[service.open]
socks = { allow = ["192.0.2.80", "loopback"] }
[service.login]
socks = { allow = ["user alice to 192.0.2.80", "user alice to loopback"], users = "%s/users" }
"""
_SALT = b"salt" * 4
USERS = f"alice:{Scrypt(4, 8, 1, _SALT, Scrypt(4, 8, 1, _SALT, bytes(32)).compute(b'secret'))}\n"


def needs(program, package):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"package {package} is missing")


pytestmark = pytest.mark.skipif(
    subprocess.run(["sh", "-c", "unshare -rn ip link set lo up"], capture_output=True).returncode != 0,
    reason="no right to a network of our own, or no package iproute2",
)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A daemon in a network of its own, and what runs a program beside it."""
    from serving import Server  # the fixtures' own daemon, one for all clients

    directory = tmp_path_factory.mktemp("socks")
    (directory / "app.py").write_text(APP)
    (directory / "users").write_text(USERS)
    (directory / "sockd.toml").write_text(CONFIG % directory)
    shell = f'ip link set lo up && ip address add {HOST}/32 dev lo && exec "$@"'
    sockd = shutil.which("sockd", path=str(sys.executable).rpartition("/")[0])
    words = ["-rn", "sh", "-c", shell, "sh", sockd, "--foreground", "--log-format", "json", "--user", "root"]
    server = Server([*words, "-c", "sockd.toml"], directory, executable=shutil.which("unshare"))
    try:
        server.ready()
        inside = ["nsenter", "-t", str(server.process.pid), "-U", "-n", "--preserve-credentials"]

        def run(*words, input=b"", environment=None):
            where = ["env", *(f"{name}={value}" for name, value in (environment or {}).items())]
            return subprocess.run(
                [*inside, *where, *words], input=input, capture_output=True, timeout=60, cwd=directory
            )

        run.directory = directory
        run.server = server
        yield run
        server.stop()
    finally:
        server.end()


def proxy(scheme, login="", port=OPEN):
    return f"{scheme}://{login}127.0.0.1:{port}"


# ---- curl


@needs("curl", "curl")
@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h"])
@pytest.mark.parametrize("host", [HOST, "localhost"])
@pytest.mark.parametrize("login", ["", "alice:secret@"])
def test_curl(network, scheme, host, login):
    """SOCKS 4 has user ids and no passwords, so only 5 goes where somebody must log in."""
    port = LOGIN if login and scheme.startswith("socks5") else OPEN
    done = network("curl", "-sS", "-4", "-x", proxy(scheme, login, port), f"http://{host}:8080/")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


@needs("curl", "curl")
@pytest.mark.parametrize(
    ("url", "where", "said"),
    [
        (proxy("socks5", "alice:wrong@", LOGIN), HOST, b"User was rejected"),
        (proxy("socks5", "", LOGIN), HOST, b"No authentication method was acceptable"),
        (proxy("socks4", "alice@", LOGIN), HOST, b"request rejected or failed"),
        (proxy("socks5"), "10.0.0.1", b"(2)"),
        (proxy("socks5h"), "0x0a.1", b"(2)"),
        (proxy("socks5"), f"{HOST}:9", b"(5)"),
    ],
)
def test_what_curl_is_told(network, url, where, said):
    done = network("curl", "-sS", "-x", url, f"http://{where}/")
    assert done.returncode == 97  # CURLE_PROXY
    assert said in done.stderr


# ---- netcats and socat


@needs("nc", "netcat-openbsd")
@pytest.mark.parametrize("version", ["4", "5"])
@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_nc(network, version, host):
    if version == "4" and host == "localhost":
        host = "127.0.0.1"  # it looks names up itself for version 4, and may find ::1
    done = network("nc", "-N", "-X", version, "-x", f"127.0.0.1:{OPEN}", host, "7", input=b"hello\n")
    assert (done.returncode, done.stdout) == (0, b"hello\n")


@needs("ncat", "ncat")
@pytest.mark.parametrize(
    "words",
    [
        ["--proxy", f"127.0.0.1:{OPEN}", "--proxy-type", "socks4"],
        ["--proxy", f"127.0.0.1:{OPEN}", "--proxy-type", "socks5"],
        ["--proxy", f"127.0.0.1:{OPEN}", "--proxy-type", "socks5", "--proxy-dns", "remote"],
        ["--proxy", f"127.0.0.1:{LOGIN}", "--proxy-type", "socks5", "--proxy-auth", "alice:secret"],
    ],
)
def test_ncat(network, words):
    done = network("ncat", *words, HOST, "7", input=b"hello\n")
    assert (done.returncode, done.stdout) == (0, b"hello\n")


@needs("socat", "socat")
@pytest.mark.parametrize("address", ["SOCKS4:127.0.0.1:192.0.2.80:7", "SOCKS4A:127.0.0.1:localhost:7"])
def test_socat(network, address):
    done = network("socat", "-t10", "-", f"{address},socksport={OPEN}", input=b"hello\n")
    assert (done.returncode, done.stdout) == (0, b"hello\n")


# ---- programs that know no SOCKS


@needs("proxychains4", "proxychains4")
@needs("curl", "curl")
@pytest.mark.parametrize(
    "entry", ["socks4 127.0.0.1 1080", "socks5 127.0.0.1 1080", "socks5 127.0.0.1 1081 alice secret"]
)
def test_proxychains(network, entry):
    conf = network.directory / "proxychains.conf"
    conf.write_text(f"strict_chain\nproxy_dns\ntcp_read_time_out 15000\n[ProxyList]\n{entry}\n")
    done = network("proxychains4", "-q", "-f", str(conf), "curl", "-sS", f"http://{HOST}:8080/")
    assert (done.returncode, done.stdout) == (0, b"hello\n")


@needs("tsocks", "tsocks")
@needs("curl", "curl")
@pytest.mark.parametrize("version", ["4", "5"])
def test_tsocks(network, version):
    conf = network.directory / "tsocks.conf"
    conf.write_text(f"server = 127.0.0.1\nserver_port = {OPEN}\nserver_type = {version}\n")
    done = network(
        "tsocks", "curl", "-sS", "-m", "20", f"http://{HOST}:8080/", environment={"TSOCKS_CONF_FILE": str(conf)}
    )
    assert (done.returncode, done.stdout) == (0, b"hello\n")


@needs("socksify", "dante-client")
@needs("curl", "curl")
@pytest.mark.parametrize(
    ("protocol", "port", "method"),
    [("socks_v4", OPEN, "none"), ("socks_v5", OPEN, "none"), ("socks_v5", LOGIN, "username")],
)
def test_socksify(network, protocol, port, method):
    conf = network.directory / "socks.conf"
    conf.write_text(
        "resolveprotocol: fake\n"
        f"route {{ from: 0.0.0.0/0 to: {HOST}/32 via: 127.0.0.1 port = {port}\n"
        f" proxyprotocol: {protocol}\n command: connect\n method: {method}\n}}\n"
    )
    environment = {"SOCKS_CONF": str(conf), "SOCKS_USERNAME": "alice", "SOCKS_PASSWORD": "secret"}
    done = network("socksify", "curl", "-sS", "-m", "20", f"http://{HOST}:8080/", environment=environment)
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr


# ---- libraries


PYSOCKS = """
import socket, socks
sock = socks.socksocket(socket.AF_INET, socket.{kind})
sock.set_proxy(socks.{version}, "127.0.0.1", {port}, {rdns}, {login})
sock.settimeout(20)
{talk}
print(sock.recv(100).decode())
"""
TALK_TCP = 'sock.connect(("{host}", 7)); sock.sendall(b"hello")'
TALK_UDP = 'sock.sendto(b"hello", ("{host}", 7))'


@pytest.mark.parametrize(
    ("kind", "version", "port", "rdns", "login", "host"),
    [
        ("SOCK_STREAM", "SOCKS4", OPEN, False, "None", HOST),
        ("SOCK_STREAM", "SOCKS4", OPEN, True, "None", "localhost"),
        ("SOCK_STREAM", "SOCKS5", OPEN, False, "None", HOST),
        ("SOCK_STREAM", "SOCKS5", OPEN, True, "None", "localhost"),
        ("SOCK_STREAM", "SOCKS5", LOGIN, True, "'alice', 'secret'", HOST),
        ("SOCK_DGRAM", "SOCKS5", OPEN, False, "None", HOST),
        ("SOCK_DGRAM", "SOCKS5", LOGIN, False, "'alice', 'secret'", HOST),
    ],
)
def test_pysocks(network, kind, version, port, rdns, login, host):
    pytest.importorskip("socks", reason="package PySocks is missing")
    talk = (TALK_TCP if kind == "SOCK_STREAM" else TALK_UDP).format(host=host)
    code = PYSOCKS.format(kind=kind, version=version, port=port, rdns=rdns, login=login, talk=talk)
    done = network(sys.executable, "-W", "ignore", "-c", code)
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr


PYTHON_SOCKS = """
import sys
from python_socks.sync import Proxy
sock = Proxy.from_url(sys.argv[1], rdns=True).connect(dest_host=sys.argv[2], dest_port=7, timeout=20)
sock.sendall(b"hello")
print(sock.recv(100).decode())
"""


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (proxy("socks4"), HOST),
        (proxy("socks4"), "localhost"),
        (proxy("socks5"), HOST),
        (proxy("socks5"), "localhost"),
        (proxy("socks5", "alice:secret@", LOGIN), HOST),
    ],
)
def test_python_socks(network, url, host):
    pytest.importorskip("python_socks", reason="package python-socks is missing")
    done = network(sys.executable, "-c", PYTHON_SOCKS, url, host)
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr
