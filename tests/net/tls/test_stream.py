# SPDX-License-Identifier: MIT
"""A stream of many small records takes turns, and loses nothing; what has failed leaves nothing behind.

Seen to fail: without the bound, all records are read at once; with the traceback of its failure, a stream or a wire
stays until the collector comes, and OpenSSL's memory with it.
"""

from __future__ import annotations

import gc
import socket
import ssl
import weakref
from contextlib import suppress

import pytest
from watching import RESET

from sockd.net.tls.stream import RECORDS_A_TURN, TlsStream
from sockd.net.tls.wire import TlsWire


@pytest.fixture
def shaken(certificates):
    """Make a client, and the stream that reads it; their handshake is done: `client, stream`."""

    def make():
        own = certificates.server
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(own.path, own.key)
        server.num_tickets = 0
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        accepted = server.wrap_bio(to_server, to_client, server_side=True)
        context = ssl.create_default_context(cafile=certificates.ca)
        client = context.wrap_bio(to_client, to_server, server_hostname="localhost")
        for one in (client, accepted, client, accepted):
            with suppress(ssl.SSLWantReadError):
                one.do_handshake()
        return client, TlsStream(accepted, to_server, to_client)

    return make


@pytest.fixture
def no_collector():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("count", [1, RECORDS_A_TURN - 1, RECORDS_A_TURN, RECORDS_A_TURN + 1, 5 * RECORDS_A_TURN + 3])
def test_records_of_one_byte(shaken, count):
    client, stream = shaken()
    for _ in range(count):
        client.write(b"x")
    room = bytearray(65_536)
    left = count
    while left:
        assert stream.read_into(room, len(room)) == min(left, RECORDS_A_TURN)
        left -= min(left, RECORDS_A_TURN)
        assert stream.has_more == (left > 0)
    assert stream.read_into(room, len(room)) == 0


def test_a_wrong_record_keeps_nothing(shaken, no_collector):
    _, stream = shaken()
    kept = weakref.ref(stream.ssl_object)
    stream.receive(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert stream.read_into(bytearray(100), 100) == 0
    assert isinstance(stream.failure, ssl.SSLError)
    assert stream.has_output  # the alert
    del stream
    assert kept() is None


def test_a_reset_keeps_nothing(no_collector):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
    with sock:
        wire = TlsWire(sock, lambda incoming, outgoing: None)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()
        while not wire.has_ended:
            wire.receive()
        assert isinstance(wire.error, ConnectionResetError)
        kept = weakref.ref(wire)
        del wire
        assert kept() is None
