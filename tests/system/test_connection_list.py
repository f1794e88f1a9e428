# SPDX-License-Identifier: MIT
"""`sockctl connections`: idle time, TLS, clients of relays and SOCKS servers; filters, order, limit, in all workers."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import ExitStack, closing, contextmanager

import pytest
from controlling import Sockctl
from watching import _until

LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{}"\n{}'


@pytest.fixture
def house(serve, tmp_path):
    def make(*listeners, workers=1, services=""):
        sockctl = Sockctl(tmp_path)
        text = f'[daemon]\nworkers = {workers}\ncontrol = "{sockctl.path}"\n'
        server = serve(config=text + "".join(LISTEN.format(*one) for one in listeners) + services)
        server.sockctl = sockctl
        made.append(server)
        return server

    made = []
    yield make
    for server in made:
        server.sockctl.run("stop", "--wait")


def place(server, listener=0):
    host, _, port = server.addresses[listener].removeprefix("tcp://").rpartition(":")
    return host, int(port)


def connect(server, listener=0, source="127.0.0.1"):
    return socket.create_connection(place(server, listener), timeout=20, source_address=(source, 0))


def ask(sock, text=b"x\n"):
    sock.sendall(text)
    assert sock.recv(1000)


@contextmanager
def talking(sock):
    """Have a client ask again and again: to start sockctl may take a second."""
    over = threading.Event()

    def talk():
        while not over.wait(0.05):
            ask(sock)

    ask(sock)  # or it may take less than the first pause
    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("workers", [1, 4])
def test_filters_order_and_limit(house, workers):
    server = house(("upper", ""), ("echo", ""), workers=workers)
    rows = lambda *words: server.sockctl.ask("connections", *words)  # noqa: E731 - one question, asked more than once
    with ExitStack() as stack:
        old = [stack.enter_context(closing(connect(server))) for _ in range(4)]
        for sock in old:
            ask(sock)
        time_when_old = time.monotonic()
        other = stack.enter_context(closing(connect(server, 1, "127.0.0.2")))
        ask(other, b"y" * 100)
        assert len(rows()) == 5
        assert [row["service"] for row in rows("--service", "echo")] == ["echo"]
        (row,) = rows("--network", "127.0.0.2/32")
        assert (row["received"], row["sent"]) == (100, 100)
        assert len(rows("--network", "127.0.0.1", "--state", "open")) == 4
        assert rows("--state", "closing") == []
        assert [row["received"] for row in rows("--sort", "received", "--limit", "2")] == [100, 2]
        ports = sorted(row["peer"] for row in rows())
        assert [row["peer"] for row in rows("--sort", "peer")] == ports
        _until(lambda: time.monotonic() - time_when_old > 1.1)
        with talking(old[0]):
            assert len(rows("--idle", "1s", "--service", "upper")) == 3
            idle = sorted(rows("--service", "upper"), key=lambda row: row["idle_seconds"])
        assert all(1 <= row["idle_seconds"] <= row["seconds"] + 0.01 for row in idle[1:])
        assert idle[0]["peer"].endswith(f":{old[0].getsockname()[1]}")
        assert idle[0]["idle_seconds"] < 1 <= idle[0]["seconds"]
        assert len(rows("--older", "1s")) == 5
        assert rows("--older", "1h") == []
        seconds = [row["idle_seconds"] for row in rows("--sort", "idle")]
        assert seconds == sorted(seconds, reverse=True)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--sort", "colour"], "colour: cannot sort by that; known: id, peer, service, age"),
        (["--state", "happy"], "happy is no state; known: open, closing, connecting, relayed"),
        (["--network", "nowhere"], "nowhere"),
        (["--idle", "soon"], "soon: "),
        (["--limit", "-1"], "limit -1: must be 0 or more"),
    ],
)
def test_what_cannot_be_asked(house, words, text):
    done = house(("upper", "")).sockctl.run("connections", *words)
    assert done.returncode == 64
    assert text in done.stderr


def test_tls_has_its_version(house, certificates):
    own = certificates.server
    tls = f'tls = {{ certificate = "{own.path}", key = "{own.key}" }}\n'
    server = house(("upper", tls), ("upper", ""))
    context = ssl.create_default_context(cafile=certificates.ca)
    with (
        context.wrap_socket(connect(server), server_hostname="localhost") as secure,
        closing(connect(server, 1)) as bare,
    ):
        ask(secure)
        ask(bare)
        found = {row["peer"].rpartition(":")[2]: row.get("tls") for row in server.sockctl.ask("connections")}
        assert found == {str(secure.getsockname()[1]): "TLSv1.3", str(bare.getsockname()[1]): None}
        assert " TLS" in server.sockctl.say("connections").splitlines()[0]


def test_clients_of_relays_and_socks_servers(house):
    with closing(socket.create_server(("127.0.0.1", 0))) as target:
        port = target.getsockname()[1]
        services = f'[service.away]\nrelay = {{ to = ["tcp://127.0.0.1:{port}"] }}\n'
        services += '[service.proxy]\nsocks = { allow = ["loopback"] }\n'
        server = house(("away", ""), ("proxy", ""), services=services)
        with closing(connect(server)) as relayed, closing(connect(server, 1)) as proxied:
            accepted = [target.accept()[0]]
            proxied.sendall(b"\x05\x01\x00")
            assert proxied.recv(10) == b"\x05\x00"
            proxied.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2, "big"))
            assert proxied.recv(100)[:2] == b"\x05\x00"
            accepted.append(target.accept()[0])
            relayed.sendall(b"12345")
            _until(lambda: sum(row["received"] for row in server.sockctl.ask("connections", "--state", "relayed")) >= 5)
            rows = {row["service"]: row for row in server.sockctl.ask("connections")}
            for name, client in (("away", relayed), ("proxy", proxied)):
                assert rows[name]["peer"] == f"tcp://127.0.0.1:{client.getsockname()[1]}"
                assert rows[name]["destination"] == f"tcp://127.0.0.1:{port}"
                assert (rows[name]["id"], rows[name]["state"]) == (None, "relayed")
            for sock in accepted:
                sock.close()
        assert "relayed" not in server.sockctl.say("connections", "--service", "upper")
