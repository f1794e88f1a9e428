# SPDX-License-Identifier: MIT
from __future__ import annotations

import errno
import os
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from sockd.client import connect as module
from sockd.client.connect import connect, look_up
from sockd.errors import PermissionFault, SystemFault, TemporaryFault
from sockd.net.address.address import Address, resolve_endpoints
from sockd.net.connect.happy_eyeballs import BUSY_RETRY_S, HEAD_START_S, HappyEyeballs, interleaved


def endpoints(*hosts, port=7):
    return [e for host in hosts for e in resolve_endpoints(Address.parse(f"tcp://{host}:{port}"), passive=False)]


@pytest.fixture
def resolver(monkeypatch):
    """Make the name many.example mean these addresses."""

    def answer(*hosts):
        def getaddrinfo(host, port, family, kind, proto, flags):
            return [(socket.AF_INET, kind, proto, "", (found, port)) for found in hosts]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return answer


@pytest.fixture
def opened():
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def _nothing_leaks():
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


def listener(opened, host="127.0.0.1", port=0, backlog=5):
    sock = opened.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(backlog)
    return sock


def blackhole(opened, host="127.0.0.1"):
    """Listen with a full accept queue: a further SYN is never answered (FAQ III.3)."""
    sock = listener(opened, host, backlog=0)
    for _ in range(3):
        client = opened.enter_context(socket.socket())
        client.settimeout(0.2)
        try:
            client.connect(sock.getsockname())
        except TimeoutError:
            return sock.getsockname()[1]
    raise AssertionError("the queue never filled")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# The race, with a clock of our own.


def race(*hosts, timeout=10.0):
    return HappyEyeballs(endpoints(*hosts), now=100.0, deadline=100.0 + timeout, timeout=timeout)


def test_the_first_starts_at_once_and_the_next_after_a_head_start():
    assert HEAD_START_S == 0.25  # RFC 8305, section 5
    run = race("127.0.0.1", "127.0.0.2")
    assert str(run.start(100.0)) == "tcp://127.0.0.1:7"
    assert run.start(100.0 + HEAD_START_S - 0.001) is None
    assert run.pause(100.0) == pytest.approx(HEAD_START_S)
    assert str(run.start(100.0 + HEAD_START_S)) == "tcp://127.0.0.2:7"
    assert run.start(105.0) is None
    assert run.pause(101.0) == pytest.approx(9.0)


def test_a_failure_lets_the_next_start_at_once():
    run = race("127.0.0.1", "127.0.0.2")
    first = run.start(100.0)
    run.failed(first, errno.ECONNREFUSED, 100.01)
    assert run.pause(100.01) == 0
    assert str(run.start(100.01)) == "tcp://127.0.0.2:7"


def test_one_that_is_busy_comes_again_a_little_later():
    run = race("127.0.0.1")
    first = run.start(100.0)
    run.busy(first, 100.0)
    assert run.start(100.0) is None
    assert run.pause(100.0) == pytest.approx(BUSY_RETRY_S)
    assert run.start(100.0 + BUSY_RETRY_S) == first


def test_it_is_lost_when_all_failed_or_time_is_up():
    run = race("127.0.0.1", timeout=1)
    assert not run.is_lost(100.0)
    first = run.start(100.0)
    assert not run.is_lost(100.9)
    assert run.is_lost(101.0)
    run.failed(first, errno.ECONNREFUSED, 100.5)
    assert run.is_lost(100.5)
    assert run.pause(100.5) == 0


def test_the_families_alternate_beginning_with_the_resolvers_first():
    found = interleaved(endpoints("[::1]", "[::2]", "[::3]", "127.0.0.1", "127.0.0.2"))
    assert [str(e)[6:-2] for e in found] == ["[::1]", "127.0.0.1", "[::2]", "127.0.0.2", "[::3]"]


def test_each_address_is_named_with_its_reason():
    run = race("127.0.0.1", "127.0.0.2", "127.0.0.3", timeout=2)
    run.failed(run.start(100.0), errno.EHOSTUNREACH, 100.0)
    run.start(100.0)
    fault = run.fault("tcp://many.example:7")
    assert isinstance(fault, TemporaryFault)
    assert str(fault) == (
        "timed out after 2 s: tcp://many.example:7 (tried 127.0.0.1:7: No route to host; "
        "127.0.0.2:7: no answer; 127.0.0.3:7: not reached in time)"
    )


@pytest.mark.parametrize(
    ("codes", "kind", "headline"),
    [
        ([errno.ECONNREFUSED, errno.ECONNREFUSED], TemporaryFault, "connection refused: "),
        ([errno.ECONNREFUSED, errno.ENETUNREACH], TemporaryFault, "cannot connect: "),
        ([errno.EACCES, errno.ECONNREFUSED], TemporaryFault, "cannot connect: "),
        ([errno.EACCES, errno.EPERM], PermissionFault, "cannot connect: "),
    ],
)
def test_the_headline_is_what_all_reasons_have_in_common(codes, kind, headline):
    run = race("127.0.0.1", "127.0.0.2")
    for code in codes:
        run.failed(run.start(100.0), code, 100.0)
    fault = run.fault("tcp://many.example:7")
    assert type(fault) is kind
    assert str(fault).startswith(headline)


# Real sockets.


def test_tcp_connects_and_is_ready_for_use(opened):
    server = listener(opened)
    with connect(Address.parse(f"tcp://127.0.0.1:{server.getsockname()[1]}"), timeout=5) as sock:
        assert sock.getblocking() is False
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getpeername() == server.getsockname()
        assert not os.get_inheritable(sock.fileno())
        server.accept()[0].close()


def test_refused_is_reported_at_once_with_what_was_tried():
    port = free_port()
    began = time.monotonic()
    with pytest.raises(TemporaryFault) as caught:
        connect(Address.parse(f"tcp://127.0.0.1:{port}"), timeout=60)
    assert time.monotonic() - began < 5
    tried = f"(tried 127.0.0.1:{port}: Connection refused)"
    assert str(caught.value) == f"connection refused: tcp://127.0.0.1:{port} {tried}"
    assert caught.value.exit_code == 75


def test_every_address_is_tried(opened, resolver):
    server = listener(opened, "127.0.0.3")
    port = server.getsockname()[1]
    resolver("127.0.0.1", "127.0.0.2", "127.0.0.3")
    with connect(Address.parse(f"tcp://many.example:{port}"), timeout=5) as sock:
        assert sock.getpeername()[0] == "127.0.0.3"
    resolver("127.0.0.1", "127.0.0.2")
    with pytest.raises(TemporaryFault, match=rf"tried 127\.0\.0\.1:{port}: .*; 127\.0\.0\.2:{port}: "):
        connect(Address.parse(f"tcp://many.example:{port}"), timeout=5)


def test_a_blackholed_first_address_costs_a_head_start_and_no_more(opened, resolver):
    port = blackhole(opened, "127.0.0.1")
    listener(opened, "127.0.0.2", port)
    resolver("127.0.0.1", "127.0.0.2")
    began = time.monotonic()
    with connect(Address.parse(f"tcp://many.example:{port}"), timeout=30) as sock:
        took = time.monotonic() - began
        assert sock.getpeername()[0] == "127.0.0.2"
    assert HEAD_START_S <= took < HEAD_START_S + 0.7  # a SYN is repeated after 1 s


def test_a_lone_blackhole_ends_at_the_deadline(opened):
    port = blackhole(opened)
    began = time.monotonic()
    with pytest.raises(TemporaryFault, match=rf"^timed out after 0\.3 s: .*127\.0\.0\.1:{port}: no answer"):
        connect(Address.parse(f"tcp://127.0.0.1:{port}"), timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 5


def test_a_connection_to_itself_is_a_refusal(monkeypatch):
    """Simultaneous open: a client whose own port happens to be the one it calls."""
    honest = module.new_socket

    def bound_to_the_target(endpoint, source):
        sock = honest(endpoint)
        sock.bind(endpoint.sockaddr)
        return sock

    monkeypatch.setattr(module, "new_socket", bound_to_the_target)
    with pytest.raises(TemporaryFault, match="Connection refused"):
        connect(Address.parse(f"tcp://127.0.0.1:{free_port()}"), timeout=5)


def test_udp_is_connected_to_the_first_address(opened):
    server = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind(("127.0.0.1", 0))
    with connect(Address.parse(f"udp://127.0.0.1:{server.getsockname()[1]}"), timeout=5) as sock:
        sock.send(b"x")
        assert server.recvfrom(9) == (b"x", sock.getsockname())


def test_unixgram_has_an_address_that_can_be_answered(opened, tmp_path):
    server = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    server.bind(f"{tmp_path}/s")
    with connect(Address.parse(f"unixgram:{tmp_path}/s"), timeout=5) as sock:
        sock.send(b"x")
        _, client = server.recvfrom(9)
        server.sendto(b"y", client)
        assert sock.recv(9) == b"y"


@pytest.mark.parametrize("scheme", ["unix", "unixgram"])
def test_a_path_where_nobody_listens(tmp_path, scheme):
    kind = socket.SOCK_STREAM if scheme == "unix" else socket.SOCK_DGRAM
    began = time.monotonic()
    with pytest.raises(TemporaryFault, match=rf"^cannot connect: {scheme}:{tmp_path}/s \(tried {tmp_path}/s: No such"):
        connect(Address.parse(f"{scheme}:{tmp_path}/s"), timeout=5)
    with socket.socket(socket.AF_UNIX, kind) as stale:
        stale.bind(f"{tmp_path}/s")
    with pytest.raises(TemporaryFault, match=rf"^connection refused: {scheme}:{tmp_path}/s \(tried "):
        connect(Address.parse(f"{scheme}:{tmp_path}/s"), timeout=5)
    assert time.monotonic() - began < 5


def test_a_full_unix_backlog_is_waited_for(opened, tmp_path):
    server = opened.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(f"{tmp_path}/s")
    server.listen(0)
    opened.enter_context(socket.socket(socket.AF_UNIX)).connect(f"{tmp_path}/s")
    address = Address.parse(f"unix:{tmp_path}/s")
    with pytest.raises(TemporaryFault, match=r"^timed out after 0\.2 s"):
        connect(address, timeout=0.2)
    found = []
    caller = threading.Thread(target=lambda: found.append(connect(address, timeout=30)))
    caller.start()
    for _ in range(2):
        server.accept()[0].close()
    caller.join()
    found[0].close()


def test_a_resolver_that_hangs_is_within_the_deadline(monkeypatch):
    released = threading.Event()

    def hang(*_):
        released.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = time.monotonic()
    with pytest.raises(TemporaryFault, match=r"^timed out after 0\.1 s: tcp://slow\.example:7 .*'slow\.example'"):
        connect(Address.parse("tcp://slow.example:7"), timeout=0.1)
    assert time.monotonic() - began < 5
    released.set()
    for thread in threading.enumerate():
        if thread.name == "look-up":
            thread.join()


def test_an_unknown_host_is_a_system_fault_in_the_resolvers_words(monkeypatch):
    def refuse(*_):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(SystemFault, match=r"host 'no\.example': Name or service not known"):
        connect(Address.parse("tcp://no.example:7"), timeout=5)


def test_two_names_at_once_have_two_answers(monkeypatch):
    """FAQ III.4: a resolver's answer is a value."""
    both = threading.Barrier(2)

    def getaddrinfo(host, port, family, kind, proto, flags):
        both.wait(30)
        return [(socket.AF_INET, kind, proto, "", (host.replace("h", "127.0.0."), port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    found = {}

    def ask(name):
        found[name] = str(look_up(Address.parse(f"tcp://{name}:7"), timeout=30)[0])

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("h1", "h2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"h1": "tcp://127.0.0.1:7", "h2": "tcp://127.0.0.2:7"}
