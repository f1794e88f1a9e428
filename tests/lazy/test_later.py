# SPDX-License-Identifier: MIT
"""A running daemon comes to need what it has not imported: where the library cannot be read any more, or is another.

Seen to fail: with no load_all() before the drop, with none before chroot(2), and with a module imported from files that
have been replaced.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import sockd

EVERY_KIND = """
[[listen]]
address = "tcp://127.0.0.1:{pages}"
service = "metrics"
[[listen]]
address = "tcp://127.0.0.1:{relay}"
service = "to"
[[listen]]
address = "tcp://127.0.0.1:{socks}"
service = "gate"
[[listen]]
addresses = ["tcp://127.0.0.1:{daytime}", "udp://127.0.0.1:{daytime}"]
service = "daytime"
[[listen]]
address = "udp://127.0.0.1:{systat}"
service = "systat"
[[listen]]
address = "tcp://127.0.0.1:{behind}"
service = "upper"
proxy_protocol = {{ from = ["127.0.0.1"] }}
rate = {{ connections = 100, per = "1s", burst = 100 }}
[service.to]
relay = {{ to = ["tcp://127.0.0.1:{target}"] }}
[service.gate]
socks = {{ allow = ["127.0.0.0/8"] }}
"""
"""What a reload adds to a daemon that serves `upper` alone."""


@pytest.fixture
def ports(free_ports):
    names = ("pages", "relay", "socks", "daytime", "systat", "behind")
    return dict(zip(names, free_ports(len(names)), strict=True))


@pytest.fixture
def free_ports():
    def find(count: int) -> list[int]:
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        ports = [one.getsockname()[1] for one in held]
        for one in held:
            one.close()
        return ports

    return find


def port_of(one) -> int:
    return int(one.addresses[0].rpartition(":")[2])


def ask(port: int, words: bytes = b"", *, kind=socket.SOCK_STREAM) -> bytes:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(30)
        sock.connect(("127.0.0.1", port))
        if words or kind is socket.SOCK_DGRAM:
            sock.sendall(words)
        return sock.recv(65_536)


def check_every_kind(ports: dict[str, int], target: int) -> None:
    assert ask(ports["pages"], b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert ask(ports["pages"], b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert ask(ports["relay"], b"hi\n") == b"HI\n"
    request = b"\x04\x01" + target.to_bytes(2, "big") + bytes((127, 0, 0, 1)) + b"\0"
    assert ask(ports["socks"], request)[:2] == b"\0\x5a"
    assert b":" in ask(ports["daytime"])
    assert b":" in ask(ports["daytime"], kind=socket.SOCK_DGRAM)
    ask(ports["systat"], b"?", kind=socket.SOCK_DGRAM)
    assert ask(ports["behind"], b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nhi\n") == b"HI\n"


def reload_to(one, text: str) -> None:
    file = one.log.with_name("sockd.toml")
    file.write_text(file.read_text() + text)
    one.send(signal.SIGHUP)


def test_every_kind_is_added_in_an_empty_root(background, open_path, as_root, ports):
    empty = open_path / "empty"
    empty.mkdir(mode=0o755)
    one = background(daemon=f'user = "nobody"\nchroot = "{empty}"')
    assert one.code == 0, one.words
    target = port_of(one)
    reload_to(one, EVERY_KIND.format(**ports, target=target))
    one.wait_for("reloaded")
    check_every_kind(ports, target)
    one.stop()


def test_every_kind_is_added_by_a_user_who_cannot_read_the_library(background, open_path, as_root, ports):
    library = open_path / "library"
    shutil.copytree(Path(sockd.__file__).parent, library / "sockd", ignore=shutil.ignore_patterns("__pycache__"))
    library.chmod(0o700)
    one = background(daemon='user = "nobody"', environment={"PYTHONPATH": str(library)}, prefix=(sys.executable,))
    assert one.code == 0, one.words
    target = port_of(one)
    reload_to(one, EVERY_KIND.format(**ports, target=target))
    one.wait_for("reloaded")
    check_every_kind(ports, target)
    one.stop()


def test_a_module_of_another_version_is_not_imported(background, open_path, ports):
    library = open_path / "library"
    shutil.copytree(Path(sockd.__file__).parent, library / "sockd", ignore=shutil.ignore_patterns("__pycache__"))
    one = background(environment={"PYTHONPATH": str(library)}, prefix=(sys.executable,))
    assert one.code == 0, one.words
    module = library / "sockd/lazy/modules.py"  # as any package manager does it
    (library / "new").write_bytes(module.read_bytes())
    os.replace(library / "new", module)
    reload_to(one, EVERY_KIND.format(**ports, target=port_of(one)))
    error = one.wait_for("invalid configuration, keeping the previous one")["error"]
    assert "cannot be imported: its files are gone, or another version's, since this process was started" in error
    assert ask(port_of(one), b"hi\n") == b"HI\n"
    one.stop()


@pytest.mark.parametrize(("service", "number"), [("upper", signal.SIGHUP), ("cat", 0)])
def test_inetd_mode_serves_a_connection_to_its_end(open_path, sockd_script, service, number):
    """HUP, and the end of a program, are for a daemon, which cannot be imported any more."""
    library = open_path / "library"
    shutil.copytree(Path(sockd.__file__).parent, library / "sockd", ignore=shutil.ignore_patterns("__pycache__"))
    user = 'user = "root"' if os.geteuid() == 0 else ""
    file = open_path / "sockd.toml"
    file.write_text(f'[daemon]\n{user}\n[service.cat]\nexec = ["/bin/cat"]\n{user}\n')
    words = [sys.executable, sockd_script, "-c", str(file), "--inetd", service]
    peer, given = socket.socketpair()
    with (
        peer,
        subprocess.Popen(
            words, stdin=given, stdout=given, stderr=given, env={**os.environ, "PYTHONPATH": str(library)}
        ) as process,
    ):
        given.close()
        peer.settimeout(30)
        peer.sendall(b"hi\n")
        assert peer.recv(100).upper() == b"HI\n"
        module = library / "sockd/lazy/modules.py"
        (library / "new").write_bytes(module.read_bytes())
        os.replace(library / "new", module)
        process.send_signal(number)
        peer.sendall(b"ho\n")
        assert peer.recv(100).upper() == b"HO\n"
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(100) == b""
        assert process.wait(30) == 0
