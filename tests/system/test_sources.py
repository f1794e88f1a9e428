# SPDX-License-Identifier: MIT
"""A limit for each source where none is set: 50 connections, none for this host; IPv6 by /64; told and counted.

Seen to fail: without a default, five of these; with IPv6 counted by address, with this host counted, and with counts
that a reload forgets, the one of that name each.
"""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack, suppress
from http.client import HTTPConnection

import pytest
from networks import OTHERS, OTHERS6, SERVER, SERVER6

MOST = 50
BAD, GOOD = OTHERS[:2]
PLAIN = '[[listen]]\naddress = "tcp://192.0.2.1:0"\nservice = "upper"\n'
EACH = PLAIN + "names = true\n"  # which are looked at one by one
SOCKS = '[[listen]]\naddress = "tcp://192.0.2.1:0"\nservice = "proxy"\n[service.proxy.socks]\nallow = ["own"]\n'


def port_of(address):
    return int(address.rpartition(":")[2])


class Visitors:
    """Clients from elsewhere, each bound to the address it comes from."""

    def __init__(self, elsewhere, stack, port):
        self.elsewhere, self.stack, self.port = elsewhere, stack, port

    def come(self, source, server=SERVER):
        sock = self.stack.enter_context(self.elsewhere.socket(source))
        sock.connect((server, self.port))
        return sock

    def is_served(self, sock):
        with suppress(ConnectionError):
            sock.sendall(b"hello\n")
            return sock.recv(100) == b"HELLO\n"
        return False


@pytest.fixture
def come_to(elsewhere):
    with ExitStack() as stack:
        yield lambda port: Visitors(elsewhere, stack, port)


@pytest.mark.parametrize("listen", [PLAIN, EACH], ids=["accepted in C", "one by one"])
def test_a_source_has_fifty(serve, elsewhere, come_to, listen):
    config = '[[listen]]\naddress = "tcp://192.0.2.1:0"\nservice = "metrics"\n' + listen
    server = serve(config=config, preexec_fn=elsewhere.enter)
    pages, upper = (port_of(address) for address in server.addresses)
    visitors = come_to(upper)
    held = [visitors.come(BAD) for _ in range(MOST)]
    assert all(visitors.is_served(one) for one in held)
    for _ in range(10):
        assert not visitors.is_served(visitors.come(BAD))
    assert visitors.is_served(visitors.come(GOOD))
    told = server.wait_for("refused")
    assert (told["reason"], told["limit"]) == ("per-source", "max_connections_per_source")
    if listen is PLAIN:
        assert told["source"] == BAD
    text = scrape(elsewhere, pages)
    (line,) = [
        line for line in text.splitlines() if line.startswith("sockd_refused_total{") and not line.endswith(" 0")
    ]
    assert f'"tcp://192.0.2.1:{upper}"' in line
    assert line.endswith('reason="per-source"} 10')
    ended = held.pop()
    ended.close()
    server.wait_until(lambda: visitors.is_served(visitors.come(BAD)), "another one of the source")


def scrape(elsewhere, port):
    connection = HTTPConnection("192.0.2.1", port)
    connection.sock = elsewhere.socket(OTHERS[3])
    connection.sock.connect((SERVER, port))
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def test_ipv6_counts_by_site(serve, elsewhere, come_to):
    server = serve(config=PLAIN.replace("192.0.2.1", "[2001:db8::1]"), preexec_fn=elsewhere.enter)
    visitors = come_to(port_of(server.addresses[0]))
    for number in range(MOST):
        assert visitors.is_served(visitors.come(OTHERS6[number % 2], SERVER6))
    assert not visitors.is_served(visitors.come(OTHERS6[0], SERVER6))
    assert not visitors.is_served(visitors.come(OTHERS6[1], SERVER6))
    assert visitors.is_served(visitors.come(OTHERS6[2], SERVER6))


@pytest.mark.parametrize(
    ("asked", "most"), [("max_connections_per_source = 3", 3), ("max_connections_per_source = 0", None)]
)
def test_a_limit_that_is_set(serve, elsewhere, come_to, asked, most):
    server = serve(config=PLAIN + asked, preexec_fn=elsewhere.enter)
    visitors = come_to(port_of(server.addresses[0]))
    for _ in range(most or MOST + 20):
        assert visitors.is_served(visitors.come(BAD))
    assert visitors.is_served(visitors.come(BAD)) is (most is None)


def test_this_host_has_none_where_none_is_set(serve):
    server = serve("tcp://127.0.0.1:0=upper")
    clients = [server.connect() for _ in range(MOST + 20)]
    assert all(client.ask(b"hello") == b"HELLO" for client in clients)


def test_a_reload_counts_on(serve, elsewhere, come_to, tmp_path):
    server = serve(config=PLAIN, preexec_fn=elsewhere.enter)
    visitors = come_to(port_of(server.addresses[0]))
    held = [visitors.come(BAD) for _ in range(MOST)]
    assert all(visitors.is_served(one) for one in held)
    (tmp_path / "sockd.toml").write_text(PLAIN + "max_connections = 999\n")
    server.signal(1)
    server.wait_for("reloaded")
    assert not visitors.is_served(visitors.come(BAD))
    held.pop().close()
    server.wait_until(lambda: visitors.is_served(visitors.come(BAD)), "another one of the source")


def test_clients_of_a_socks_server(serve, elsewhere, come_to):
    """In C until their request comes, some of them by a session from then on."""
    server = serve(config=SOCKS, preexec_fn=elsewhere.enter)
    visitors = come_to(port_of(server.addresses[0]))
    target = visitors.stack.enter_context(elsewhere.socket(SERVER))
    target.listen(100)
    port = target.getsockname()[1]
    held = []
    for number in range(MOST):
        client = visitors.come(BAD)
        if number % 2:  # not whole: a session's
            client.sendall(b"\5")
            client.sendall(b"\1\0")
        else:
            client.sendall(b"\5\1\0")
        assert client.recv(2) == b"\5\0"
        client.sendall(b"\5\1\0\1" + socket.inet_aton(SERVER) + port.to_bytes(2, "big"))
        assert client.recv(10)[:2] == b"\5\0"
        held.append(client)
    refused = visitors.come(BAD)
    with suppress(ConnectionError):
        refused.sendall(b"\5\1\0")
        assert refused.recv(2) == b""
    other = visitors.come(GOOD)
    other.sendall(b"\5\1\0")
    assert other.recv(2) == b"\5\0"
    for one in (held[0], held[1]):
        one.close()
    for _ in range(2):
        target.accept()[0].close()

    def is_let_in():
        client = visitors.come(BAD)
        with suppress(ConnectionError):
            client.sendall(b"\5\1\0")
            return client.recv(2) == b"\5\0"
        return False

    assert server.wait_until(is_let_in, "another one of the source")
    assert json.dumps(server.having("defect")) == "[]"
