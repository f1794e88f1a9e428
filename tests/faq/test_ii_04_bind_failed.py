# SPDX-License-Identifier: MIT
# Seen failing against a daemon that keeps the socket of a failed bind() (descriptors left open), and one that does not
# look for the holder (the message does not name it).
"""II.4, bind() failed: nothing leaks, and the message names the address, the errno and the holder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from sockd.errors import SystemFault
from sockd.net.address.address import Address
from sockd.net.listen.bind import open_listener
from sockd.settings.listen import ListenSettings

HOLDER = """
import socket, sys
family, kind, name = sys.argv[1:4]
if family == "unix":
    name, family = name, socket.AF_UNIX
else:
    family, name = socket.AF_INET, ("127.0.0.1", 0)
sock = socket.socket(family, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM)
sock.bind(name)
if kind == "stream":
    sock.listen()
print(sock.getsockname()[1] if family == socket.AF_INET else name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Start another program that holds an address; returns (process, address)."""
    processes = []

    def start(scheme):
        family = "unix" if scheme.startswith("unix") else "inet"
        kind = "stream" if scheme in ("tcp", "unix") else "datagram"
        words = [sys.executable, "-c", HOLDER, family, kind, str(tmp_path / "held")]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        name = process.stdout.readline().strip()
        return process, f"{scheme}:{name}" if family == "unix" else f"{scheme}://127.0.0.1:{name}"

    yield start
    for process in processes:
        process.communicate(timeout=10)


@pytest.fixture
def fails(sockd_script, tmp_path):
    """Run a daemon that cannot start; returns (exit code, standard error)."""

    def run(*listen):
        words = [sockd_script, "--foreground", *(word for one in listen for word in ("--listen", one))]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=30)
        assert "Traceback" not in done.stderr
        assert "serves" not in done.stdout
        return done.returncode, done.stderr

    return run


@pytest.mark.parametrize("scheme", ["tcp", "udp", "unix", "unixgram"])
def test_an_address_in_use_is_named_with_its_holder(holder, fails, scheme):
    process, address = holder(scheme)
    code, words = fails(f"{address}=upper")
    assert code == 71
    assert address in words
    assert (
        "is served by" if scheme.startswith("unix") else "EADDRINUSE"
    ) in words  # a path is asked before it is bound
    assert f"pid {process.pid} (python" in words


def test_an_address_that_the_host_does_not_have(fails):
    code, words = fails("tcp://192.0.2.77:0=upper")
    assert code == 71
    assert "tcp://192.0.2.77:0" in words
    assert "EADDRNOTAVAIL" in words
    assert "no interface of this host has it" in words


def test_a_directory_that_does_not_exist(fails, tmp_path):
    code, words = fails(f"unix:{tmp_path}/nowhere/s=upper")
    assert code == 71
    assert f"unix:{tmp_path}/nowhere/s" in words
    assert "ENOENT" in words


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("tcp://192.0.2.77:7", "Cannot assign requested address (EADDRNOTAVAIL)"),
        ("unix:/nowhere/s", "No such file or directory (ENOENT)"),
        ("unix:{tmp_path}", "a directory, not a socket"),
        ("{held}", "Address already in use (EADDRINUSE)"),
        ("tcp://no-such-host.invalid:7", "host 'no-such-host.invalid'"),
    ],
)
def test_the_line_and_the_key_are_named(holder, sockd_script, tmp_path, address, told):
    """Seen to fail: the address alone, which may be the tenth of a file that another one includes."""
    _, held = holder("tcp")
    address = address.format(tmp_path=tmp_path, held=held)
    text = f'[[listen]]\naddresses = ["tcp://127.0.0.1:0", "{address}"]\nservice = "upper"\n'
    (tmp_path / "sockd.toml").write_text(text)
    user = ["--user", "root"] if os.geteuid() == 0 else []
    words = [sockd_script, "--foreground", "-c", "sockd.toml", *user]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=30)
    place = "sockd: sockd.toml:2: listen[0].addresses[1]: "
    said = next((line for line in done.stderr.splitlines() if line.startswith(place)), "")
    assert address in said, done.stderr
    assert told in said


def test_the_argument_is_named(fails):
    assert fails("tcp://192.0.2.77:7=upper")[1].startswith(
        'sockd: --listen "tcp://192.0.2.77:7=upper": tcp://192.0.2.77:7: Cannot assign requested address'
    )


def test_what_was_bound_before_is_given_back(holder, fails, daemon, tmp_path):
    _, busy = holder("tcp")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        free = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
    path = f"unix:{tmp_path}/s"
    code, words = fails(f"{free}=upper", f"{path}=upper", f"{busy}=upper")
    assert code == 71
    assert busy in words
    assert not (tmp_path / "s").exists()
    one = daemon(f"{free}=upper", f"{path}=upper")
    assert one.addresses == [free, path]


def test_the_holder_is_not_harmed(daemon, fails):
    one = daemon("tcp://127.0.0.1:0=upper", "udp://127.0.0.1:0=upper")
    for address in one.addresses:
        assert fails(f"{address}=upper")[0] == 71
    for index in range(2):
        sock = one.connect(index)
        sock.sendall(b"hello\n")
        assert sock.recv(100) == b"HELLO\n"


@pytest.mark.parametrize("scheme", ["tcp", "udp", "unix", "unixgram"])
def test_no_descriptor_is_left_open(holder, scheme):
    _, text = holder(scheme)
    address = Address.parse(text)
    before = os.listdir("/proc/self/fd")
    for _ in range(10):
        with pytest.raises(SystemFault):
            open_listener(address, ListenSettings())
    assert len(os.listdir("/proc/self/fd")) == len(before)
