# SPDX-License-Identifier: MIT
"""PROXY headers from outside: whose address counts, and what becomes of a connection without one.

Seen failing with expects() always true, with MSG_PEEK left out, with name_peer() left out, and with the timer left out.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
V1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\r\n"
V2 = SIGNATURE + bytes.fromhex("2111000c") + bytes([192, 0, 2, 7, 10, 0, 0, 1]) + struct.pack("!HH", 40000, 25)
V2_SIX = (
    SIGNATURE + bytes.fromhex("21210024" + "20010db8" + "00" * 11 + "07" + "20010db8" + "00" * 11 + "01")
    + struct.pack("!HH", 40000, 25)
)  # fmt: skip
LOCAL = SIGNATURE + bytes.fromhex("20000000")
UNSPEC = SIGNATURE + bytes.fromhex("2100000c") + V2[16:]
UNKNOWN = b"PROXY UNKNOWN 192.0.2.7 10.0.0.1 40000 25\r\n"
NESTED = b"".join(struct.pack("!BH5x", 0x20, 8 * left + 5) for left in range(999, -1, -1))
V2_NESTED = SIGNATURE + bytes.fromhex("2111") + struct.pack("!H", 12 + len(NESTED)) + V2[16:] + NESTED
AS = 'user = "root"' if os.geteuid() == 0 else ""
CLIENT = "tcp://192.0.2.7:40000"
MULTIPLEXERS = ("auto", "epoll", "poll", "select")
APP = """
def who(line, connection):
    proxied = connection.get_extra_info("proxied")
    return f"{connection.peer} {connection.get_extra_info('peername')} {proxied.via if proxied else None}".encode()
"""


def config(more="", *, proxies='["127.0.0.1", "unix:"]', timeout="", service="app:who", address="tcp://127.0.0.1:0"):
    timeout = f', timeout = "{timeout}"' if timeout else ""
    return f"""
    [[listen]]
    address = "{address}"
    service = "{service}"
    proxy_protocol = {{ from = {proxies}{timeout} }}
    {more}
    """


@pytest.fixture
def proxied(serve, tmp_path):
    def start(*arguments, options=(), services="", **keywords):
        (tmp_path / "app.py").write_text(APP)
        return serve(config=config(*arguments, **keywords) + services, options=options)

    return start


@pytest.mark.parametrize("name", MULTIPLEXERS)
@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_the_client_is_whom_the_header_names(proxied, header, name):
    server = proxied(options=["--multiplexer", name])
    peer = server.connect()
    peer.send(header + b"a\n")
    assert peer.line() == f"{CLIENT} ('192.0.2.7', 40000) {peer.name}\n".encode()
    assert peer.finish_with(b"b\n") == f"{CLIENT} ('192.0.2.7', 40000) {peer.name}\n".encode()
    peer.close()
    closed = server.wait_for("closed")
    assert (closed["peer"], closed["via"], closed["reason"]) == (CLIENT, peer.name, "eof")
    assert closed["received"] == 4  # the header is the proxy's, not the client's


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_sockctl_begins_with_a_header(proxied, version):
    server = proxied()
    sockctl = Path(sys.executable).parent / "sockctl"
    words = [sockctl, "connect", "--proxy-header", version, server.addresses[0]]
    done = subprocess.run(words, input=b"a\n", capture_output=True, timeout=30, check=False)
    peer, via = done.stdout.split()[0], done.stdout.split()[-1]
    assert (done.returncode, done.stderr, peer) == (0, b"", via)  # it speaks of itself
    assert peer.startswith(b"tcp://127.0.0.1:")


def test_an_ipv6_client_of_an_ipv4_proxy(proxied):
    server = proxied()
    peer = server.connect()
    peer.send(V2_SIX + b"a\n")
    assert peer.line().startswith(b"tcp://[2001:db8::7]:40000 ('2001:db8::7', 40000, 0, 0) ")


@pytest.mark.parametrize(
    "header", [V1, V2, V2_SIX, LOCAL, b"PROXY UNKNOWN\r\n"], ids=["v1", "v2", "six", "local", "unknown"]
)
def test_it_may_come_byte_by_byte(proxied, header):
    server = proxied(service="upper")
    peer = server.connect()
    for byte in header + b"abc\n":
        peer.send(bytes([byte]))
    assert peer.line() == b"ABC\n"


@pytest.mark.parametrize(
    "header", [LOCAL, b"PROXY UNKNOWN\r\n", UNKNOWN, UNSPEC], ids=["local", "unknown", "with addresses", "unspec"]
)
def test_a_proxy_that_names_nobody_is_the_peer(proxied, header):
    server = proxied()
    peer = server.connect()
    peer.send(header + b"a\n")
    host, port = peer.sock.getsockname()
    assert peer.line() == f"{peer.name} ({host!r}, {port}) {peer.name}\n".encode()


def test_over_a_unix_socket(proxied, tmp_path):
    server = proxied(address=f"unix:{tmp_path}/s")
    peer = server.connect()
    peer.send(V1 + b"a\n")
    assert peer.line() == f"{CLIENT} ('192.0.2.7', 40000) unix:\n".encode()


def test_who_is_no_proxy_speaks_for_himself(proxied):
    """Nothing is guessed: for him the header is a line."""
    server = proxied(proxies='["192.0.2.0/24"]', service="upper")
    peer = server.connect()
    assert peer.ask(V1.rstrip()) == V1.rstrip().upper()
    peer.close()
    closed = server.wait_for("closed")
    assert closed["peer"] == peer.name
    assert "via" not in closed


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "does not begin a PROXY header"),
        (b"hello\n", "does not begin a PROXY header"),
        (V1.replace(b"TCP4", b"TCP5"), "is not TCP4, TCP6 or UNKNOWN"),
        (SIGNATURE + bytes.fromhex("3111000c"), "version 3"),
        (b"PROXY UNKNOWN " + b"x" * 200, "no CR LF within 107 bytes"),
        (V2_NESTED, "is inside another"),
    ],
)
def test_what_is_no_header_is_answered_by_closing(proxied, sent, why):
    server = proxied(service="upper")
    peer = server.connect()
    peer.send(sent)
    with suppress(ConnectionResetError):  # what was sent is not received before it is closed
        assert peer.to_end() == b""
    refused = server.wait_for("no PROXY header")
    assert (refused["via"], why in refused["why"]) == (peer.name, True)
    assert server.having("closed") == []  # no service has seen it
    assert ask_anew(server) == b"ABC\n"


def ask_anew(server):
    with closing(server.connect()) as peer:
        peer.send(V1 + b"abc\n")
        return peer.line()


def test_every_prefix_followed_by_an_end(proxied, until):
    """The service never sees such a connection; one without a byte, as health checks are, is not worth a warning."""
    server = proxied(service="upper", timeout="60s")
    ends = [header[:end] for header in (V1, V2) for end in range(1, len(header))]
    server.connect().close()
    for data in ends:
        with closing(server.connect()) as peer:
            assert peer.finish_with(data) == b""
    assert ask_anew(server) == b"ABC\n"
    until(lambda: len(server.having("no PROXY header")) >= len(ends))
    said = server.having("no PROXY header")
    assert [event["why"] for event in said] == ["the peer closed the connection within it"] * len(ends)
    server.wait_for("closed")
    assert len(server.having("closed")) == 1


def test_a_header_that_does_not_come_has_a_deadline(proxied):
    server = proxied(service="upper", timeout="3s")
    began = time.monotonic()
    silent, slow = server.connect(), server.connect()
    slow.send(V1[:20])
    assert ask_anew(server) == b"ABC\n"  # nobody is held up
    assert slow.to_end() == silent.to_end() == b""
    assert 3 <= time.monotonic() - began < 10
    assert server.wait_for("no PROXY header")["why"] == "incomplete after 3 s"


def test_rules_are_held_against_the_client(proxied):
    server = proxied('deny = ["192.0.2.0/24"]', service="upper")
    denied = server.connect()
    assert denied.finish_with(V1 + b"abc\n") == b""
    assert server.wait_for("refused")["peer"] == CLIENT
    other = server.connect()
    other.send(V1.replace(b"192.0.2.7", b"198.51.100.7") + b"abc\n")
    assert other.line() == b"ABC\n"


def test_limits_are_those_of_the_client(proxied):
    server = proxied('max_connections_per_source = 1\nat_limit = "refuse"\nbanner = "one each"', service="upper")
    peers = [server.connect() for _ in range(3)]
    for number, peer in enumerate(peers[:2]):
        peer.send(V1.replace(b"192.0.2.7", b"192.0.2.%d" % number) + b"abc\n")
        assert peer.line() == b"ABC\n"
    assert peers[2].finish_with(V1.replace(b"192.0.2.7", b"192.0.2.0") + b"abc\n") == b"one each\n"
    peers[0].close()
    again = server.connect()
    again.send(V1.replace(b"192.0.2.7", b"192.0.2.9") + b"abc\n")
    assert again.line() == b"ABC\n"


def test_waiting_for_a_header_counts_and_is_given_back(proxied):
    server = proxied("max_connections = 1", service="upper")
    for _ in range(20):
        first, second = server.connect(), server.connect()
        second.send(V1 + b"abc\n")
        first.close()  # without a byte: its place is the next one's
        assert second.line() == b"ABC\n"
        second.close()


def test_a_program_gets_the_clients_address(proxied):
    services = f'\n[service.env]\nexec = ["/usr/bin/env"]\n{AS}\n'
    server = proxied(service="env", services=services)
    peer = server.connect()
    peer.send(V1)
    said = dict(line.split("=", 1) for line in peer.to_end().decode().splitlines())
    assert (said["PROTO"], said["TCPREMOTEIP"], said["TCPREMOTEPORT"]) == ("TCP", "192.0.2.7", "40000")
    assert (said["REMOTE_ADDR"], said["REMOTE_PORT"]) == ("192.0.2.7", "40000")


def test_the_program_finds_every_byte_behind_the_header(proxied):
    server = proxied(service="cat", services=f'\n[service.cat]\nexec = ["/bin/cat"]\n{AS}\n')
    peer = server.connect()
    data = b"x" * 100_000
    assert peer.finish_with(V2 + data) == data


def test_a_stop_does_not_wait_for_headers(proxied):
    server = proxied(service="upper", timeout="60s")
    peer = server.connect()
    peer.send(V1[:5])
    assert ask_anew(server) == b"ABC\n"
    server.signal()
    assert peer.to_end() == b""
    assert server.wait() == 0


def test_a_thousand_at_once(proxied, files):
    server = proxied("max_connections_per_source = 0", service="upper")  # the headers name one client
    peers = [server.connect() for _ in range(1000)]
    for peer in peers:
        peer.send(V1 + b"abc\n")
    assert {peer.line() for peer in peers} == {b"ABC\n"}
    for peer in peers:
        peer.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("proxy_protocol = true", "proxy_protocol"),
        ("proxy_protocol = {}", "names no trusted proxy"),
        ('proxy_protocol = { from = ["10.0.0"] }', "is not a network"),
        ('proxy_protocol = { from = ["10.0.0.1"], timeout = "1s" }', "is too small"),
        ('proxy_protocol = { form = ["10.0.0.1"] }', 'did you mean "from"'),
        ('ident = "log"\nproxy_protocol = { from = ["10.0.0.1"] }', "behind a proxy it has none; remove it"),
    ],
)
def test_mistakes_are_named(sockd_check, text, said):
    assert said in sockd_check(f'[[listen]]\naddress = "tcp://127.0.0.1:7"\nservice = "upper"\n{text}\n')


def test_datagrams_have_no_header(sockd_check):
    said = sockd_check(
        '[[listen]]\naddress = "udp://127.0.0.1:7"\nservice = "upper"\nproxy_protocol = { from = ["::1"] }\n'
    )
    assert "is a datagram address, and datagrams have no PROXY header" in said


@pytest.fixture
def sockd_check(tmp_path):
    def check(toml):
        (tmp_path / "sockd.toml").write_text(toml)
        words = [Path(sys.executable).parent / "sockd", "--check", "-c", tmp_path / "sockd.toml"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 78
        return done.stderr

    return check
