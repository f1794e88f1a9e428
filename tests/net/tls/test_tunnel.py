# SPDX-License-Identifier: MIT
"""What is carried between a connection and its service's end: all of it, in its order, and how it ended behind it.

Seen to fail: with a carrier that waits until all has left, the peer that takes nothing keeps it for ever; with one that
closes as soon as both sides have ended, or ten seconds after the service has half-closed, what is on its way is lost;
with what was decrypted thrown away at a reset, or behind a record that is not in order, the service gets none of it.
"""

from __future__ import annotations

import errno
import selectors
import socket
import ssl
import threading
import time

import pytest
from encrypted import Encrypted, context_of, unacknowledged

from sockd.net.loop.loop import EventLoop
from sockd.net.tls import tunnel
from sockd.net.tls.socket_pair import Input, pair
from sockd.net.tls.tunnel import TlsTunnel, TunnelState
from sockd.net.tls.wire import TlsWire

TURNS = 2_000
MUCH = 1_000_000
LINGER_SECONDS = 0.1
DATA = b"".join(b"%07d\n" % i for i in range(MUCH // 8))


class Carried:
    """A carrier in a loop.

    Attributes:
        loop: runs by turns.
        near: the service's end.
        client: whose handshake is done.
        lost: errno of the loss of the connection, as its row would be told.
        ended: whether the carrier has.
    """

    def __init__(self, certificates, version) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificates.server.path, certificates.server.key)
        server.num_tickets = 0
        with socket.create_server(("127.0.0.1", 0)) as listener:
            raw = socket.create_connection(listener.getsockname(), timeout=20)
            sock, _ = listener.accept()
        made = []
        context = context_of(certificates.ca, version)
        shaking = threading.Thread(target=lambda: made.append(Encrypted(raw, context)), daemon=True)
        shaking.start()
        self.wire = TlsWire(sock, lambda one, other: server.wrap_bio(one, other, server_side=True))
        while not self.wire.step():
            self.wire.receive()
        shaking.join()
        sock.setblocking(False)
        self.client: Encrypted = made[0]
        self.lost: list[int] = []
        self.ended = False
        self.loop = EventLoop(selectors.DefaultSelector(), time.monotonic)
        self.ends = pair(sock)
        self.near = self.ends.near
        self.near.on_lost = self.lost.append
        self._accepted: list[bytes] = []
        self.carrier = TlsTunnel(self.wire, self.ends, self.loop, self._end)
        self.carrier.start()

    def _end(self) -> None:
        self.ended = True

    def until(self, condition):
        """Run turns until it is so."""
        for _ in range(TURNS):
            if condition():
                return
            self.loop.run_once(0.01)
        raise AssertionError("not so")

    def take(self, size=65_536):
        """Let the service take something, if there is anything; whether it was the end of file."""
        try:
            piece = self.near.recv(size)
        except BlockingIOError:
            return False
        self._accepted.append(piece)
        return not piece

    def to_end(self):
        """All that the service gets."""
        self.until(self.take)
        return b"".join(self._accepted)

    def idle(self, seconds):
        """Let time pass."""
        over = []
        self.loop.call_later(seconds, lambda: over.append(1))
        self.until(lambda: over)

    def close(self) -> None:
        self.client.sock.close()
        self.near.close()
        self.until(lambda: self.ended)
        assert self.carrier not in self.loop.unfinished
        self.loop.close()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def carried(request, certificates, monkeypatch):
    monkeypatch.setattr(tunnel, "LINGER_SECONDS", LINGER_SECONDS)
    made = Carried(certificates, request.param)
    yield made
    made.close()


def in_thread(call, *arguments):
    thread = threading.Thread(target=call, args=arguments, daemon=True)
    thread.start()
    return thread


def write_until_full(carried):
    size, quiet = 0, 0
    while quiet < 20:
        try:
            size += carried.near.send(bytes(65_536))
            quiet = 0
        except BlockingIOError:
            quiet += 1
        carried.loop.run_once(0.01)
    return size


# ---- the peer's end


@pytest.mark.parametrize(("how", "known"), [("notified", Input.ENDED), ("alone", Input.CUT)])
def test_all_that_came_then_the_end_and_what_is_known_of_it(carried, how, known):
    sending = in_thread(lambda: (carried.client.send(DATA), carried.client.end(how)))
    assert carried.to_end() == DATA
    assert carried.near.input is known
    sending.join()
    assert carried.lost == []
    carried.near.sendall(b"an answer")
    carried.near.close()
    carried.until(lambda: carried.ended)
    assert carried.client.to_end() == b"an answer"
    assert carried.client.was_notified


def test_a_reset_comes_behind_all_that_had_come(carried):
    carried.client.send(DATA[:100_000])
    carried.until(lambda: unacknowledged(carried.client.sock) == 0)
    carried.client.end("reset")
    assert carried.to_end() == DATA[:100_000]
    assert (carried.near.input, carried.lost) == (Input.LOST, [errno.ECONNRESET])


def test_a_reset_that_sending_finds_comes_behind_all_that_had_come(carried):
    carried.near.sendall(b"never read")
    carried.client.send(DATA[:60_000])
    carried.client.end("reset")  # before a turn of the loop: the service's word is what finds it
    carried.carrier._far_ready()
    assert carried.to_end() == DATA[:60_000]
    assert (carried.near.input, carried.lost) == (Input.LOST, [errno.ECONNRESET])


def test_a_service_that_takes_its_time_gets_what_came_before_a_reset(carried):
    sent = []

    def send():
        for at in range(0, MUCH, 8_000):
            carried.client.send(DATA[at : at + 8_000])
            sent.append(at + 8_000)
        carried.client.settle()
        carried.client.end("reset")

    sending = in_thread(send)
    carried.until(lambda: carried.carrier._plain)  # the pair is full
    while not carried.take(4_000):
        carried.loop.run_once(0.001)
    sending.join()
    assert b"".join(carried._accepted) == DATA
    assert carried.lost == [errno.ECONNRESET]


def test_what_comes_before_a_record_that_is_not_in_order(carried):
    carried.client.send(b"whole\n")
    carried.client.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert carried.to_end() == b"whole\n"
    assert (carried.near.input, carried.lost) == (Input.LOST, [errno.ECONNRESET])
    with pytest.raises((ssl.SSLError, ConnectionResetError)):  # an alert, if RST does not overtake it
        carried.client.to_end()


@pytest.mark.parametrize("error", [ValueError("not text"), MemoryError(), ssl.SSLError(1, "odd"), UnicodeError("x")])
def test_whatever_a_call_into_ssl_raises_is_the_end_of_that_connection(carried, monkeypatch, error):
    class Broken:
        def read(self, size):
            raise error

    carried.wire.tls = Broken()
    carried.client.send(b"x")
    assert carried.to_end() == b""
    assert carried.lost == [errno.ECONNRESET]


def test_a_descriptor_that_cannot_be_watched(carried, monkeypatch):
    def full(fd, events, callback):
        if events:
            raise OSError(errno.ENOSPC, "no space")

    carried.until(lambda: True)
    monkeypatch.setattr(carried.loop, "watch_fd", full)
    carried.carrier._wire_ready()
    assert carried.ended
    assert carried.lost == [errno.ECONNRESET]


# ---- the service's end


@pytest.mark.parametrize("how", ["notified", "alone"])
def test_a_service_that_half_closes_goes_on_reading(carried, how):
    carried.near.sendall(b"all that is said")
    carried.near.shutdown(socket.SHUT_WR)
    carried.until(lambda: carried.carrier._state is TunnelState.FINISHING)
    assert carried.client.to_end() == b"all that is said"
    carried.idle(3 * LINGER_SECONDS)  # it may go on for hours
    assert not carried.ended
    sending = in_thread(lambda: (carried.client.send(DATA), carried.client.end(how)))
    assert carried.to_end() == DATA
    sending.join()
    carried.until(lambda: carried.ended)


def test_both_have_ended_and_the_service_has_not_taken_all(carried):
    carried.ends.far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    carried.near.shutdown(socket.SHUT_WR)
    carried.until(lambda: carried.carrier._state is TunnelState.FINISHING)
    carried.client.send(DATA[:50_000])
    carried.client.end("notified")
    carried.until(lambda: carried.carrier._input is Input.ENDED)
    assert carried.carrier._plain
    carried.idle(LINGER_SECONDS)
    assert not carried.ended
    assert carried.to_end() == DATA[:50_000]


def test_a_service_that_leaves_something_unread_is_heard_to_its_end(carried):
    carried.client.send(b"half is read")
    carried.until(lambda: carried.take(6) or carried._accepted)
    carried.near.sendall(DATA[:50_000])
    carried.near.close()
    carried.until(lambda: carried.carrier._state is TunnelState.FINISHING)
    assert carried.client.to_end() == DATA[:50_000]
    assert carried.client.was_notified


def test_a_peer_that_takes_nothing_is_let_go_when_the_service_has_ended(carried):
    write_until_full(carried)
    carried.near.close()
    carried.until(lambda: carried.ended)
    with pytest.raises(ConnectionResetError):
        carried.client.to_end()


def test_a_peer_that_takes_its_time_is_waited_for(carried, monkeypatch):
    monkeypatch.setattr(tunnel, "LINGER_SECONDS", 1.0)
    size = write_until_full(carried)
    carried.near.close()
    reads = accepted = 0
    while not carried.ended:
        accepted += len(carried.client.read())
        reads += 1
        carried.idle(0.1 if reads % 40 == 0 else 0)
    assert accepted + len(carried.client.to_end()) == size


def test_a_service_that_gives_up_resets(carried):
    carried.near.send(b"half an answer")
    carried.loop.call_soon(carried.near.abort)
    carried.until(lambda: carried.ended)
    with pytest.raises(ConnectionResetError):
        carried.client.to_end()
