# SPDX-License-Identifier: MIT
"""TLS files that are named relative to the configuration file.

Before: `"cert.pem" is not an absolute path`, exit 78.
"""

from __future__ import annotations

import os
import shutil
import ssl

from serving import STAY_ROOT

from sockd.config.load import load, loads
from sockd.settings.tls import HostCertificate


def test_relative_to_the_file_wherever_the_process_is(tmp_path, monkeypatch):
    file = tmp_path / "sockd.toml"
    file.write_text(
        '[[listen]]\naddress = "tcp://127.0.0.1:7"\nservice = "upper"\n'
        'tls = { certificate = "tls/c.pem", key = "../k.pem", client_ca = "/ca.pem", others = ["a.example=o.pem"] }\n'
    )
    monkeypatch.chdir(tmp_path.parent)
    for path in (file, os.path.join(tmp_path.name, "sockd.toml")):
        tls = load(path).listen[0].tls
        assert tls.certificate == f"{tmp_path}/tls/c.pem"
        assert tls.key == f"{tmp_path.parent}/k.pem"
        assert tls.client_ca == "/ca.pem"
        assert tls.others == (HostCertificate("a.example", f"{tmp_path}/o.pem"),)
    assert loads(file.read_text(), name="x", directory="/d").listen[0].tls.certificate == "/d/tls/c.pem"


def test_served_and_reloaded_with_relative_paths(launch, certificates, tmp_path):
    """From another directory, and again at a reload, when the daemon is in no directory of its own any more."""
    directory = tmp_path / "etc"
    directory.mkdir()
    shutil.copy(certificates.server.path, directory / "cert.pem")
    shutil.copy(certificates.server.key, directory / "key.pem")
    (directory / "sockd.toml").write_text(
        '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'
        'tls = { certificate = "cert.pem", key = "key.pem" }\n'
    )
    server = launch("--foreground", "--log-format", "json", *STAY_ROOT, "-c", "etc/sockd.toml")
    server.ready()
    context = ssl.create_default_context(cafile=certificates.ca)

    def ask():
        client = server.connect(server.addresses[0])
        with context.wrap_socket(client.sock, server_hostname="localhost") as sock:
            sock.sendall(b"hello\n")
            answer = sock.recv(100)
        client.file.close()
        return answer

    assert ask() == b"HELLO\n"
    server.signal(1)
    server.wait_for("reloaded")
    assert ask() == b"HELLO\n"
