# SPDX-License-Identifier: MIT
"""A relay from outside: bytes and ends both ways, targets that are down, headers, a SOCKS server on the way."""

from __future__ import annotations

import hashlib
import os
import random
import select
import socket
import struct
import threading
import time
from contextlib import suppress

import pytest
from targets import LIMIT_S, received
from watching import SOAK

AS = '[daemon]\nuser = "root"\n' if os.geteuid() == 0 else ""
LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "back"\n'
MULTIPLEXERS = ("auto", "epoll", "poll", "select")
TRANSFER_BYTES = (1 << 30) if SOAK else (64 << 20)
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def relay(serve):
    def start(*to, more="", service="", listen="", options=()):
        targets = ", ".join(f'"{one if isinstance(one, str) else one.address}"' for one in to)
        service = f"[service.back]\nrelay = {{ to = [{targets}]{more} }}\n{service}\n"
        return serve(config=AS + LISTEN + listen + service, options=options)

    return start


@pytest.mark.parametrize("name", MULTIPLEXERS)
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_each_side_ends_by_itself(relay, target, tmp_path, family, name):
    back = target(socket.AF_UNIX, str(tmp_path / "back")) if family == "unix" else target()
    server = relay(back, options=["--multiplexer", name])
    client = server.connect()
    other = back.take()
    client.send(b"question")
    client.half_close()
    assert received(other, 100) == b"question"  # and its end
    other.send(b"long ")
    assert received(client.sock, 5) == b"long "
    other.send(b"answer")
    other.close()
    assert client.to_end() == b"answer"
    closed = server.end_of(client)
    assert (closed["reason"], closed["received"], closed["sent"]) == ("eof", 8, 11)
    assert (closed["service"], closed["target"]) == ("back", back.address)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_long_transfer_arrives_whole_behind_a_half_close(relay, target, direction):
    back = target()
    client = relay(back).connect()
    other = back.take()
    source, sink = (client.sock, other) if direction == "up" else (other, client.sock)
    block = random.Random(7).randbytes(1 << 20)
    sent, got = hashlib.sha256(), hashlib.sha256()

    def send():
        for number in range(TRANSFER_BYTES >> 20):
            data = struct.pack("!I", number) + block[4:]
            sent.update(data)
            source.sendall(data)
        source.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    size = 0
    while data := sink.recv(1 << 20):
        got.update(data)
        size += len(data)
    thread.join(LIMIT_S)
    assert (size, got.hexdigest()) == (TRANSFER_BYTES, sent.hexdigest())
    sink.sendall(got.digest())  # the other way is open still
    assert received(source, 32) == sent.digest()


def resident(server):
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))


def test_memory_is_bounded_when_targets_do_not_read(relay, target):
    back = target()
    server = relay(back)
    clients = [server.connect() for _ in range(20)]
    others = [back.take() for _ in clients]
    before = resident(server)
    sent = [0] * len(clients)
    for client in clients:
        client.sock.setblocking(False)
    still = time.monotonic()
    while time.monotonic() - still < 0.5:
        for index, client in enumerate(clients):
            with suppress(BlockingIOError):
                sent[index] += client.sock.send(bytes(1 << 20))
                still = time.monotonic()
    assert min(sent) > 100_000
    assert resident(server) - before < len(clients) * (1 << 17) + (4 << 20)
    for index, client in enumerate(clients):  # and nothing is lost
        client.half_close()
        size = 0
        while data := others[index].recv(1 << 20):
            size += len(data)
        assert size == sent[index]


def test_who_half_closes_before_the_target_is_reached_is_served(relay, busy):
    server = relay(busy)
    client = server.connect()
    client.send(b"question")
    client.half_close()
    busy.wait_for_attempts(2)
    other = busy.accept()
    assert received(other, 100) == b"question"  # and its end
    other.send(b"answer")
    other.close()
    assert client.to_end() == b"answer"
    assert server.end_of(client)["reason"] == "eof"


@pytest.mark.parametrize("before", ["at once", "half-closed"])
def test_who_is_reset_before_the_target_is_reached_takes_the_attempt_along(relay, busy, before):
    server = relay(busy, more=', connect_timeout = "60s"')
    client = server.connect()
    client.send(b"question")
    busy.wait_for_attempts(2)
    if before == "half-closed":
        client.half_close()
    client.reset()
    assert server.wait_for("closed")["reason"] == "reset"
    assert server.connect().name  # it goes on


@pytest.mark.parametrize("side", ["client", "target"])
def test_a_reset_is_a_reset_of_both(relay, target, side):
    back = target()
    server = relay(back)
    client = server.connect()
    other = back.take()
    client.send(b"x")
    assert received(other, 1) == b"x"
    first, second = (client.sock, other) if side == "client" else (other, client.sock)
    first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.reset() if side == "client" else other.close()
    with pytest.raises(ConnectionResetError):
        second.recv(1)
    closed = server.wait_for("closed")
    assert (closed["reason"], closed["error"]) == ("reset", "Connection reset by peer")
    assert closed["at"] == (closed["peer"] if side == "client" else back.address)


def test_a_side_that_says_nothing_after_the_others_end_is_ended(relay, target):
    back = target()
    server = relay(back, more=', half_close_timeout = "300ms"')
    client = server.connect()
    back.take()
    client.half_close()
    with pytest.raises(ConnectionResetError):
        client.to_end()
    assert server.end_of(client)["reason"] == "half-close-timeout"


def test_idle_timeout_is_the_services(relay, target):
    back = target()
    server = relay(back, service='idle_timeout = "300ms"')
    client = server.connect()
    other = back.take()
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    assert server.end_of(client)["reason"] == "idle-timeout"


# ---- targets


def down():
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def test_targets_take_turns(relay, target):
    backs = [target(), target()]
    server = relay(*backs)
    for _ in range(2):
        for back in backs:
            client = server.connect()
            back.take().send(b"here")
            assert received(client.sock, 4) == b"here"


def test_the_target_with_the_fewest_connections_is_next(relay, target):
    backs = [target(), target()]
    server = relay(*backs, more=', balance = "least-connections"')
    clients = [server.connect() for _ in range(4)]
    first, _ = [backs[0].take(), backs[0].take()], [backs[1].take(), backs[1].take()]
    for sock in first:
        sock.close()
    for client in clients:
        client.half_close()
    server.wait_for("closed", count=2, target=backs[0].address)
    for _ in range(2):
        server.connect()
        backs[0].take()


def test_a_target_that_refuses_is_left_aside_and_tried_again(relay, target):
    gone = target()
    name = gone.listener.getsockname()
    gone.close()
    back = target()
    server = relay(f"tcp://127.0.0.1:{name[1]}", back, more=', retry_after = "500ms"')
    for _ in range(4):
        server.connect()
        back.take()
    aside = server.wait_for("relay target is down")
    assert aside["target"] == f"tcp://127.0.0.1:{name[1]}"
    assert "refused" in aside["error"]
    assert "127.0.0.1" in aside["error"]
    assert len(server.having("relay target is down")) == 1
    again = target(socket.AF_INET, name)
    end = time.monotonic() + LIMIT_S
    reached = None
    while reached is not again:
        assert time.monotonic() < end
        client = server.connect()
        listeners = {one.listener: one for one in (back, again)}
        (listener, *_), _, _ = select.select(list(listeners), [], [], LIMIT_S)
        reached = listeners[listener]
        reached.take().close()
        assert client.to_end() == b""
    server.wait_for("relay target is up again")


def test_without_a_target_the_client_is_reset_and_the_log_says_why(relay):
    addresses = [down(), down()]
    server = relay(*addresses)
    client = server.connect()
    with pytest.raises(ConnectionResetError):
        client.to_end()
    closed = server.end_of(client)
    assert closed["reason"] == "unreachable"
    for address in addresses:
        assert f"connection refused: {address}" in closed["why"]


def test_checks_find_a_target_that_is_back(relay, target):
    gone = target()
    name = gone.listener.getsockname()
    gone.close()
    server = relay(f"tcp://127.0.0.1:{name[1]}", more=', check = { interval = "100ms" }')
    server.wait_for("relay target is down")
    again = target(socket.AF_INET, name)
    server.wait_for("relay target is up again")
    assert received(again.take(), 1) == b""  # the check's own connection


def test_a_race_is_won_by_whoever_answers(relay, target):
    back = target()
    server = relay(down(), back, more=', balance = "race"')
    client = server.connect()
    back.take().send(b"here")
    assert received(client.sock, 4) == b"here"


def test_names_are_looked_up(relay, target):
    back = target()
    server = relay(back.address.replace("127.0.0.1", "localhost"))
    server.connect()
    back.take()


# ---- headers


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_header_is_in_front_and_tells_of_the_client(relay, target, version):
    back = target()
    server = relay(back, more=f', proxy_header = "{version}"')
    client = server.connect()
    other = back.take()
    port, ours = client.sock.getsockname()[1], client.sock.getpeername()[1]
    header = f"PROXY TCP4 127.0.0.1 127.0.0.1 {port} {ours}\r\n".encode()
    if version == "v2":
        address = socket.inet_aton("127.0.0.1")
        header = bytes.fromhex("0d0a0d0a000d0a515549540a2111000c") + 2 * address + struct.pack("!HH", port, ours)
    assert other.recv(1000) == header  # before the client's first byte, and alone
    client.send(b"hello")
    assert received(other, 5) == b"hello"
    client.half_close()
    other.close()
    assert server.end_of(client)["received"] == 5


def test_a_checks_header_says_that_it_is_ours(relay, target):
    back = target()
    relay(back, more=', proxy_header = "v2", check = { interval = "100ms" }')
    assert back.take().recv(1000) == bytes.fromhex("0d0a0d0a000d0a515549540a20000000")


def test_through_a_second_relay_the_client_is_known(relay, target):
    """Its PROXY header is believed by another relay, which passes on what it says."""
    back = target()
    second = down()
    server = relay(
        second,
        more=', proxy_header = "v2"',
        listen=f'[[listen]]\naddress = "{second}"\nservice = "second"\nproxy_protocol = {{ from = ["127.0.0.1"] }}\n',
        service=f'[service.second]\nrelay = {{ to = ["{back.address}"], proxy_header = "v1" }}',
    )
    client = server.connect(server.having("listening", service="back")[0]["address"])
    port, last = client.sock.getsockname()[1], second.rpartition(":")[2]
    assert back.take().recv(1000) == f"PROXY TCP4 127.0.0.1 127.0.0.1 {port} {last}\r\n".encode()


# ---- through a SOCKS server


def socks_of(server_socket, *, method=0, reply=0, user=None):
    """Answer one request of SOCKS 5; return (host, port) that it asked for."""
    assert server_socket.recv(2)[0] == 5
    server_socket.recv(2)
    server_socket.send(bytes((5, method)))
    if method == 2:
        assert server_socket.recv(1000) == user
        server_socket.send(b"\1\0")
    request = received(server_socket, 4)
    assert request[:3] == b"\5\1\0"
    host = received(server_socket, received(server_socket, 1)[0]) if request[3] == 3 else received(server_socket, 4)
    port = struct.unpack("!H", received(server_socket, 2))[0]
    server_socket.send(bytes((5, reply, 0, 1)) + bytes(6))
    return host, port


def test_targets_are_reached_through_a_socks_server(relay, target, tmp_path):
    (tmp_path / "password").write_text("secret\n")
    way = target()
    via = way.address.replace("tcp://", "socks5://alice@")
    server = relay(
        "tcp://inside.example:2525",
        more=f', via = "{via}", via_password = "{tmp_path}/password", proxy_header = "v1"',
    )
    client = server.connect()
    ends = client.sock.getsockname(), client.sock.getpeername()
    other = way.take()
    assert socks_of(other, method=2, user=b"\1\5alice\6secret") == (b"inside.example", 2525)
    assert received(other, 11) == b"PROXY TCP4 "
    received(other, len(" ".join(["127.0.0.1"] * 2 + [str(one[1]) for one in ends]) + "\r\n"))
    other.send(b"welcome")
    assert received(client.sock, 7) == b"welcome"


def test_what_the_socks_server_says_is_in_the_log(relay, target):
    way = target()
    server = relay("tcp://192.0.2.1:25", more=f', via = "{way.address.replace("tcp", "socks5")}"')
    client = server.connect()
    assert socks_of(way.take(), reply=5) == (socket.inet_aton("192.0.2.1"), 25)
    with pytest.raises(ConnectionResetError):
        client.to_end()
    why = server.end_of(client)["why"]
    assert why == f"tcp://192.0.2.1:25 via {way.address}: connection refused"


def test_a_stop_ends_what_is_open(relay, target):
    back = target()
    server = relay(back)
    client = server.connect()
    other = back.take()
    server.signal()
    server.wait_for("stopping")
    client.send(b"finishing")  # in stop_timeout it may
    assert received(other, 9) == b"finishing"
    client.half_close()
    other.close()
    assert server.end_of(client)["reason"] == "eof"
    assert server.wait() == 0
