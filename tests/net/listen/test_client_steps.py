# SPDX-License-Identifier: MIT
"""Steps that look at a client's name, at the clock and the load, and greet: without a daemon.

Seen failing: with a NameStep that asks for everybody; with names that are compared with their case; with a domain that
matches as the end of any text.
"""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.listen.admission import Networks
from sockd.net.listen.client_steps import GreetingStep, NameStep
from sockd.net.listen.pipeline import AcceptedConnection, Passage
from sockd.settings.networks import ClientName, read_client

HOST = "192.0.2.7"


def networks(allow=(), deny=()):
    return Networks([*map(read_client, allow)], [*map(read_client, deny)])


@pytest.mark.parametrize(
    ("allow", "deny", "name", "expected"),
    [
        ([".example.com"], [], "www.example.com", True),
        ([".example.com"], [], "WWW.Example.COM.", True),
        ([".example.com"], [], "example.com", False),
        ([".example.com"], [], "badexample.com", False),
        ([".example.com"], [], "www.example.com.evil.org", False),
        ([".example.com"], [], None, False),
        (["www.example.com"], [], "www.example.com", True),
        (["www.example.com"], [], "ftp.www.example.com", False),
        ([".example.com", "192.0.2.0/24"], [], None, True),
        ([], ["bad.example.com"], "bad.example.com", False),
        ([], ["bad.example.com"], "good.example.com", True),
        ([], ["bad.example.com"], None, True),
        ([".example.com"], ["bad.example.com"], "bad.example.com", False),
        (["192.0.2.7"], [".example.com"], "www.example.com", False),
    ],
)
def test_names_let_in_and_out(allow, deny, name, expected):
    assert networks(allow, deny).admit(HOST, name) == expected


@pytest.mark.parametrize(
    ("allow", "deny", "expected"),
    [
        (["192.0.2.0/24"], [], False),
        ([".example.com"], [], True),
        ([".example.com", "192.0.2.0/24"], [], False),  # let in already
        ([], [".example.com"], True),
        ([".example.com"], ["192.0.2.0/24"], False),  # refused already
        (["192.0.2.0/24"], [".example.com"], True),
    ],
)
def test_a_name_is_looked_up_only_where_it_decides(allow, deny, expected):
    assert networks(allow, deny).asks_name(HOST) == expected


@pytest.mark.parametrize(
    "text", ["www.example.com", ".example.com", "localhost", "_odd.example", "xn--bcher-kva.example"]
)
def test_what_a_name_looks_like(text):
    assert read_client(text) == ClientName(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ALL", "is not a client"),
        ("*.example.com", "is not a network"),
        ("-a.example", "is not a network"),
        ("10.0.0.256", "is not a network"),
        ("..example.com", "is not a network"),
    ],
)
def test_what_is_no_name(text, words):
    with pytest.raises(ValueError, match=words):
        read_client(text)


class Names:
    def __init__(self):
        self.asked = []

    def ask(self, host, answer):
        self.asked.append((host, answer))


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def connection(sock):
    peer = SocketAddress(socket.AF_INET, HOST, 1)
    return AcceptedConnection(sock, peer, peer)


def test_who_waits_for_a_name_is_held_and_goes_on_with_it(pair):
    gone_on, names = [], Names()
    way = SimpleNamespace(places=SimpleNamespace(hold=lambda one: None), advance=gone_on.append)
    step = NameStep(lambda host: host == HOST, names)
    one = connection(pair[0])
    assert step.run(one, way) is Passage.WAIT
    assert len(step) == 1
    names.asked[0][1]("www.example.com")
    names.asked[0][1](None)  # an answer that comes twice
    assert (gone_on, one.name, len(step)) == ([one], "www.example.com", 0)
    other = connection(pair[0])
    step.run(other, way)
    step.close()
    assert (gone_on, other.name, len(step)) == ([one, other], None, 0)


def test_a_greeting_comes_before_all_else(pair):
    assert GreetingStep(b"welcome\n").run(connection(pair[0]), None) is Passage.NEXT
    assert pair[1].recv(100) == b"welcome\n"


def test_a_greeting_that_does_not_fit_is_not_cut(pair):
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with pytest.raises(OSError, match=r"only \d+ bytes|temporarily unavailable"):
        GreetingStep(b"x" * 1_000_000).run(connection(pair[0]), None)
