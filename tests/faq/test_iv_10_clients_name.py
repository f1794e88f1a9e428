# SPDX-License-Identifier: MIT
# Seen failing against a daemon that looks names up while it accepts, one that believes a name without looking up its
# addresses, and one that forgets what it has learned.
"""FAQ IV.10: the client's name: on request, never on the accept path, confirmed forward, cached, logged."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import ExitStack

import pytest

TOML = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:host"\nnames = true\n'
APP = """
def host(line, connection):
    return str(connection.get_extra_info("peerhost")).encode()
"""
BOUND_S = 5  # of what must not wait for a resolver that takes 30 seconds
PTR, A = 12, 1


class NameServer:
    """A DNS server for a table of names; one without a table never answers.

    Attributes:
        asked: (name, type) of every question.
    """

    def __init__(self, sock, table):
        self.sock, self.table = sock, table
        self.asked: list[tuple[str, int]] = []

    def run(self):
        while True:
            packet, sender = self.sock.recvfrom(512)
            if not packet:
                return
            labels, at = [], 12
            while size := packet[at]:
                labels.append(packet[at + 1 : at + 1 + size].decode())
                at += 1 + size
            (kind,) = struct.unpack_from("!H", packet, at + 1)
            question, name = packet[12 : at + 5], ".".join(labels)
            self.asked.append((name, kind))
            if self.table is None:
                continue
            found = self.table.get((name, kind))
            answer = b"" if found is None else b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(found)) + found
            code = 0x8180 if answer else 0x8183
            self.sock.sendto(
                packet[:2] + struct.pack("!HHHHH", code, 1, bool(answer), 0, 0) + question + answer, sender
            )


def encoded(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def reverse(address):
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


@pytest.fixture
def nameserver():
    """`nameserver(table)` runs one on port 53 of an address of its own, 127.54.0.x."""
    with ExitStack() as stack:

        def start(table):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for last in range(1, 255):
                try:
                    sock.bind((f"127.54.0.{last}", 53))
                except PermissionError:
                    pytest.skip("port 53 needs root")
                except OSError:
                    continue
                break
            server = NameServer(sock, table)
            thread = threading.Thread(target=server.run)
            thread.start()

            def end():
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last_word:
                    last_word.sendto(b"", sock.getsockname())
                thread.join()

            stack.callback(end)
            return server

        yield start


@pytest.fixture
def serve(daemon, etc):
    def start(server):
        return daemon(toml=TOML, app=APP, prefix=etc(hosts="", nameserver=server.sock.getsockname()[0]))

    return start


@pytest.fixture
def ask(until):
    def once(one, source="127.0.0.1"):
        with one.connect(before=lambda sock: sock.bind((source, 0))) as client:
            client.sendall(b"who\n")
            return client.recv(100).decode().strip()

    return once


HONEST = {
    (reverse("127.0.0.81"), PTR): encoded("honest.test"),
    ("honest.test", A): socket.inet_aton("127.0.0.81"),
    (reverse("127.0.0.82"), PTR): encoded("honest.test"),  # a liar: the name does not lead back to it
}


def test_a_resolver_that_hangs_delays_no_connection(nameserver, serve, ask, until):
    server = nameserver(None)
    one = serve(server)
    begin = time.monotonic()
    assert {ask(one, f"127.0.1.{number}") for number in range(1, 31)} == {"None"}
    assert time.monotonic() - begin < BOUND_S
    until(lambda: server.asked)
    assert one.stop() == 0  # and it does not delay the end
    assert time.monotonic() - begin < BOUND_S


def test_a_confirmed_name_is_told_and_logged(nameserver, serve, ask, until):
    one = serve(nameserver(HONEST))
    until(lambda: ask(one, "127.0.0.81") == "honest.test")
    assert one.wait_for("closed", name="honest.test")["peer"].startswith("tcp://127.0.0.81:")


def test_a_name_that_does_not_lead_back_is_not_believed(nameserver, serve, ask, until):
    server = nameserver(HONEST)
    one = serve(server)
    assert ask(one, "127.0.0.82") == "None"
    until(lambda: ("honest.test", A) in server.asked)  # it was looked up forward
    until(lambda: ask(one, "127.0.0.81") == "honest.test")
    assert ask(one, "127.0.0.82") == "None"
    assert not [line for line in one.logged("closed") if "name" in line and "127.0.0.82" in line["peer"]]


def test_a_name_is_asked_for_once(nameserver, serve, ask, until):
    server = nameserver(HONEST)
    one = serve(server)
    until(lambda: ask(one, "127.0.0.81") == "honest.test")
    for _ in range(20):
        assert ask(one, "127.0.0.81") == "honest.test"
    assert server.asked.count((reverse("127.0.0.81"), PTR)) == 1


def test_nobody_is_asked_unless_it_is_wanted(nameserver, daemon, etc, ask):
    server = nameserver(HONEST)
    prefix = etc(hosts="", nameserver=server.sock.getsockname()[0])
    one = daemon(toml=TOML.replace("true", "false"), app=APP, prefix=prefix)
    assert ask(one, "127.0.0.81") == "None"
    assert one.stop() == 0
    assert server.asked == []
