# SPDX-License-Identifier: MIT
"""A peer for a handler's own tests, and crowds of them: the real framing, buffers and connection, without an address.

    from sockd import testing

    def test_greet():
        with testing.connect(app.greet) as peer:
            peer.send(b"wor")
            assert peer.received() == b""
            peer.send(b"ld\\n")
            assert peer.received() == b"hello world\\n"

    def test_greet_in_a_crowd():
        for seed in range(100):
            testing.simulate(app.greet, seed, [b"a\\nb\\n", b"c\\n"])

Everything happens within the calls of the test, in its thread: after `send` returns, the handler has answered what it
could.  Between the two sides is a socket pair: a `connection.peer` is `unix:` unless a client's address is given.
"""

from sockd.testing.datagrams import DatagramClient, datagrams
from sockd.testing.facts import Tls
from sockd.testing.peer import Peer, answer, connect
from sockd.testing.simulation import Failure, simulate

__all__ = ["DatagramClient", "Failure", "Peer", "Tls", "answer", "connect", "datagrams", "simulate"]
