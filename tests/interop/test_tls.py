# SPDX-License-Identifier: MIT
"""TLS with real clients: openssl, curl, ncat and socat."""

from __future__ import annotations

import subprocess

import pytest
from programs import needs

APP = "def hello(line: bytes) -> bytes:\n    return b'hello ' + line\n"


@pytest.fixture
def one(daemon, certificates):
    own = certificates.server
    toml = f"""
    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "app:hello"
    tls = {{ certificate = "{own.path}", key = "{own.key}", alpn = ["hello"] }}

    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "metrics"
    tls = {{ certificate = "{own.path}", key = "{own.key}" }}
    """
    return daemon(toml=toml, app=APP)


def run(*command, said=b"you\n"):
    return subprocess.run(list(map(str, command)), input=said, capture_output=True, timeout=30)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl(one, certificates, version):
    verified = ("-CAfile", certificates.ca, "-verify_return_error", "-verify_hostname", "localhost")
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{one.port()}", version, "-alpn", "hello", *verified]
    with subprocess.Popen(
        [*map(str, command), "-quiet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as client:
        client.stdin.write(b"you\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"hello you\n"
        client.terminate()
    shown = run(*command, said=b"").stdout.decode()
    assert "ALPN protocol: hello" in shown
    assert "Verify return code: 0 (ok)" in shown


def test_openssl_with_too_old_a_version(one):
    done = run("openssl", "s_client", "-connect", f"127.0.0.1:{one.port()}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    assert done.returncode != 0
    assert b"alert" in done.stderr.lower()


@needs("curl", "curl")
def test_curl(one, certificates):
    url = f"https://localhost:{one.port(1)}/ready"
    assert run("curl", "-sS", "--cacert", certificates.ca, url).stdout == b"ready\n"
    assert run("curl", "-sS", url).returncode == 60  # the authority is not known to it
    wrong = url.replace("localhost", "127.0.0.2")
    assert run("curl", "-sS", "--connect-to", "::127.0.0.1:", "--cacert", certificates.ca, wrong).returncode == 60


@needs("ncat", "ncat")
def test_ncat(one, certificates):
    verified = ("--ssl-verify", "--ssl-trustfile", certificates.ca)
    done = run("ncat", "--ssl", *verified, "localhost", one.port())
    assert done.stdout == b"hello you\n", done.stderr


@needs("socat", "socat")
def test_socat(one, certificates):
    far = f"OPENSSL:127.0.0.1:{one.port()},cafile={certificates.ca},commonname=localhost"
    assert run("socat", "-t4", "-", far).stdout == b"hello you\n"


@needs("openssl", "openssl")
def test_s_time(one, certificates):
    """Handshakes one behind the other, new ones and resumed ones."""
    for kind in ("-new", "-reuse"):
        done = run(
            "openssl", "s_time", "-connect", f"127.0.0.1:{one.port()}", kind, "-time", "1", "-CAfile", certificates.ca
        )
        assert done.returncode == 0, done.stderr
    assert one.logged("handler failed") == []
