# SPDX-License-Identifier: MIT
"""A stream of many small records takes turns, and loses nothing.

Seen to fail: without the bound, all of them are read at once.
"""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest

from sockd.net.tls.stream import RECORDS_A_TURN, TlsStream


@pytest.fixture
def ends(certificates):
    """A client, and the stream that reads it; their handshake is done: `client, stream`."""
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


@pytest.mark.parametrize("count", [1, RECORDS_A_TURN - 1, RECORDS_A_TURN, RECORDS_A_TURN + 1, 5 * RECORDS_A_TURN + 3])
def test_records_of_one_byte(ends, count):
    client, stream = ends
    for _ in range(count):
        client.write(b"x")
    room = bytearray(65_536)
    left = count
    while left:
        assert stream.read_into(room, len(room)) == min(left, RECORDS_A_TURN)
        left -= min(left, RECORDS_A_TURN)
        assert stream.has_more == (left > 0)
    assert stream.read_into(room, len(room)) == 0
