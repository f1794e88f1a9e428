# SPDX-License-Identifier: MIT
"""What a handler does while the handshake of its STARTTLS goes on: output waits within bounds, and an end is one.

Seen to fail: without the pause, 1,000 pieces are held; with `secured` called in any case, it is called behind close();
with write_eof() looked at before start_tls(), the connection stays paused for ever.
"""

from __future__ import annotations

import pytest

import sockd
from sockd import testing
from sockd.testing.facts import PlainStream

PIECE = b"x" * 65_536


class Handshakes:
    """Those of a listener; each is done when the test says so."""

    def start(self, sock, peer, done):
        self.socket, self._done = sock, done

    def cancel(self, sock):
        sock.close()

    def stream(self):
        return PlainStream(testing.Tls())

    def finish(self):
        self._done(self)


class Speaker(sockd.LineProtocol):
    """A handler that writes until it is told to pause, and keeps what it is told."""

    def __init__(self):
        self.told = []
        self.is_paused = False

    def connection_made(self, transport):
        self.transport = transport
        self.told.append(self)

    def line_received(self, line):
        self.transport.start_tls(lambda: self.told.append("secured"))
        if line == b"end":
            self.transport.write_eof()

    def speak(self, most=1000):
        count = 0
        while count < most and not self.is_paused:
            self.transport.write(PIECE)
            count += 1
        return count

    def pause_writing(self):
        self.is_paused = True
        self.told.append("pause")

    def resume_writing(self):
        self.is_paused = False
        self.told.append("resume")

    def connection_lost(self, exc):
        self.told.append("lost")


@pytest.fixture
def shaking():
    """A connection whose handshake has begun, by a word: `peer, handler, handshakes`."""
    opened = []

    def begin(word=b"tls"):
        made = []

        class Known(Speaker):
            def __init__(self):
                super().__init__()
                made.append(self)

        peer = testing.connect(Known, starttls=testing.Tls())
        opened.append(peer)
        handshakes = Handshakes()
        peer._stage.connections.tls.offer(peer._stage._group, handshakes)
        peer.send(word + b"\n")
        del made[0].told[:]
        return peer, made[0], handshakes

    yield begin
    for peer in opened:
        peer.close()


@pytest.mark.parametrize("count", [0, 1])
def test_output_that_waits_is_bounded(shaking, count):
    """Of `count` times more than high water the handler hears once, and again when it has left."""
    peer, handler, handshakes = shaking()
    written = handler.speak(1000 if count else 1)
    assert written == 1 + count
    assert handler.told == ["pause"] * count
    assert peer.received() == b""
    handshakes.finish()
    peer._run_until_idle()
    assert peer.received() == PIECE * written
    assert handler.told == ["pause"] * count + ["secured"] + ["resume"] * count


def test_more_than_the_kernel_takes(shaking):
    peer, handler, handshakes = shaking()
    for _ in range(200):
        handler.transport.write(PIECE)
    handshakes.finish()
    peer._run_until_idle()
    assert len(peer.received()) == 200 * len(PIECE)
    assert handler.told == ["pause", "secured", "resume"]


def test_nothing_is_told_behind_close(shaking):
    peer, handler, handshakes = shaking()
    handler.transport.close()
    handshakes.finish()
    peer._run_until_idle()
    assert handler.told == ["lost"]
    assert peer.ended


def test_the_end_of_output_comes_encrypted(shaking):
    peer, handler, handshakes = shaking(b"end")
    assert not peer.ended
    handshakes.finish()
    peer._run_until_idle()
    assert (peer.ended, handler.told) == (True, ["secured"])
    peer.end()
    assert handler.told == ["secured", "lost"]


def test_an_abort_closes_the_second_descriptor(shaking):
    peer, handler, handshakes = shaking()
    handler.transport.abort()
    peer._run_until_idle()
    assert handshakes.socket.fileno() == -1
    assert handler.told == ["lost"]
