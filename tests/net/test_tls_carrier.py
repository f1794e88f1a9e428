"""What is carried between a connection and its service's end, where a peer does nothing for it.

Seen to fail: with a carrier that waits until all has left, the peer that takes nothing keeps it for ever.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
import time

import pytest

from sockd.net import tls_carrier
from sockd.net.loop import EventLoop
from sockd.net.tls_pair import pair
from sockd.net.tls_wire import Wire

CUT_OFF = (ConnectionResetError, ssl.SSLEOFError)


@pytest.fixture
def carried(certificates, monkeypatch):
    """A loop, the service's end, and a client whose handshake is done."""
    monkeypatch.setattr(tls_carrier, "LINGER_SECONDS", 0.5)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificates.server.path, certificates.server.key)
    context = ssl.create_default_context(cafile=certificates.ca)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        raw = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
    clients = []
    shaking = threading.Thread(
        target=lambda: clients.append(context.wrap_socket(raw, server_hostname="localhost")), daemon=True
    )
    shaking.start()
    wire = Wire(sock, lambda incoming, outgoing: server.wrap_bio(incoming, outgoing, server_side=True))
    while not wire.step():
        wire.receive()
    shaking.join()
    sock.setblocking(False)
    loop = EventLoop(selectors.DefaultSelector(), time.monotonic)
    ends = pair(sock)
    tls_carrier.Carrier(wire, ends, loop, loop.stop).start()
    clients[0].suppress_ragged_eofs = False
    yield loop, ends.near, clients[0]
    clients[0].close()
    loop.close()


def write_until_full(loop, near):
    sizes = []
    loop.call_later(0.2, loop.stop)
    loop.add_writer(near.fileno(), lambda: sizes.append(near.send(bytes(65536))))
    loop.run()
    loop.remove_reader(near.fileno())
    return sum(sizes)


def size_of_rest(client):
    return sum(map(len, iter(lambda: client.recv(65536), b"")))


def test_a_peer_that_takes_nothing_is_let_go_when_the_service_has_ended(carried):
    loop, near, client = carried
    write_until_full(loop, near)
    near.close()
    late = []
    loop.call_later(10, lambda: (late.append(1), loop.stop()))
    loop.run()
    assert not late
    with pytest.raises(CUT_OFF):
        size_of_rest(client)


def test_a_peer_that_takes_its_time_is_waited_for(carried):
    loop, near, client = carried
    size = write_until_full(loop, near)
    near.close()
    came = []

    def take():
        came.append(len(client.recv(65536)))
        loop.call_later(0.0 if len(came) % 20 else 0.07, take)

    loop.call_later(0, take)
    loop.run()
    assert sum(came) + size_of_rest(client) == size


def test_a_service_that_gives_up_resets(carried):
    loop, near, client = carried
    near.send(b"half an answer")
    loop.call_soon(near.abort)
    loop.run()
    near.close()
    with pytest.raises(CUT_OFF):
        client.recv(100)
