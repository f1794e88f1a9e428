# SPDX-License-Identifier: MIT
# Seen failing against a daemon that prints IPv6 without brackets (round trip, scope, peers), and one whose message on
# bad text has neither place nor reason (all of these).
"""II.2, the address structures: one text form for each, printed back the same; bad text gets place and reason."""

from __future__ import annotations

import re
import socket
import subprocess

import pytest

BAD = [
    ("127.0.0.1:7000", "scheme", "did you mean tcp://127.0.0.1:7000"),
    ("ftp://host:21", "scheme", "unknown scheme 'ftp'"),
    ("tcp:127.0.0.1:7000", "scheme", "did you mean tcp://127.0.0.1:7000"),
    ("tcp://127.0.0.1", "port", "did you mean tcp://127.0.0.1:PORT"),
    ("tcp://127.0.0.1:", "port", "empty"),
    ("tcp://256.0.0.1:7000", "host", "256.0.0.1 is not an IPv4 address"),
    ("tcp://::1:7000", "host", "tcp://[::1]:7000"),
    ("tcp://[::1:7000", "host", "the bracket is not closed"),
    ("tcp://[::g]:7000", "host", "'::g' is not an IPv6 address"),
    ("tcp://[fe80::1]:7000", "host", "needs its interface"),
    ("tcp://host_:7000/path", "character 17", "'/'"),
    ("tcp://ho\x07st:7000", "character 9", "is not allowed in an address"),
    ("unix:relative", "path", "begin it with /"),
    ("unix:/" + "x" * 107, "path", "107 are allowed"),
]


def without_port(address):
    return re.sub(r":\d+$", ":0", address)


@pytest.fixture
def sockctl(sockctl_script):
    def run(*words, prefix=(), text=b"hello\n"):
        done = subprocess.run([*prefix, sockctl_script, *words], input=text, capture_output=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, b""), done
        return done.stdout

    return run


@pytest.fixture
def sockd(sockd_script, tmp_path):
    """Run it to its end in a directory of its own."""

    def run(*words):
        return subprocess.run([sockd_script, *words], capture_output=True, text=True, cwd=tmp_path, timeout=30)

    return run


def test_each_form_is_printed_back_the_same_and_can_be_connected(daemon, tmp_path, sockctl):
    addresses = [
        "tcp://127.0.0.1:0",
        "tcp://[::1]:0",
        "udp://127.0.0.1:0",
        "udp://[::1]:0",
        f"unix:{tmp_path}/a",
        f"unixgram:{tmp_path}/b",
        f"unix:{tmp_path}/with blank, \N{LATIN SMALL LETTER E WITH ACUTE}",
    ]
    one = daemon(toml=f"[[listen]]\naddresses = {addresses}\nservice = 'upper'\n")
    assert [without_port(address) for address in one.addresses] == addresses
    for address in one.addresses:
        assert sockctl("connect", address) == b"HELLO\n", address


def test_the_effective_configuration_prints_them_the_same(sockd, tmp_path):
    addresses = [
        "tcp://127.0.0.1:7000",
        "tcp://[::1]:7000",
        "tcp://[fe80::1%eth0]:7000",
        "tcp://*:7001",
        "tcp://:7002",
        "tcp://localhost:domain",
        "udp://[2001:db8::5]:7000",
        "unix:/run/x.sock",
        "unixgram:/run/y.sock",
    ]
    (tmp_path / "sockd.toml").write_text(f"[[listen]]\naddresses = {addresses}\nservice = 'upper'\n")
    done = sockd("-T", "-c", "sockd.toml")
    assert (done.returncode, done.stderr) == (0, "")
    for address in addresses:
        assert f'"{address}"' in done.stdout, done.stdout
    (tmp_path / "sockd.toml").write_text(done.stdout)
    assert sockd("-T", "-c", "sockd.toml").stdout == done.stdout


def test_an_ipv6_address_with_its_scope(daemon, network, sockctl, until):
    def link_local():
        words = [*network.prefix, "ip", "-6", "-o", "address", "show", "dev", "wire", "scope", "link", "-tentative"]
        return re.search(r"inet6 (fe80[^/]*)/", subprocess.run(words, capture_output=True, text=True).stdout)

    host = until(link_local)[1]
    one = daemon(f"tcp://[{host}%wire]:0=upper", prefix=network.prefix)
    assert without_port(one.address()) == f"tcp://[{host}%wire]:0"
    assert sockctl("connect", one.address(), prefix=network.prefix) == b"HELLO\n"
    assert one.closed("eof")["peer"].startswith(f"tcp://[{host}%wire]:")


def test_a_peer_is_written_as_an_address(daemon, name_of):
    one = daemon("tcp://127.0.0.1:0=upper", "tcp://[::1]:0=upper")
    for index in range(2):
        sock = one.connect(index)
        name = name_of(sock)
        sock.close()
        one.closed("eof", peer=name)


def test_bad_text_gets_the_place_and_the_reason(sockd):
    done = sockd("--check", *(word for text, _, _ in BAD for word in ("--listen", f"{text}=upper")))
    assert done.returncode in (64, 78)
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    for text, place, reason in BAD:
        (line,) = (line for line in lines if f"not an address: {text!r}: {place}: " in line)
        assert reason in line


def test_the_client_tool_refuses_bad_text_in_the_same_words(sockctl_script):
    text, place, reason = BAD[0]
    done = subprocess.run([sockctl_script, "connect", text], capture_output=True, text=True, timeout=30)
    assert done.returncode == 64
    assert f"not an address: {text!r}: {place}: " in done.stderr
    assert reason in done.stderr


def test_bad_text_in_a_configuration_is_found_with_its_line(sockd, tmp_path):
    (tmp_path / "sockd.toml").write_text(
        '[[listen]]\naddress = "tcp://127.0.0.1:7000"\nservice = "upper"\n\n'
        '[[listen]]\naddress = "tcp://::1:7000"\nservice = "upper"\n'
    )
    done = sockd("--check", "-c", "sockd.toml")
    assert done.returncode == 78
    assert "sockd.toml" in done.stderr
    assert "listen[1].address" in done.stderr
    assert "tcp://[::1]:7000" in done.stderr


def test_the_longest_path_that_the_kernel_takes(daemon, tmp_path):
    directory = str(tmp_path)
    if len(directory) > 100:
        pytest.skip("the temporary directory has too long a name")
    path = f"{directory}/{'x' * (106 - len(directory))}"
    one = daemon(f"unix:{path}=upper")
    assert one.sockaddr() == (socket.AF_UNIX, socket.SOCK_STREAM, path)
    assert one.ask(b"hello\n") == b"HELLO\n"
