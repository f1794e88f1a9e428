# SPDX-License-Identifier: MIT
# Seen failing against a daemon whose ports end at 5000, as in the FAQ's example, and one that looks names up without
# their protocol (a name of the other one is then taken).
"""II.3, the port of a service: a name or a number 0 to 65535, and a name knows its protocol."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

SERVICES = Path("/etc/services")


def registered():
    """Read services(5): {protocol: {name: port}}."""
    if not SERVICES.exists():
        pytest.skip("this host has no /etc/services (Debian's package netbase)")
    found = {"tcp": {}, "udp": {}}
    for line in SERVICES.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1:
            port, _, protocol = words[1].partition("/")
            if protocol in found:
                found[protocol].setdefault(words[0], int(port))
    return found


def is_free(kind, port):
    with socket.socket(socket.AF_INET, kind) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture
def check(sockd_script, tmp_path):
    def run(*addresses):
        words = [sockd_script, "--check", *(word for one in addresses for word in ("--listen", f"{one}=upper"))]
        return subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=30)

    return run


@pytest.mark.parametrize(("scheme", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
def test_a_name_is_served_on_its_port(daemon, scheme, kind):
    names = registered()[scheme].items()
    name, port = next((name, port) for name, port in names if port > 1024 and is_free(kind, port))
    one = daemon(f"{scheme}://127.0.0.1:{name}=discard")
    assert one.address() == f"{scheme}://127.0.0.1:{port}"
    assert one.connect().getpeername() == ("127.0.0.1", port)


def test_a_name_of_the_other_protocol_is_refused_with_what_to_do(check):
    names = registered()
    only_udp = next(name for name in names["udp"] if name not in names["tcp"])
    only_tcp = next(name for name in names["tcp"] if name not in names["udp"])
    for address, right in ((f"tcp://127.0.0.1:{only_udp}", "udp"), (f"udp://127.0.0.1:{only_tcp}", "tcp")):
        done = check(address)
        assert done.returncode != 0
        assert f"is a service of {right} only; write {right}://, or the number" in done.stderr


def test_what_is_no_port_is_refused(check):
    ports = ["no-such-service", "65536", "-1", "070", "0x50", "7 0", "999999999999999999999", "+7"]
    done = check(*(f"tcp://127.0.0.1:{port}" for port in ports))
    assert done.returncode in (64, 78)
    assert "Traceback" not in done.stderr
    for port in ports:
        (line,) = (line for line in done.stderr.splitlines() if f"127.0.0.1:{port}'" in line)
        assert ": port: " in line
        assert "65535" in line or "begins with a zero" in line


def test_a_name_that_is_nearly_right_is_suggested(check):
    if "smtp" not in registered()["tcp"]:
        pytest.skip("/etc/services does not have smtp")
    assert "did you mean smtp" in check("tcp://127.0.0.1:smpt").stderr


def test_every_number_from_0_to_65535_is_a_port(check):
    """5000 was the last one in 1996."""
    assert check(*(f"tcp://127.0.0.1:{port}" for port in (0, 1, 5000, 5001, 65535))).returncode == 0


def test_port_0_is_chosen_by_the_kernel(daemon):
    one = daemon("tcp://127.0.0.1:0=upper", "udp://127.0.0.1:0=upper")
    for index, address in enumerate(one.addresses):
        assert one.port(index) > 0, address
        sock = one.connect(index)
        sock.sendall(b"hello\n")
        assert sock.recv(100) == b"HELLO\n"


def test_the_client_takes_a_name_too(daemon, sockctl_script):
    names = registered()["tcp"].items()
    name, port = next((name, port) for name, port in names if port > 1024 and is_free(socket.SOCK_STREAM, port))
    daemon(f"tcp://127.0.0.1:{port}=upper")
    words = [sockctl_script, "connect", f"tcp://127.0.0.1:{name}"]
    done = subprocess.run(words, input=b"hello\n", capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, b"HELLO\n")
