# SPDX-License-Identifier: MIT
"""examples/chat.py with nc, socat and sockctl connect in one room."""

from __future__ import annotations

import pytest
from programs import needs, port_of

pytestmark = [needs("nc", "netcat-openbsd"), needs("socat", "socat")]

NOT_A_NAME = b"Letters and digits, please, up to 20, and a name that nobody here has."


@pytest.fixture
def daemon(serve_example):
    return serve_example("chat:service")


@pytest.fixture
def enter(daemon, talk, sockctl):
    """Come in by a program, under its name."""
    address = daemon.addresses[0]
    clients = {
        "nc": ("nc", "127.0.0.1", port_of(address)),
        "socat": ("socat", "-", f"TCP:127.0.0.1:{port_of(address)}"),
        "sockctl": (sockctl, "connect", address),
    }

    def start(name):
        client = talk(*clients[name])
        client.wait_for(b"Your name?")
        client.say(name.encode())
        return client

    return start


def test_everybody_hears_everybody_else(enter):
    nc = enter("nc")
    nc.wait_for(b"Here: nobody else")
    socat = enter("socat")
    socat.wait_for(b"Here: nc")
    nc.wait_for(b"* socat is here")
    sockctl = enter("sockctl")
    sockctl.wait_for(b"Here: nc, socat")
    everybody = {b"nc": nc, b"socat": socat, b"sockctl": sockctl}
    for name, client in everybody.items():
        client.say(b"hello from " + name)
        for other in everybody.values():
            if other is not client:
                other.wait_for(name + b": hello from " + name)
    assert sockctl.finish() == 0
    nc.wait_for(b"* sockctl has gone")
    socat.process.kill()
    nc.wait_for(b"* socat has gone")
    for name, client in everybody.items():
        assert name + b": hello from " + name not in client.lines


def test_names(enter, daemon):
    enter("nc").wait_for(b"Here: nobody else")
    client = daemon.connect()
    assert client.line() == b"Your name?\n"
    for name in (b"nc", b"", b"a b", b"n" * 21, "ä".encode()):
        assert client.ask(name) == NOT_A_NAME
    assert client.ask(b"other\r") == b"Here: nc"


def test_what_would_drive_a_terminal_is_not_passed_on(enter, daemon):
    nc = enter("nc")
    nc.wait_for(b"Here: nobody else")
    client = daemon.connect()
    client.send(b"ann\n\x1b[2Jhi\n")
    nc.wait_for(b"ann: ?[2Jhi")


def test_who_does_not_read_is_put_out(daemon):
    """Not before it has a few hundred kilobytes to read, and nobody waits for it."""
    deaf = daemon.connect(SO_RCVBUF=4096)
    deaf.send(b"deaf\n")
    assert deaf.lines(2) == [b"Your name?\n", b"Here: nobody else\n"]
    talker, listener = daemon.connect(), daemon.connect()
    talker.send(b"talker\n")
    listener.send(b"listener\n")
    assert listener.lines(2)[0] == b"Your name?\n"
    line = b"x" * 900
    gone = b"* deaf has gone\n"
    said = 0
    while said < 20_000:
        talker.send(line + b"\n")
        said += 1
        if listener.line() == gone:
            break
    assert said * len(line) > 256 * 1024
    assert daemon.end_of(deaf)["reason"] == "limit"
