# SPDX-License-Identifier: MIT
# Seen failing against an Admission that never releases, a bucket that never fills and one that those who are turned
# away make emptier, a judge that lets denied ones in, a Listener that resets where it should refuse, and one whose
# refusals may take all the room.
"""Limits for a source: who is past them is told as `at_limit` says, others are not touched, and it always recovers."""

from __future__ import annotations

import contextlib
import time

import pytest

TOML = """
[daemon]
max_connections = 200
[[listen]]
address = "tcp://127.0.0.1:0"
service = "upper"
{rules}
"""
BAD, GOOD = "127.0.0.66", "127.0.0.7"


def told(at_limit, banner):
    """The rules that say how who is past a limit is told; a reset has no banner."""
    return f'at_limit = "{at_limit}"' + ("" if at_limit == "reset" else f'\nbanner = "{banner}"')


def is_let_in(visit, name, source):
    """Whether a fresh connection of that source is answered; else what it got in place of an answer."""
    try:
        with visit(name, source) as sock:
            sock.sendall(b"hello\n")
            answer = sock.recv(100)
    except OSError as error:
        return type(error)
    return answer == b"HELLO\n" or answer


def ask(sock):
    sock.sendall(b"hello\n")
    assert sock.recv(100) == b"HELLO\n"


@pytest.mark.parametrize("at_limit", ["defer", "refuse", "reset"])
def test_a_source_past_its_limit(daemon, visit, until, at_limit):
    rules = f"max_connections_per_source = 5\n{told(at_limit, '421 too many')}"
    one = daemon(toml=TOML.format(rules=rules))
    name = one.sockaddr()[2]
    held = [visit(name, BAD) for _ in range(5)]
    for sock in held:
        ask(sock)
    for _ in range(20):
        expected = ConnectionResetError if at_limit == "reset" else b"421 too many\n"
        assert is_let_in(visit, name, BAD) == expected
        assert is_let_in(visit, name, GOOD) is True
    for sock in held:
        ask(sock)
    for sock in held:
        sock.close()
    until(lambda: is_let_in(visit, name, BAD) is True)
    assert len(one.logged("refused")) <= 2  # one line in five seconds


@pytest.mark.parametrize("at_limit", ["defer", "refuse", "reset"])
def test_a_full_listener(daemon, visit, nothing_comes, until, at_limit):
    rules = f"max_connections = 10\n{told(at_limit, '421 full')}"
    one = daemon(toml=TOML.format(rules=rules))
    name = one.sockaddr()[2]
    held = [visit(name) for _ in range(10)]
    for sock in held:
        ask(sock)
    if at_limit == "defer":
        more = visit(name)
        more.sendall(b"hello\n")
        nothing_comes(more, 0.3)
        held.pop().close()
        assert more.recv(100) == b"HELLO\n"
        more.close()
    else:
        expected = ConnectionResetError if at_limit == "reset" else b"421 full\n"
        assert is_let_in(visit, name, "") == expected
        held.pop().close()
        until(lambda: is_let_in(visit, name, "") is True)
    for sock in held:
        sock.close()
    until(lambda: is_let_in(visit, name, "") is True)


def test_the_rate_of_a_source_always_recovers(daemon, visit, until, soak, figure):
    """However long it went on too fast: a bucket that is empty is not made emptier by those who are turned away."""
    rules = 'rate = { connections = 10, per = "1s", burst = 5 }\nat_limit = "reset"'
    one = daemon(toml=TOML.format(rules=rules))
    name = one.sockaddr()[2]
    seconds = 20 if soak else 1
    start, let_in, tried = time.monotonic(), 0, 0
    while (took := time.monotonic() - start) < seconds:
        let_in += is_let_in(visit, name, BAD) is True
        tried += 1
        if tried % 10 == 0:
            assert is_let_in(visit, name, f"127.1.{tried // 2560}.{tried // 10 % 256}") is True  # one of its own
    figure(f"{tried} tries in {took:.1f} s, 10 a second allowed", f"{let_in} let in")
    assert tried > 2 * let_in
    assert 5 <= let_in <= 5 + 10 * took + 1
    until(lambda: is_let_in(visit, name, BAD) is True, within=1)


def test_allow_and_deny(daemon, visit):
    rules = 'allow = ["127.0.0.0/28", "127.0.0.66"]\ndeny = ["127.0.0.7", "127.0.0.8/30"]\nat_limit = "reset"'
    one = daemon(toml=TOML.format(rules=rules))
    name = one.sockaddr()[2]
    for source, expected in {
        "127.0.0.1": True,
        "127.0.0.6": True,
        "127.0.0.7": False,
        "127.0.0.8": False,
        "127.0.0.11": False,
        "127.0.0.12": True,
        "127.0.0.16": False,
        "127.0.0.66": True,
        "127.0.1.1": False,
    }.items():
        assert (is_let_in(visit, name, source) is True) == expected, source


@pytest.mark.parametrize("at_limit", ["refuse", "reset"])
def test_a_source_that_is_refused_all_the_time_keeps_nobody_out(daemon, visit, at_limit, figure):
    """Those that are being told so take up room too: it must not be all of it (200 connections here)."""
    rules = f"max_connections_per_source = 5\n{told(at_limit, '421 too many')}"
    one = daemon(toml=TOML.format(rules=rules))
    name = one.sockaddr()[2]
    kept, longest = [], 0.0
    for number in range(600):
        with contextlib.suppress(ConnectionResetError):  # at once, where that is asked for
            kept.append(visit(name, BAD))
        if number % 50 == 49:
            start = time.monotonic()
            assert is_let_in(visit, name, GOOD) is True
            longest = max(longest, time.monotonic() - start)
    figure(f"600 refused ({at_limit})", f"the other's answer after {longest * 1000:.0f} ms at most")
    for sock in kept:
        sock.close()
    assert longest < 0.5
