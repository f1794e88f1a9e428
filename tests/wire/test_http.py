# SPDX-License-Identifier: MIT
"""Heads of HTTP requests, right and wrong, and which names are this machine's.

Seen failing with the pattern of fields that the pages had before, whose time grew with the square of the blanks, and
with lines and fields of any number.
"""

from __future__ import annotations

import itertools
import random

import pytest
from effort import MOST_GROWTH, seconds, steps

from sockd.wire.http import RequestError, is_loopback, names_this_machine, parse

GOOD = {  # head: (method, path, minor, host)
    b"GET / HTTP/1.1\r\nHost: x\r\n": ("GET", "/", 1, "x"),
    b"GET /a?b=/c HTTP/1.1\nHost: X:80\n": ("GET", "/a", 1, "x"),
    b"GET / HTTP/1.0\r\n": ("GET", "/", 0, ""),
    b"GET / HTTP/1.9\r\nHost:\r\n": ("GET", "/", 9, ""),
    b"HEAD /? HTTP/1.1\r\nhOST:\t127.0.0.1:9700 \r\n": ("HEAD", "/", 1, "127.0.0.1"),
    b"GET / HTTP/1.1\r\nHost: [::1]:9700\r\n": ("GET", "/", 1, "[::1]"),
    b"GET http://x.example/a?b HTTP/1.1\r\nHost: y\r\n": ("GET", "/a", 1, "x.example"),
    b"GET HTTPS://x.example:443 HTTP/1.1\r\nHost:\r\n": ("GET", "/", 1, "x.example"),
    b"GET http://x?q HTTP/1.0\r\n": ("GET", "/", 0, "x"),
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n": ("OPTIONS", "", 1, "x"),
    b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n": ("CONNECT", "", 1, "x"),
    b"m!#$%&'*+.^_`|~-9 / HTTP/1.1\r\nHost: x\r\n": ("m!#$%&'*+.^_`|~-9", "/", 1, "x"),
    b"GET / HTTP/1.1\r\nHost: x\r\nA:\r\nA:\xe4  \t\xff\r\n": ("GET", "/", 1, "x"),
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 99: ("GET", "/", 1, "x"),
    b"GET /" + b"a" * (8192 - 14) + b" HTTP/1.1\r\nHost: x\r\n": ("GET", "/" + "a" * (8192 - 14), 1, "x"),
    b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * (8192 - 3) + b"\r\n": ("GET", "/", 1, "x"),
}
HOST = b"Host: x\r\n"
BAD = {
    b"": 400,
    b"\r\n": 400,
    b"GET /\r\n": 400,
    b"GET  / HTTP/1.1\r\n" + HOST: 400,
    b"GET / HTTP/1.1 \r\n" + HOST: 400,
    b" GET / HTTP/1.1\r\n" + HOST: 400,
    b"GET\t/\tHTTP/1.1\r\n" + HOST: 400,
    b"GET / a HTTP/1.1\r\n" + HOST: 400,
    b"G:T / HTTP/1.1\r\n" + HOST: 400,
    b"GET /\xe4 HTTP/1.1\r\n" + HOST: 400,
    b"GET /\0 HTTP/1.1\r\n" + HOST: 400,
    b"GET / http/1.1\r\n" + HOST: 400,
    b"GET / HTTP/1.11\r\n" + HOST: 400,
    b"GET / HTTP/2.0\r\n" + HOST: 505,
    b"PRI * HTTP/2.0\r\n": 505,
    b"GET / HTTP/0.9\r\n": 505,
    b"GET / HTTP/1.1\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + HOST: 400,
    b"GET / HTTP/1.0\r\n" + HOST + HOST: 400,
    b"GET http://x/ HTTP/1.1\r\n": 400,
    b"GET http:/// HTTP/1.1\r\n" + HOST: 400,
    b"GET http://user@x/ HTTP/1.1\r\n" + HOST: 400,
    b"GET / HTTP/1.1\r\nHost: x y\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: x/y\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: x:y\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: ::1\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: [::1\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: x, y\r\n": 400,
    b"GET / HTTP/1.1\r\nHost : x\r\n": 400,
    b"GET / HTTP/1.1\r\n Host: x\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n\tc\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"A\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b": b\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"A b: c\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"A: b\rc\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"A: \0\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"A: \x7f\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 100: 431,
    b"GET / HTTP/1.1\r\n" + HOST + b"A:" + b" " * 8191 + b"\r\n": 431,
    b"GET /" + b"a" * (8193 - 14) + b" HTTP/1.1\r\n" + HOST: 414,
}


@pytest.mark.parametrize("head", GOOD, ids=lambda head: repr(head[:60]))
def test_good(head):
    request = parse(head)
    assert (request.method, request.path, request.minor, request.host) == GOOD[head]


@pytest.mark.parametrize("head", BAD, ids=lambda head: repr(head[:60]))
def test_bad(head):
    with pytest.raises(RequestError) as raised:
        parse(head)
    assert raised.value.status == BAD[head]


def test_fields():
    request = parse(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Keep-Alive, \tFoo\r\nconnection:close\r\nA: b, c \r\n")
    assert request.words("connection") == {"keep-alive", "foo", "close"}
    assert request.values("a") == ["b, c"]
    assert request.values("b") == []


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True), ("localhost.", True), ("x.localhost", True), ("127.0.0.1", True), ("127.9.9.9", True),
        ("[::1]", True), ("[::ffff:127.0.0.1]", True), ("", True), ("box", True), ("box.example.org", True),
        ("box.example.org.", True), ("example.org", False), ("box.example.com", False), ("evil.example", False),
        ("localhost.evil.example", False), ("127.0.0.1.evil.example", False), ("192.0.2.1", False),
        ("[2001:db8::1]", False), ("0.0.0.0", False), ("127.1", False), ("sockd", True), ("evil.", False),
    ],
)  # fmt: skip
def test_names_of_this_machine(host, is_ours):
    assert names_this_machine(host, "Box.example.org") is is_ours


def test_addresses_of_loopback():
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("::ffff:127.0.0.1")
    assert not is_loopback("192.0.2.1")
    assert not is_loopback("/run/sockd.sock")


@pytest.mark.parametrize(
    "make",
    [
        lambda n: b"GET / HTTP/1.1\r\nHost: x\r\nA:" + b" " * n + b"b\r\n",
        lambda n: b"GET / HTTP/1.1\r\nHost: x\r\nA: b" + b"\t " * (n // 2) + b"b\r\n",
        lambda n: b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * (n // 6),
        lambda n: b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * n + b"\r\n",
        lambda n: b"GET " + b"/" * n + b" HTTP/1.1\r\nHost: x\r\n",
        lambda n: b"GET http://" + b"a" * n + b" HTTP/1.1\r\nHost: x\r\n",
        lambda n: b"GET / HTTP/1.1\r\nHost: " + b"a:" * (n // 2) + b"\r\n",
        lambda n: b"GET" + b" " * n + b"/ HTTP/1.1\r\nHost: x\r\n",
    ],
    ids=["blanks", "blanks inside", "fields", "a field", "target", "absolute", "host", "blanks before the target"],
)
def test_twice_the_head_is_no_more_than_twice_the_work(make):
    """In lines of Python, and in time where what takes it is in C; a millisecond more or less says nothing."""
    heads = [make(size) for size in (4000, 8000, 16000, 32000, 64000)]
    counts = [steps(parse, head) for head in heads]
    assert all(more <= MOST_GROWTH * fewer for fewer, more in itertools.pairwise(counts)), counts
    times = [seconds(_parse, head) for head in heads]
    assert all(more <= MOST_GROWTH * max(fewer, 0.001) for fewer, more in itertools.pairwise(times)), times


def _parse(head):
    try:
        parse(head)
    except RequestError:
        return


def test_bytes_at_random_raise_nothing_else():
    dice = random.Random(7)
    seeds = [*GOOD, *BAD]
    for _ in range(20_000):
        head = bytearray(dice.choice(seeds))
        for _ in range(dice.randrange(4)):
            at = dice.randrange(len(head) + 1)
            how = dice.randrange(3)
            if how == 0 and at < len(head):
                head[at] = dice.randrange(256)
            elif how == 1:
                del head[at : at + dice.randrange(4)]
            else:
                head[at:at] = dice.choice(seeds)[: dice.randrange(20)]
        _parse(bytes(head))
