# SPDX-License-Identifier: MIT
"""What get_extra_info() answers of a connection whose peer has begun another handshake.

Seen to fail with the ValueError of ssl let through: the connection's end was counted as a defect of sockd.
"""

from __future__ import annotations

import ssl
from types import SimpleNamespace

import pytest

import sockd
from sockd import testing
from sockd.net.connection.extra_info import extra_info


def test_there_is_no_certificate_while_a_handshake_is_not_done():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    near = SimpleNamespace(ssl_object=context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True))
    connections = SimpleNamespace(tls=SimpleNamespace(find=lambda id: near))
    connection = SimpleNamespace(id=0)
    assert extra_info(connection, connections, "peercert") is None
    assert extra_info(connection, connections, "ssl_object") is near.ssl_object


KEPT = []


def closing(line, connection):
    sock = connection.socket
    KEPT.append(sock)
    for close in (sock.close, sock.detach, lambda: sock.__exit__(None, None, None)):
        with pytest.raises(RuntimeError, match=r"belongs to its connection: call connection\.close\(\)"):
            close()
    return b"%d" % (sock.fileno() >= 0)


class Closing(sockd.LineProtocol):
    def line_received(self, line):
        self.send_line(closing(line, self.transport))


@pytest.mark.parametrize("handler", [closing, Closing])
def test_a_handler_cannot_close_the_descriptor_of_a_connection(handler):
    """Seen to fail: its number is the next client's, and the table has it twice."""
    with testing.connect(handler) as peer:
        for _ in range(2):
            peer.send(b"line\n")
            assert peer.received() == b"1\n"
    assert KEPT.pop().fileno() == -1


def test_a_timer_of_a_handler_that_is_never_due_or_at_no_time():
    """Seen to fail: the wait ended the loop, and with it the daemon; no timer was called any more."""

    def later(line, connection):
        connection.call_later(float(line), connection.write, b"late\n")
        return b"done"

    with testing.connect(later) as peer:
        for line in (b"inf\n", b"1e300\n", b"0\n"):
            peer.send(line)
        assert peer.received() == b"done\n" * 3 + b"late\n"
        peer.send(b"nan\n")
        assert peer.close_reason is sockd.CloseReason.HANDLER_ERROR
