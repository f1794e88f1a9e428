"""Datagrams over UDP and Unix sockets: one is one frame, its ending is put back (FAQ I.3, App. A).

Seen to fail: with the ending left out of `answer_line` the endings are missing; with
DATAGRAMS_A_TURN answered one a turn nothing fails (that is speed); with 1,024 bytes for
MAX_DATAGRAM_BYTES the large ones come back cut.
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

import pytest

LARGEST_UDP4 = 65_507  # RFC 768: 65,535 less the headers of IPv4 and UDP


@pytest.fixture(params=["udp4", "udp6", "unixgram"])
def family(request, has_ipv6):
    if request.param == "udp6" and not has_ipv6:
        pytest.skip("this host has no IPv6")
    return request.param


@pytest.fixture(params=["auto", "epoll", "poll", "select"])
def daemon(request, serve, family, tmp_path):
    """One listener for each service; returns connect(service), a connected datagram socket."""
    text = {"udp4": "udp://127.0.0.1:0", "udp6": "udp://[::1]:0", "unixgram": f"unixgram:{tmp_path}/"}[family]
    services = ["upper", "echo", "discard", "app:act", "app:upper"]
    listens = [f"{text}{i if family == 'unixgram' else ''}={one}" for i, one in enumerate(services)]
    server = serve(*listens, options=["--multiplexer", request.param])
    with ExitStack() as stack:

        def connect(service, bound=True):
            (address,) = [e["address"] for e in server.having("listening", service=service)]
            kind = {"udp4": socket.AF_INET, "udp6": socket.AF_INET6, "unixgram": socket.AF_UNIX}[family]
            sock = stack.enter_context(socket.socket(kind, socket.SOCK_DGRAM))
            sock.settimeout(30)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            if kind == socket.AF_UNIX:
                if bound:
                    sock.bind(f"{tmp_path}/client{sock.fileno()}")
                sock.connect(address.removeprefix("unixgram:"))
            else:
                host, _, port = address.removeprefix("udp://").rpartition(":")
                sock.connect((host.strip("[]"), int(port)))
            return sock

        connect.server = server
        yield connect


def ask(sock, datagram):
    sock.send(datagram)
    return sock.recv(1 << 18)


@pytest.mark.parametrize("service", ["upper", "app:upper"])
def test_the_answer_comes_back_to_its_sender(daemon, service):
    one, other = daemon(service), daemon(service)
    for datagram in (b"hello\n", b"hello\r\n", b"hello", b"", b"\n", b"two\nlines\n", b"a\0\xff", b"\r\n"):
        assert ask(one, datagram) == datagram.upper()
    one.send(b"one")
    other.send(b"other")
    assert (one.recv(100), other.recv(100)) == (b"ONE", b"OTHER")


def test_the_ending_belongs_to_the_datagram_not_to_the_function(daemon):
    sock = daemon("app:act")
    for ending in (b"", b"\n", b"\r\n"):
        assert ask(sock, b"many 1 2" + ending) == b"1\n2" + ending


def test_the_largest_datagram(daemon):
    datagram = random.Random(3).randbytes(LARGEST_UDP4)
    assert ask(daemon("echo"), datagram) == datagram
    assert ask(daemon("app:upper"), datagram) == datagram.upper()


def test_none_and_discard_answer_nothing(daemon):
    act, discard = daemon("app:act"), daemon("discard")
    act.send(b"none")
    discard.send(b"x")
    assert ask(act, b"next") == b"next"
    discard.setblocking(False)
    with pytest.raises(BlockingIOError):
        discard.recv(100)


@pytest.mark.parametrize("verb", [b"boom", b"wrong type", b"number 5", b"close"])
def test_a_failure_is_logged_and_the_next_one_is_served(daemon, verb):
    sock = daemon("app:act")
    sock.send(verb)
    assert ask(sock, b"next") == b"next"
    failed = daemon.server.wait_for("handler failed", service="app:act")
    assert failed["frame_bytes"] == len(verb)


def test_an_answer_that_is_too_large_is_dropped_and_said(daemon, family):
    sock = daemon("app:act")
    size = 65_536 if family != "unixgram" else 16 << 20
    sock.send(b"big %d" % size)
    assert ask(sock, b"next") == b"next"
    assert daemon.server.wait_for("answer dropped")["bytes"] == size


def test_a_sender_without_a_name_is_heard_and_not_answered(daemon, family):
    if family != "unixgram":
        pytest.skip("only a Unix socket can have no name")
    daemon("app:act", bound=False).send(b"said")
    assert ask(daemon("app:act"), b"next") == b"next"


def test_a_datagram_is_never_cut(daemon, family):
    """A Unix datagram may be larger than any of UDP: it is answered whole, or not at all and that is said."""
    if family != "unixgram":
        pytest.skip("UDP has no larger ones")
    sock = daemon("echo")
    sock.send(bytes(100_000))
    sock.send(b"next")
    first = sock.recv(1 << 18)
    if first == b"next":
        daemon.server.wait_for("datagram too long")
    else:
        assert first == bytes(100_000)


def test_a_peer_that_is_gone_stops_nothing(daemon, family):
    """Its ICMP answer, or its closed socket, is not the next one's trouble."""
    for _ in range(3):
        gone = daemon("upper")
        gone.send(b"gone")
        gone.close()
    assert ask(daemon("upper"), b"next") == b"NEXT"


def test_a_thousand_datagrams(daemon):
    sock = daemon("upper")
    for i in range(1000):
        assert ask(sock, b"datagram %d" % i) == b"DATAGRAM %d" % i
