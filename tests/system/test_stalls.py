# SPDX-License-Identifier: MIT
"""A daemon that was held up, by a handler of its own or by being stopped: what peers sent in time is in time.

Seen to fail: without the question to the kernel (csrc/set_late.c) and the turns behind a stall, clients whose lines
wait are ended with idle-timeout or frame-timeout; with the turn's clock a large reply is a write-stall at once.
"""

from __future__ import annotations

import signal
import ssl
import time
from contextlib import ExitStack

import pytest

APP = """
import time

def slow(line):
    if line == b"sleep":
        time.sleep(1.5)
    if line == b"large":
        time.sleep(1.5)
        return b"x" * 20_000_000
    return line.upper()
"""
STALL_S = 1.5  # longer than each deadline below


@pytest.fixture(params=["auto", "poll"])
def house(daemon, certificates, request):
    """A daemon with deadlines of a second: over TCP, and TLS."""
    own = certificates.server
    return daemon(
        multiplexer=request.param,
        toml=f"""
        [[listen]]
        address = "tcp://127.0.0.1:0"
        service = "plain"
        [[listen]]
        address = "tcp://127.0.0.1:0"
        service = "secured"
        tls = {{ certificate = "{own.path}", key = "{own.key}" }}
        [service.plain]
        handler = "app:slow"
        idle_timeout = "1s"
        frame_timeout = "1s"
        write_timeout = "1s"
        [service.secured]
        handler = "app:slow"
        idle_timeout = "1s"
        frame_timeout = "1s"
        """,
        app=APP,
    )


def connect(house, number, certificates, stack):
    sock = house.connect(number)
    if number == 1:
        context = ssl.create_default_context(cafile=certificates.ca)
        sock = stack.enter_context(context.wrap_socket(sock, server_hostname="localhost"))
    return sock


def user_line(sock):
    accepted = b""
    while not accepted.endswith(b"\n"):
        piece = sock.recv(1)
        assert piece, accepted
        accepted += piece
    return accepted


def hold_up(house, how, sock):
    """Keep the daemon from its work for longer than the deadlines."""
    if how == "handler":
        sock.sendall(b"sleep\n")
        return lambda: user_line(sock)
    house.process.send_signal(signal.SIGSTOP)
    return lambda: (time.sleep(STALL_S), house.process.send_signal(signal.SIGCONT))


@pytest.mark.parametrize("number", [0, 1], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["handler", "stopped"])
def test_what_came_meanwhile_is_answered(house, certificates, how, number):
    with ExitStack() as stack:
        idle, part, silent, busy = (connect(house, number, certificates, stack) for _ in range(4))
        for sock in (idle, part, silent, busy):
            sock.sendall(b"hello\n")
            assert user_line(sock) == b"HELLO\n"
        part.sendall(b"wor")
        go_on = hold_up(house, how, busy)
        idle.sendall(b"idle\n")
        part.sendall(b"ld\n")
        go_on()
        assert user_line(idle) == b"IDLE\n"
        assert user_line(part) == b"WORLD\n"
        assert silent.recv(10) == b""  # who was silent goes, and at once
        house.wait_for("closed", reason="idle-timeout")


def test_a_reply_is_timed_from_when_it_is_written(house, certificates):
    with ExitStack() as stack:
        sock = connect(house, 0, certificates, stack)
        sock.sendall(b"large\n")
        accepted = sock.recv(1)
        time.sleep(0.5)  # it does not read, for half of write_timeout
        while not accepted.endswith(b"\n"):
            piece = sock.recv(1 << 20)
            assert piece, len(accepted)
            accepted += piece
        assert len(accepted) == 20_000_001
