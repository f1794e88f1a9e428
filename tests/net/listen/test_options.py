# SPDX-License-Identifier: MIT
from __future__ import annotations

import errno
import gc
import os
import socket
import struct
from contextlib import suppress
from dataclasses import replace

import pytest

from sockd.errors import PermissionFault, SystemFault
from sockd.net.address.address import Address, resolve_endpoints
from sockd.net.listen import bind, options
from sockd.net.listen.bind import open_listener
from sockd.settings import Duration, Size
from sockd.settings.listen import KeepaliveSettings, ListenSettings

SO, TCP, IPV6 = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IPV6
IP_FREEBIND, IPV6_FREEBIND = 15, 78
DEFAULT = ListenSettings()
EVERY = ListenSettings(
    nodelay=False,
    reuse_address=False,
    reuse_port=True,
    keepalive=KeepaliveSettings(idle=Duration(61), interval=Duration(7.5), count=9),
    user_timeout=Duration(12.3456),
    linger=Duration(4.2),
    receive_buffer=Size(50_000),
    send_buffer=Size(60_000),
    defer_accept=Duration(1),
    fast_open=17,
    free_bind=True,
    interface="lo",
    mark=2**32 - 2,
)
root = pytest.mark.skipif(os.geteuid() != 0, reason="mark needs root")


@pytest.fixture(autouse=True)
def _nothing_leaks():
    gc.collect()  # what earlier tests left must not be collected in between
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def opened():
    listening = []

    def open_one(text, settings):
        listening.extend(open_listener(Address.parse(text), settings))
        return listening[-1].socket

    yield open_one
    for one in listening:
        one.close()


@pytest.fixture
def pair(opened):
    """Open a listener and accept one connection of it."""
    made = []

    def open_pair(settings, text="tcp://127.0.0.1:0"):
        listener = opened(text, settings)
        made.append(socket.create_connection(listener.getsockname()[:2]))
        made[0].sendall(b"x")  # defer_accept waits for it
        listener.settimeout(5)
        made.append(listener.accept()[0])
        return listener, made[1]

    yield open_pair
    for one in made:
        one.close()


# Setting; level, option, what getsockopt() says.
READ_BACK = [
    (replace(DEFAULT, nodelay=True), TCP, socket.TCP_NODELAY, 1),
    (replace(DEFAULT, nodelay=False), TCP, socket.TCP_NODELAY, 0),
    (DEFAULT, SO, socket.SO_REUSEADDR, 1),
    (replace(DEFAULT, reuse_address=False), SO, socket.SO_REUSEADDR, 0),
    (DEFAULT, SO, socket.SO_REUSEPORT, 0),
    (replace(DEFAULT, reuse_port=True), SO, socket.SO_REUSEPORT, 1),
    (DEFAULT, SO, socket.SO_KEEPALIVE, 1),
    (DEFAULT, TCP, socket.TCP_KEEPIDLE, 120),
    (DEFAULT, TCP, socket.TCP_KEEPINTVL, 30),
    (DEFAULT, TCP, socket.TCP_KEEPCNT, 4),
    (EVERY, TCP, socket.TCP_KEEPIDLE, 61),
    (EVERY, TCP, socket.TCP_KEEPINTVL, 8),
    (EVERY, TCP, socket.TCP_KEEPCNT, 9),
    (DEFAULT, TCP, socket.TCP_USER_TIMEOUT, 240_000),
    (replace(DEFAULT, user_timeout=Duration(0)), TCP, socket.TCP_USER_TIMEOUT, 0),
    (EVERY, TCP, socket.TCP_USER_TIMEOUT, 12_346),
    (EVERY, SO, socket.SO_RCVBUF, 100_000),
    (EVERY, SO, socket.SO_SNDBUF, 120_000),
    (replace(DEFAULT, free_bind=True), socket.IPPROTO_IP, IP_FREEBIND, 1),
    (DEFAULT, socket.IPPROTO_IP, IP_FREEBIND, 0),
]


@root
@pytest.mark.parametrize(("settings", "level", "number", "expected"), READ_BACK)
def test_what_is_set_is_read_back_from_the_listener_and_from_what_it_accepts(pair, settings, level, number, expected):
    listener, accepted = pair(settings)
    assert listener.getsockopt(level, number) == expected
    assert accepted.getsockopt(level, number) == expected


@root
def test_what_is_not_a_number_is_read_back(pair):
    listener, accepted = pair(EVERY)
    for one in (listener, accepted):
        assert struct.unpack("ii", one.getsockopt(SO, socket.SO_LINGER, 8)) == (1, 5)
        assert one.getsockopt(SO, socket.SO_BINDTODEVICE, 16) == b"lo\0"
        assert struct.unpack("=I", one.getsockopt(SO, socket.SO_MARK, 4)) == (2**32 - 2,)
    assert listener.getsockopt(TCP, socket.TCP_DEFER_ACCEPT) >= 1
    assert listener.getsockopt(TCP, socket.TCP_FASTOPEN) == 17


def test_linger_is_off_and_no_buffer_is_set_by_default(pair):
    with socket.socket() as fresh:
        sizes = [fresh.getsockopt(SO, number) for number in (socket.SO_RCVBUF, socket.SO_SNDBUF)]
    listener, accepted = pair(DEFAULT)
    for one in (listener, accepted):
        assert struct.unpack("ii", one.getsockopt(SO, socket.SO_LINGER, 8))[0] == 0
        assert one.getsockopt(SO, socket.SO_BINDTODEVICE, 16) == b""
    assert [listener.getsockopt(SO, number) for number in (socket.SO_RCVBUF, socket.SO_SNDBUF)] == sizes
    assert listener.getsockopt(TCP, socket.TCP_DEFER_ACCEPT) == 0
    assert listener.getsockopt(TCP, socket.TCP_FASTOPEN) == 0


def test_accept_waits_for_the_first_bytes_when_it_is_deferred(opened):
    listener = opened("tcp://127.0.0.1:0", replace(DEFAULT, defer_accept=Duration(30)))
    with socket.create_connection(listener.getsockname()) as client:
        with pytest.raises(BlockingIOError):
            listener.accept()
        client.sendall(b"hello")
        listener.settimeout(5)
        with listener.accept()[0] as accepted:
            assert accepted.recv(5) == b"hello"


@root
@pytest.mark.parametrize("text", ["udp://127.0.0.1:0", "udp://[::1]:0"])
def test_a_datagram_socket_takes_what_applies_to_it(opened, text):
    sock = opened(text, EVERY)
    assert sock.getsockopt(SO, socket.SO_REUSEPORT) == 1
    assert sock.getsockopt(SO, socket.SO_RCVBUF) == 100_000
    assert sock.getsockopt(SO, socket.SO_KEEPALIVE) == 0
    assert struct.unpack("ii", sock.getsockopt(SO, socket.SO_LINGER, 8))[0] == 0
    assert sock.getsockopt(SO, socket.SO_BINDTODEVICE, 16) == b"lo\0"


@pytest.mark.parametrize(("given", "expected"), [(None, 0), (True, 1), (False, 0)])
def test_reuse_address_of_udp_is_off_unless_asked_for(opened, given, expected):
    sock = opened("udp://127.0.0.1:0", replace(DEFAULT, reuse_address=given))
    assert sock.getsockopt(SO, socket.SO_REUSEADDR) == expected


@pytest.mark.parametrize("scheme", ["unix", "unixgram"])
def test_a_unix_socket_passes_over_what_does_not_apply(opened, tmp_path, scheme):
    sock = opened(f"{scheme}:{tmp_path}/s", EVERY)
    assert sock.getsockopt(SO, socket.SO_KEEPALIVE) == 0
    assert sock.getsockopt(SO, socket.SO_REUSEPORT) == 0
    assert (sock.getsockopt(SO, socket.SO_SNDBUF) == 120_000) is (scheme == "unixgram")


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("tcp://[::]:0", None, 0),
        ("tcp://:0", None, 0),
        ("tcp://[::1]:0", None, 1),
        ("tcp://[::]:0", True, 1),
        ("udp://[::]:0", True, 1),
        ("tcp://[::]:0", False, 0),
        ("tcp://[::1]:0", False, 1),  # the kernel turns it on: no IPv4 client can come
    ],
)
def test_ipv6_only_is_as_asked(text, given, expected):
    (one,) = open_listener(Address.parse(text), replace(DEFAULT, ipv6_only=given))
    try:
        assert one.socket.getsockopt(IPV6, socket.IPV6_V6ONLY) == expected
        assert one.endpoint.dual_stack is not bool(expected)
    finally:
        one.close()


def test_both_families_listen_side_by_side_when_ipv6_is_alone(opened):
    settings = replace(DEFAULT, ipv6_only=True)
    ports = [opened("tcp://[::]:0", settings).getsockname()[1] for _ in range(10)]
    beside = []
    for port in ports:  # another process may have one of them for IPv4
        with suppress(SystemFault):
            beside.append(opened(f"tcp://0.0.0.0:{port}", settings))
    assert beside


@pytest.mark.parametrize("text", ["tcp://192.0.2.254:0", "udp://192.0.2.254:0", "tcp://[2001:db8::7]:0"])
def test_an_address_that_is_not_here_yet_is_bound_freely(opened, text):
    with pytest.raises(SystemFault, match="EADDRNOTAVAIL"):
        opened(text, DEFAULT)
    sock = opened(text, replace(DEFAULT, free_bind=True))
    assert sock.getsockname()[0] in text


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_several_sockets_share_a_port_when_all_ask_for_it(opened, scheme):
    shared = replace(DEFAULT, reuse_port=True)
    port = opened(f"{scheme}://127.0.0.1:0", shared).getsockname()[1]
    opened(f"{scheme}://127.0.0.1:{port}", shared)
    with pytest.raises(SystemFault, match="EADDRINUSE"):
        opened(f"{scheme}://127.0.0.1:{port}", DEFAULT)


# ---- refusals


@pytest.mark.parametrize("name", ["nosuchdev0", "sixteen-letters0"])
def test_an_interface_that_is_not_here_is_named_with_those_that_are(opened, name):
    with pytest.raises(SystemFault) as caught:
        opened("tcp://127.0.0.1:0", replace(DEFAULT, interface=name))
    message = str(caught.value)
    assert message.startswith("tcp://127.0.0.1:0: interface (SO_BINDTODEVICE): No such device (ENODEV); ")
    assert f"this host has no interface '{name}', only " in message
    assert "lo" in message


@pytest.mark.parametrize(
    ("settings", "number", "words", "remedy"),
    [
        ({"mark": 1}, socket.SO_MARK, "mark (SO_MARK)", "it needs root, CAP_NET_ADMIN or CAP_NET_RAW"),
        ({"interface": "lo"}, socket.SO_BINDTODEVICE, "interface (SO_BINDTODEVICE)", "it needs root or CAP_NET_RAW"),
    ],
)
def test_a_right_that_is_missing_is_named(monkeypatch, settings, number, words, remedy):
    class Denied(socket.socket):
        def setsockopt(self, level, option, value):
            if option == number:
                raise PermissionError(errno.EPERM, "denied")
            super().setsockopt(level, option, value)

    monkeypatch.setattr(bind.socket, "socket", Denied)
    with pytest.raises(PermissionFault) as caught:
        open_listener(Address.parse("udp://127.0.0.1:0"), replace(DEFAULT, **settings))
    message = str(caught.value)
    assert message.startswith(f"udp://127.0.0.1:0: {words}: Operation not permitted (EPERM); {remedy}")
    assert message.endswith(f"; remove {next(iter(settings))}")


@pytest.mark.parametrize(("settings", "option"), [({"user_timeout": Duration(9)}, "user_timeout"), ({}, None)])
def test_what_this_system_does_not_have_is_refused_unless_it_is_the_default(monkeypatch, settings, option):
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    address = Address.parse("tcp://127.0.0.1:0")
    if option is None:
        (one,) = open_listener(address, DEFAULT)
        one.close()
        return
    with pytest.raises(SystemFault, match="user_timeout: this system has no TCP_USER_TIMEOUT; remove user_timeout"):
        open_listener(address, replace(DEFAULT, **settings))


def test_a_buffer_that_the_kernel_cuts_is_a_warning(opened, caplog):
    with caplog.at_level("WARNING", "sockd.sockets"):
        opened("udp://127.0.0.1:0", replace(DEFAULT, receive_buffer=Size(50_000)))
        assert not caplog.records
        opened("udp://127.0.0.1:0", replace(DEFAULT, receive_buffer=Size(2**30)))
    (record,) = caplog.records
    assert record.getMessage() == "the kernel gives a smaller buffer; raise net.core.rmem_max"
    assert record.event["option"] == "receive_buffer"
    assert record.event["given_bytes"] < record.event["asked_bytes"] == 2**30


def test_every_setting_of_a_socket_is_in_the_table():
    (endpoint,) = resolve_endpoints(Address.parse("tcp://127.0.0.1:0"), passive=True)
    keys = {option.key for option in options.table(DEFAULT, endpoint)}
    assert keys == {
        "reuse_address", "reuse_port", "nodelay", "keepalive", "user_timeout", "linger", "receive_buffer",
        "send_buffer", "defer_accept", "fast_open", "free_bind", "ipv6_only", "interface", "mark", "broadcast",
    }  # fmt: skip
