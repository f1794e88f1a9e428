# SPDX-License-Identifier: MIT
from __future__ import annotations

import errno
import fcntl
import gc
import os
import socket

import pytest

from sockd.errors import PermissionFault, SockdError, SystemFault
from sockd.net.address.address import Address, resolve_endpoints
from sockd.net.listen import bind
from sockd.net.listen.bind import open_listener
from sockd.settings.listen import ListenSettings

SETTINGS = ListenSettings(backlog=7)


def open_socket(text, settings=SETTINGS):
    (one,) = open_listener(Address.parse(text), settings)
    return one.socket


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def _nothing_leaks():
    gc.collect()  # what earlier tests left must not be collected in between
    before = descriptors()
    yield
    assert descriptors() == before


@pytest.fixture
def resolver(monkeypatch):
    """Make the name many.example mean these addresses."""

    def answer(*hosts):
        def getaddrinfo(host, port, family, kind, proto, flags):
            rows = []
            for found in hosts:
                v6 = ":" in found
                sockaddr = (found, port, 0, 0) if v6 else (found, port)
                rows.append((socket.AF_INET6 if v6 else socket.AF_INET, kind, proto, "", sockaddr))
            return rows

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return answer


def close_all(listening):
    for one in listening:
        one.close()


def test_a_stream_socket_has_its_options():
    with open_socket("tcp://127.0.0.1:0") as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        assert sock.proto == socket.IPPROTO_TCP  # with 0 asyncio leaves Nagle on for what it accepts
        assert sock.getblocking() is False
        assert fcntl.fcntl(sock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


@pytest.mark.parametrize("nodelay", [True, False])
def test_what_is_accepted_inherits_nodelay(nodelay):
    with (
        open_socket("tcp://127.0.0.1:0", ListenSettings(nodelay=nodelay)) as sock,
        socket.create_connection(sock.getsockname()),
        sock.accept()[0] as peer,
    ):
        assert bool(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) is nodelay


def test_a_datagram_socket_has_its_options():
    with open_socket("udp://127.0.0.1:0") as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
        assert sock.proto == socket.IPPROTO_UDP
        assert sock.getblocking() is False
        assert fcntl.fcntl(sock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


@pytest.mark.parametrize(("text", "v6only"), [("tcp://[::]:0", 0), ("tcp://[::1]:0", 1), ("udp://:0", 0)])
def test_ipv6_only_is_said_either_way(text, v6only):
    (one,) = open_listener(Address.parse(text), SETTINGS)
    try:
        assert one.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == v6only
    finally:
        one.close()


def test_ipv6_only_leaves_ipv4_free():
    with (
        open_socket("tcp://[::]:0", ListenSettings(ipv6_only=True)) as sock,
        open_socket(f"tcp://0.0.0.0:{sock.getsockname()[1]}"),
    ):
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_one_line_serves_both_families():
    (one,) = open_listener(Address.parse("tcp://[::]:0"), SETTINGS)
    try:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, one.endpoint.port)), one.socket.accept()[0]:
                pass
    finally:
        one.close()


def test_the_kernels_port_is_told():
    (one,) = open_listener(Address.parse("tcp://127.0.0.1:0"), SETTINGS)
    assert str(one) == f"tcp://127.0.0.1:{one.socket.getsockname()[1]}"
    assert not str(one).endswith(":0")
    one.close()
    one.close()


def test_every_address_of_a_name_has_the_same_port(resolver):
    resolver("127.0.0.1", "::1", "127.0.0.2")
    listening = open_listener(Address.parse("tcp://many.example:0"), SETTINGS)
    try:
        assert len(listening) == 3
        assert len({one.socket.getsockname()[1] for one in listening}) == 1
    finally:
        close_all(listening)


def test_a_port_that_is_taken_on_a_later_address_is_chosen_anew(resolver, monkeypatch):
    resolver("127.0.0.1", "127.0.0.2")
    blockers = []
    honest = bind._open

    def open_and_block_twice(endpoint, settings):
        one = honest(endpoint, settings)
        if endpoint.port == 0 and len(blockers) < 2:
            blocker = socket.socket()
            blocker.bind(("127.0.0.2", one.endpoint.port))
            blocker.listen()
            blockers.append(blocker)
        return one

    monkeypatch.setattr(bind, "_open", open_and_block_twice)
    listening = open_listener(Address.parse("tcp://many.example:0"), SETTINGS)
    try:
        ports = {one.endpoint.port for one in listening}
        assert len(ports) == 1
        assert ports.isdisjoint(blocker.getsockname()[1] for blocker in blockers)
        assert len(blockers) == 2
    finally:
        close_all(listening)
        close_all(blockers)


def test_the_search_for_a_common_port_has_an_end(resolver, monkeypatch):
    resolver("127.0.0.1", "127.0.0.2")
    honest = bind._open
    tries = []

    def never_the_second(endpoint, settings):
        if endpoint.port:
            tries.append(endpoint)
            raise OSError(errno.EADDRINUSE, "in use")
        return honest(endpoint, settings)

    monkeypatch.setattr(bind, "_open", never_the_second)
    with pytest.raises(SystemFault, match="EADDRINUSE"):
        open_listener(Address.parse("tcp://many.example:0"), SETTINGS)
    assert len(tries) == bind.SHARED_PORT_TRIES


def test_an_ipv6_address_that_is_not_here_is_left_out_when_there_are_others(resolver):
    resolver("2001:db8::77", "127.0.0.1")
    listening = open_listener(Address.parse("tcp://many.example:0"), SETTINGS)
    close_all(listening)
    assert [one.endpoint.sockaddr[0] for one in listening] == ["127.0.0.1"]
    resolver("2001:db8::77", "2001:db8::78")
    with pytest.raises(SystemFault, match="no interface of this host has it"):
        open_listener(Address.parse("tcp://many.example:0"), SETTINGS)


def test_what_was_opened_is_closed_when_a_later_address_fails(resolver):
    with socket.socket() as busy:
        busy.bind(("127.0.0.2", 0))
        busy.listen()
        port = busy.getsockname()[1]
        resolver("127.0.0.1", "127.0.0.2")
        with pytest.raises(SystemFault, match=f"tcp://127.0.0.2:{port}: "):
            open_listener(Address.parse(f"tcp://many.example:{port}"), SETTINGS)
        with open_socket(f"tcp://127.0.0.1:{port}"):
            pass


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_an_address_in_use_is_named_with_the_errno_and_the_holder(scheme):
    (one,) = open_listener(Address.parse(f"{scheme}://127.0.0.1:0"), SETTINGS)
    try:
        with pytest.raises(SystemFault) as caught:
            open_listener(Address.parse(str(one)), SETTINGS)
    finally:
        one.close()
    assert str(caught.value).startswith(f"{one}: Address already in use (EADDRINUSE); held by pid {os.getpid()}")
    assert caught.value.exit_code == 71


def test_restarting_over_time_wait_works_at_once():
    with open_socket("tcp://127.0.0.1:0") as first:
        name = first.getsockname()
        with socket.create_connection(name) as client:
            first.accept()[0].close()
            assert client.recv(1) == b""
    with open_socket(f"tcp://127.0.0.1:{name[1]}") as second:
        assert second.getsockname() == name


def test_an_address_of_another_host_is_explained():
    with pytest.raises(SystemFault, match=r"tcp://192\.0\.2\.254:7: .*EADDRNOTAVAIL.*no interface"):
        open_socket("tcp://192.0.2.254:7")


@pytest.mark.parametrize("call", ["setsockopt", "bind", "listen", "getsockname"])
def test_nothing_is_left_open_by_a_failing_call(monkeypatch, call):
    class Failing(socket.socket):
        pass

    def fail(self, *_):
        raise OSError(errno.ENOBUFS, "no buffer space")

    setattr(Failing, call, fail)
    monkeypatch.setattr(bind.socket, "socket", Failing)
    with pytest.raises(SystemFault, match=r"tcp://127\.0\.0\.1:0: .* \(ENOBUFS\)"):
        open_socket("tcp://127.0.0.1:0")


def test_no_descriptor_left_is_a_system_fault(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(bind.socket, "socket", refuse)
    with pytest.raises(SockdError, match=r"tcp://127\.0\.0\.1:0: .*EMFILE"):
        open_socket("tcp://127.0.0.1:0")


def test_a_privileged_port_says_what_it_needs(monkeypatch):
    class Denied(socket.socket):
        def bind(self, _):
            raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(bind.socket, "socket", Denied)
    with pytest.raises(PermissionFault, match=r"EACCES.*CAP_NET_BIND_SERVICE"):
        open_socket("tcp://127.0.0.1:25")


def test_a_path_is_owned_and_given_back(tmp_path):
    for scheme in ("unix", "unixgram"):
        (one,) = open_listener(Address.parse(f"{scheme}:{tmp_path}/s"), SETTINGS)
        assert os.listdir(tmp_path) == ["s"]
        assert one.socket.getsockname() == f"{tmp_path}/s"
        one.close()
        one.close()
        assert os.listdir(tmp_path) == []


def test_a_path_that_somebody_replaced_stays(tmp_path):
    (one,) = open_listener(Address.parse(f"unix:{tmp_path}/s"), SETTINGS)
    os.rename(tmp_path / "s", tmp_path / "old")
    (tmp_path / "s").write_text("theirs")
    one.close()
    assert (tmp_path / "s").read_text() == "theirs"


def test_a_path_goes_again_when_listen_fails(tmp_path, monkeypatch):
    class Deaf(socket.socket):
        def listen(self, _=0):
            raise OSError(errno.EADDRINUSE, "in use")

    monkeypatch.setattr(bind.socket, "socket", Deaf)
    with pytest.raises(SystemFault, match=f"unix:{tmp_path}/s: "):
        open_socket(f"unix:{tmp_path}/s")
    assert os.listdir(tmp_path) == []


def test_a_path_that_may_not_be_created_is_explained():
    """Seen to fail: `Permission denied (EACCES)` alone."""
    (endpoint,) = resolve_endpoints(Address.parse("unix:/run/s"), passive=True)
    assert str(bind.explain(PermissionError(errno.EACCES, ""), endpoint)) == (
        f"unix:/run/s: Permission denied (EACCES); uid {os.geteuid()} may not create it in /run; "
        "use another directory, or chown or chmod this one"
    )


def test_a_directory_that_is_not_there_is_explained(tmp_path):
    with pytest.raises(SystemFault, match=r"ENOENT.*its directory does not exist"):
        open_socket(f"unixgram:{tmp_path}/none/s")
