# SPDX-License-Identifier: MIT
"""Datagrams over UDP and Unix sockets: one is one frame, its ending is put back (FAQ I.3, App. A).

Seen to fail: with the ending left out of `answer_line` the endings are missing; with
1,024 bytes for MAX_DATAGRAM_BYTES the large ones are dropped; with recvfrom() in place of
recvmsg() those larger than the limit come back cut.
"""

from __future__ import annotations

import itertools
import random
import socket
from contextlib import ExitStack

import pytest

numbers = itertools.count()
LARGEST_UDP4 = 65_507  # RFC 768: 65,535 less the headers of IPv4 and UDP


@pytest.fixture(params=["udp4", "udp6", "unixgram"])
def family(request, has_ipv6):
    if request.param == "udp6" and not has_ipv6:
        pytest.skip("this host has no IPv6")
    return request.param


@pytest.fixture
def talk(shared, tmp_path):
    """Give a datagram socket connected to a service, and its name as the log prints it."""
    with ExitStack() as stack:

        def connect(service, family, bound=True):
            address, _, sockaddr = sockaddr_of(shared.address(service, family))
            sock = stack.enter_context(socket.socket(address, socket.SOCK_DGRAM))
            sock.settimeout(30)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            if address == socket.AF_UNIX and bound:
                sock.bind(f"{tmp_path}/client{next(numbers)}")
            sock.connect(sockaddr)
            return sock

        yield connect


def sockaddr_of(address):
    scheme, _, rest = address.partition(":")
    if scheme == "unixgram":
        return socket.AF_UNIX, socket.SOCK_DGRAM, rest
    host, _, port = rest.removeprefix("//").rpartition(":")
    return socket.AF_INET6 if "[" in host else socket.AF_INET, socket.SOCK_DGRAM, (host.strip("[]"), int(port))


def name_of(sock):
    """As the log prints it."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unixgram:{name}"
    return f"udp://[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"udp://{name[0]}:{name[1]}"


def ask(sock, datagram):
    sock.send(datagram)
    return sock.recv(1 << 18)


@pytest.mark.parametrize("service", ["upper", "function"])
def test_the_answer_comes_back_to_its_sender(talk, family, service):
    one, other = talk(service, family), talk(service, family)
    for datagram in (b"hello\n", b"hello\r\n", b"hello", b"", b"\n", b"two\nlines\n", b"a\0\xff", b"\r\n"):
        assert ask(one, datagram) == datagram.upper()
    one.send(b"one")
    other.send(b"other")
    assert (one.recv(100), other.recv(100)) == (b"ONE", b"OTHER")


def test_the_ending_belongs_to_the_datagram_not_to_the_function(talk, family):
    sock = talk("act", family)
    for ending in (b"", b"\n", b"\r\n"):
        assert ask(sock, b"many 1 2" + ending) == b"1\n2" + ending


def test_the_largest_datagram(talk, family):
    datagram = random.Random(3).randbytes(LARGEST_UDP4)
    assert ask(talk("echo", family), datagram) == datagram
    assert ask(talk("function", family), datagram) == datagram.upper()


def test_none_and_discard_answer_nothing(talk, family):
    act, discard = talk("act", family), talk("discard", family)
    act.send(b"none")
    discard.send(b"x")
    assert ask(act, b"next") == b"next"
    discard.setblocking(False)
    with pytest.raises(BlockingIOError):
        discard.recv(100)


@pytest.mark.parametrize("verb", [b"boom", b"wrong type"])
def test_a_failure_is_logged_and_the_next_one_is_served(shared, talk, family, verb):
    sock = talk("act", family)
    sock.send(verb)
    assert ask(sock, b"next") == b"next"
    failed = shared.wait_for("handler failed", service="act", peer=name_of(sock))
    assert failed["frame_bytes"] == len(verb)


def test_close_says_its_last_words_and_is_no_failure(shared, talk, family):
    sock = talk("act", family)
    sock.send(b"close")
    assert ask(sock, b"words bye") == b"bye"
    assert ask(sock, b"next") == b"next"
    assert not shared.having("handler failed", service="act", peer=name_of(sock))


def test_an_answer_that_is_too_large_is_dropped_and_said(shared, talk, family):
    sock = talk("act", family)
    size = 65_536 if family != "unixgram" else 16 << 20
    sock.send(b"big %d" % size)
    assert ask(sock, b"next") == b"next"
    assert shared.wait_for("reply dropped", peer=name_of(sock))["bytes"] == size


def test_a_sender_without_a_name_is_heard_and_not_answered(talk):
    talk("act", "unixgram", bound=False).send(b"said")
    assert ask(talk("act", "unixgram"), b"next") == b"next"


def test_a_datagram_is_never_cut(shared, talk):
    """A Unix datagram may be larger than any of UDP: it is dropped, and that is said."""
    sock = talk("echo", "unixgram")
    sock.send(bytes(100_000))
    assert ask(sock, b"next") == b"next"
    assert shared.wait_for("datagram dropped: too long", peer=name_of(sock))["max_bytes"] == 65_507
    assert ask(sock, bytes(65_507)) == bytes(65_507)


def test_a_peer_that_is_gone_stops_nothing(talk, family):
    """Its ICMP answer, or its closed socket, is not the next one's trouble."""
    for _ in range(3):
        gone = talk("upper", family)
        gone.send(b"gone")
        gone.close()
    assert ask(talk("upper", family), b"next") == b"NEXT"


def test_a_thousand_datagrams(talk, family):
    sock = talk("upper", family)
    for i in range(1000):
        assert ask(sock, b"datagram %d" % i) == b"DATAGRAM %d" % i
