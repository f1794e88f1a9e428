# SPDX-License-Identifier: MIT
# Seen failing against a client that gives the next address no turn before the first has failed (HEAD_START_S of an
# hour), and one that ignores --timeout.
"""FAQ III.5: a non-blocking connect with a deadline; all addresses are raced with a head start (RFC 8305)."""

from __future__ import annotations

import errno
import socket
import subprocess
import time
from contextlib import ExitStack

import pytest

HEAD_START_S = 0.25  # RFC 8305, section 5
SLACK_S = 3  # of a busy host, and of starting a program


@pytest.fixture
def silent():
    """`silent(host, port)` makes an address that answers no SYN: a listener whose queue is full; gives its port."""
    with ExitStack() as stack:

        def make(host, port=0):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = stack.enter_context(socket.socket(family))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
            sock.listen(0)
            stack.enter_context(socket.create_connection(sock.getsockname()[:2]))
            late = stack.enter_context(socket.socket(family))
            late.setblocking(False)
            assert late.connect_ex(sock.getsockname()) == errno.EINPROGRESS
            return sock.getsockname()[1]

        yield make


@pytest.fixture
def timed(sockctl_script):
    def run(*words, prefix=()):
        begin = time.monotonic()
        words = [*prefix, sockctl_script, "connect", *words]
        done = subprocess.run(words, input=b"hello\n", capture_output=True, timeout=30)
        return done, time.monotonic() - begin

    return run


def test_it_ends_at_its_deadline(silent, timed):
    done, took = timed("--timeout", "400ms", f"tcp://127.0.0.1:{silent('127.0.0.1')}")
    assert 0.4 <= took < 0.4 + SLACK_S
    assert done.returncode == 75
    assert b"timed out after 0.4 s" in done.stderr
    assert b"no answer" in done.stderr


def test_a_silent_first_address_costs_a_head_start(daemon, silent, timed):
    """`tcp://:port` is ::1, then 127.0.0.1."""
    one = daemon("tcp://127.0.0.1:0=upper")
    silent("::1", one.port())
    done, took = timed(f"tcp://:{one.port()}")
    assert (done.returncode, done.stdout) == (0, b"HELLO\n")
    assert HEAD_START_S <= took < HEAD_START_S + SLACK_S


def test_of_many_addresses_of_a_name_the_one_that_answers_wins(daemon, silent, timed, etc):
    one = daemon("tcp://127.0.0.24:0=upper")
    for last in (21, 22, 23):
        silent(f"127.0.0.{last}", one.port())
    prefix = etc(hosts="".join(f"127.0.0.{last} many.test\n" for last in (21, 22, 23, 24)))
    done, took = timed(f"tcp://many.test:{one.port()}", prefix=prefix)
    assert (done.returncode, done.stdout) == (0, b"HELLO\n")
    assert 3 * HEAD_START_S <= took < 3 * HEAD_START_S + SLACK_S


def test_a_refusal_makes_way_at_once(daemon, timed, etc):
    one = daemon("tcp://127.0.0.24:0=upper")
    hosts = "".join(f"127.0.3.{last} many.test\n" for last in range(1, 21)) + "127.0.0.24 many.test\n"
    done, took = timed(f"tcp://many.test:{one.port()}", prefix=etc(hosts=hosts))
    assert (done.returncode, done.stdout) == (0, b"HELLO\n")
    assert took < 20 * HEAD_START_S - 1  # twenty head starts would be five seconds
