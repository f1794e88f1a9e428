# SPDX-License-Identifier: MIT
"""Clients that are gone before they are served get nothing, and whatever ends when, the counts are what they were.

Seen failing with a program started, and a target connected to, for each client that was reset in the queue; with an end
of file taken for a going; and, before connections had one value for what they hold, with the share of a source
never given back where its connections were reset at once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path

import pytest

LIMIT_S = 30
COUNT = 2000 if os.environ.get("SOCKD_SOAK") else 200
USER = 'user = "root"' if os.geteuid() == 0 else ""
RESET = b"\1\0\0\0\0\0\0\0"
SOURCE = "127.0.0.9"
HEADER = b"PROXY TCP4 127.0.0.9 127.0.0.1 4000 5000\r\n"


def state_of(server):
    return Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(") ")[2][0]


def hold_still(server):
    server.signal(signal.SIGSTOP)
    until = time.monotonic() + LIMIT_S
    while state_of(server) != "T":
        assert time.monotonic() < until


def reset(sock):
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def to_end(sock):
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


CAT = f'[service.it]\nexec = ["/bin/cat"]\n{USER}\n'
RELAY = '[service.it]\nrelay = {{ to = ["tcp://127.0.0.1:{port}"] }}\n'
NAMES = "names = true\n"


@pytest.mark.parametrize(
    ("service", "rules"), [(CAT, ""), (CAT, NAMES), (RELAY, ""), (RELAY, NAMES)], ids=["exec", "names", "relay", "both"]
)
def test_who_is_gone_gets_nothing_and_who_half_closed_is_served(serve, service, rules):
    """All of them come, and most are reset, while the daemon does nothing; it finds the one at the end of its queue."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(LIMIT_S)
        text = f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "it"\n{rules}'
        server = serve(config=text + service.format(port=target.getsockname()[1]))
        hold_still(server)
        for _ in range(COUNT):
            one = server.connect()
            one.send(b"what is never read\n")
            one.reset()
        last = server.connect()
        last.send(b"hello\n")
        last.half_close()
        server.signal(signal.SIGCONT)
        if service == RELAY:
            far, _ = target.accept()
            far.settimeout(LIMIT_S)
            assert to_end(far) == b"hello\n"
            far.sendall(b"hello\n")
            far.close()
            target.setblocking(False)
        assert last.to_end() == b"hello\n"
        server.wait_for("client left before it was served", count=COUNT)
        if service == RELAY:
            server.end_of(last)
            with pytest.raises(BlockingIOError):
                target.accept()
        else:
            server.wait_for("program ended")
            assert len(server.having("program started")) == 1


def test_over_a_unix_socket_who_has_closed_is_gone(serve, tmp_path):
    """There the kernel tells whether one side is closed or both (POLLHUP)."""
    text = f'[[listen]]\naddress = "unix:{tmp_path}/s"\nservice = "it"\n'
    server = serve(config=text + CAT)
    hold_still(server)
    for _ in range(5):
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(f"{tmp_path}/s")
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(LIMIT_S)
        one.connect(f"{tmp_path}/s")
        one.sendall(b"hello\n")
        one.shutdown(socket.SHUT_WR)
        server.signal(signal.SIGCONT)
        assert to_end(one) == b"hello\n"
    server.wait_for("client left before it was served", count=5)
    server.wait_for("program ended")
    assert len(server.having("program started")) == 1


def test_no_handshake_is_begun_with_who_is_gone(serve, certificates):
    tls = LISTENS["tls"].format(certificate=certificates.server)
    text = f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n{tls}'
    server = serve(config=text)
    hold_still(server)
    for _ in range(COUNT):
        server.connect().reset()
    last = server.connect()
    server.signal(signal.SIGCONT)
    context = ssl.create_default_context(cafile=certificates.ca)
    with context.wrap_socket(last.sock, server_hostname="localhost") as sock:
        sock.sendall(b"abc\n")
        assert sock.recv(100) == b"ABC\n"
    server.wait_for("client left before it was served")
    assert not server.having("no TLS")


# ---- counts

KINDS = {
    "builtin": '[service.it]\nbuiltin = "upper"\n',
    "function": '[service.it]\nhandler = "app:upper"\n',
    "protocol": '[service.it]\nhandler = "app:Upper"\n',
    "exec": f'[service.it]\nexec = ["/bin/sed", "-u", "y/abc/ABC/"]\n{USER}\n',
    "relay": '[service.it]\nrelay = {{ to = ["tcp://127.0.0.1:{port}"] }}\n',
}
LISTENS = {
    "plain": "",
    "proxied": 'proxy_protocol = {{ from = ["127.0.0.0/8"], timeout = "60s" }}\n',
    "tls": 'tls = {{ certificate = "{certificate.path}", key = "{certificate.key}" }}\n',
}
MOST = 3


class House:
    """One service with one listener, that lets so many of a source in."""

    def __init__(self, serve, tmp_path, certificates, kind, listen, port):
        text = f'[daemon]\ncontrol = "{tmp_path}/control.sock"\n'
        text += f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "it"\nmax_connections_per_source = {MOST}\n'
        text += f'at_limit = "refuse"\ndeny = ["127.0.0.66"]\n{LISTENS[listen].format(certificate=certificates.server)}'
        self.server = serve(config=text + KINDS[kind].format(port=port))
        self.control = f"{tmp_path}/control.sock"
        self.context = ssl.create_default_context(cafile=certificates.ca) if listen == "tls" else None
        self.header = HEADER if listen == "proxied" else b""
        host, _, port = self.server.addresses[0].removeprefix("tcp://").rpartition(":")
        self.name = host, int(port)

    def come(self, source=SOURCE):
        return socket.create_connection(self.name, LIMIT_S, (source, 0))

    def speak(self, source=SOURCE):
        """A client as it should be, up to what it says first."""
        sock = self.come(source)
        sock.sendall(self.header.replace(SOURCE.encode(), source.encode()))
        return self.context.wrap_socket(sock, server_hostname="localhost") if self.context else sock

    def normal(self):
        with self.speak() as sock:
            sock.sendall(b"abc\n")
            if self.context is None:
                sock.shutdown(socket.SHUT_WR)
            assert sock.recv(100) == b"ABC\n"

    def reset_at_once(self):
        reset(self.come())

    def reset_later(self):
        sock = self.speak()
        sock.sendall(b"abc\n")
        reset(sock)

    def says_what_is_wrong(self):
        """No header, or no handshake; elsewhere a line."""
        with self.come() as sock, suppress(OSError):
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
            to_end(sock)

    def cut_short(self):
        """Of the header, of the handshake."""
        with self.come() as sock, suppress(OSError):
            sock.sendall(self.header[:20] or b"\x16\3\1\2")
            sock.shutdown(socket.SHUT_WR)
            to_end(sock)

    def refused(self):
        with suppress(OSError), self.speak("127.0.0.66") as sock:
            to_end(sock)

    @property
    def open(self):
        """Of the listener and of the service, as sockctl(1) asks for them."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self.control)
            sock.sendall(b'{"verb": "status"}\n')
            status = json.loads(to_end(sock))["result"]
        return [status["listeners"][0]["open"], status["services"]["it"]["open"]]


ENDINGS = ("normal", "reset_at_once", "reset_later", "says_what_is_wrong", "cut_short", "refused")


@pytest.mark.parametrize("listen", LISTENS)
@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_what_they_were_whatever_ends_when(serve, tmp_path, certificates, kind, listen, until):
    """More connections of one source than it may have at once, ended in each way; then it has all of its share."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        far = serve("tcp://127.0.0.1:0=upper") if kind == "relay" else None
        where = int(far.addresses[0].rpartition(":")[2]) if far else port.getsockname()[1]
        house = House(serve, tmp_path, certificates, kind, listen, where)
        for ending in ENDINGS:
            for _ in range(2 * MOST):
                getattr(house, ending)()
                if ending in ("normal", "reset_later"):
                    until(lambda: not any(house.open))
            until(lambda: not any(house.open))
        hold_still(house.server)
        for _ in range(20 * MOST):
            house.reset_at_once()
        house.server.signal(signal.SIGCONT)
        until(lambda: not any(house.open))
        held = [house.speak() for _ in range(MOST)]
        for sock in held:
            sock.sendall(b"abc\n")
            assert sock.recv(100) == b"ABC\n"
        until(lambda: house.open[0] == MOST)
        with suppress(OSError), house.speak() as more:  # it has its whole share, and no more
            assert to_end(more) == b""
        for sock in held:
            sock.close()
        until(lambda: not any(house.open))
