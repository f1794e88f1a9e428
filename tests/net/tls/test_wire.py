# SPDX-License-Identifier: MIT
"""A connection whose peer resets it: what the kernel has of it is read, also where sending was what found out.

Seen to fail: with the failure of a send raised, and the rest left in the kernel.
"""

from __future__ import annotations

import socket
import ssl
import sys

import pytest
from watching import RESET, _until

from sockd.net.tls.failures import words
from sockd.net.tls.wire import TlsWire


@pytest.fixture
def wire():
    """A wire without TLS behind it, and its peer: `wire, peer`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
    sock.setblocking(False)
    kept = []

    def begin(incoming, outgoing):
        kept.extend((incoming, outgoing))

    made = TlsWire(sock, begin)
    made.incoming, made.outgoing = kept
    yield made, peer
    sock.close()
    peer.close()


def reset(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.close()


def read_all(wire):
    while not wire.has_ended:
        wire.receive()
    return wire.incoming.read()


def test_all_then_fin(wire):
    made, peer = wire
    assert not made.receive()
    peer.sendall(b"x" * 100_000)
    peer.shutdown(socket.SHUT_WR)
    assert read_all(made) == b"x" * 100_000
    assert made.error is None


@pytest.mark.parametrize("by_sending", [False, True])
def test_all_then_the_reset(wire, by_sending):
    made, peer = wire
    peer.sendall(b"x" * 100_000)
    reset(peer)
    if by_sending:
        made.outgoing.write(b"y" * 100_000)
        made.send()
        assert not made.is_full
        assert isinstance(made.error, ConnectionResetError)
    assert read_all(made) == b"x" * 100_000
    assert isinstance(made.error, ConnectionResetError)
    made.outgoing.write(b"y")
    made.send()  # nowhere
    assert (made.sent, made.outgoing.pending) == (0, 0)


def test_a_failure_to_send_ends_input_that_is_open(wire):
    made, peer = wire
    made.error = OSError(105, "no buffer space")
    peer.sendall(b"x")
    _until(made.receive)
    assert not made.receive()
    assert made.has_ended
    assert made.incoming.read() == b"x"


def test_hooks_are_left_as_they_were(wire, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)

    class Shaking:
        def do_handshake(self):
            hook = sys.unraisablehook
            for kind in (UnicodeDecodeError, KeyError):
                hook(type("Arguments", (), {"exc_type": kind, "object": b""}))
            raise ssl.SSLWantReadError

    made, _ = wire
    made.tls = Shaking()
    assert not made.step()
    assert [one.exc_type for one in seen] == [KeyError]
    assert sys.unraisablehook == seen.append


def test_words():
    assert words(OSError(2, "No such file")) == "No such file"
    assert words(ConnectionAbortedError("ended")) == "ended"
    assert words(MemoryError()) == "MemoryError"
    assert words(UnicodeError("x")) == "x"
    assert words(ssl.SSLError(1, "[SSL: BAD] bad")) == "[SSL: BAD] bad"
