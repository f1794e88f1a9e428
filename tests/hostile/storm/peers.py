# SPDX-License-Identifier: MIT
"""Sockets of clients: to every listener, from every kind of name; what they carry, in plain text or by TLS."""

from __future__ import annotations

import itertools
import os
import re
import socket
import ssl
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from storm.raises import RAISED

IP_BIND_ADDRESS_NO_PORT = 24
RESET = struct.pack("ii", 1, 0)
SEND_S = 1.0
"""A daemon that reads nothing of a client for so long does not want it."""
DATAGRAMS = ("udp4", "udp6", "unixgram")
TAME = ("commands", "raises", "names", "headers", "certificates", "bursts", "spoiled")
_numbers = itertools.count()


@dataclass(frozen=True)
class Listener:
    """A row of storm.services as clients see it."""

    service: str
    kind: str
    framing: str
    scheme: str
    way: frozenset[str]
    address: str
    """As the daemon prints it."""

    @property
    def sockaddr(self):
        if self.scheme in ("unix", "unixgram"):
            return self.address.partition(":")[2]
        host, _, port = self.address.partition("://")[2].rpartition(":")
        host, _, scope = host.strip("[]").partition("%")
        if ":" not in host:
            return host, int(port)
        return host, int(port), 0, socket.if_nametoindex(scope) if scope else 0

    @property
    def family(self):
        if self.scheme in ("unix", "unixgram"):
            return socket.AF_UNIX
        return socket.AF_INET if self.scheme.endswith("4") else socket.AF_INET6

    @property
    def type(self):
        return socket.SOCK_DGRAM if self.scheme in DATAGRAMS else socket.SOCK_STREAM

    @property
    def name(self) -> str:
        return "+".join([self.service, self.scheme, *sorted(self.way)])


@dataclass
class World:
    """What clients know.

    Attributes:
        listeners: of the daemon.
        directory: for paths of their own.
        certificates: (path, key) by name; "" is the honest one.
        ca: the authority's certificate.
        target: port of a server of ours, for SOCKS.
        control: path of the control socket.
        kept: connections that each thread of hostile clients leaves open behind it.
        rows: a pattern that names of listeners have to contain, for hostile clients.
        honest_rows: the same, for honest ones.
        tame: of TAME: what hostile clients leave out, to find out what a fault needs.
    """

    listeners: list[Listener]
    directory: str
    certificates: dict[str, tuple[str, str]]
    ca: str
    target: int
    control: str
    kept: int = 24
    rows: str = ""
    honest_rows: str = ""
    tame: tuple[str, ...] = ()
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, table) -> World:
        rows = [Listener(**row | {"way": frozenset(row["way"])}) for row in table.pop("listeners")]
        return cls(rows, **table)

    @property
    def targets(self) -> list[Listener]:
        """Return the listeners that hostile clients go to."""
        return [one for one in self.listeners if re.search(self.rows, one.name)]

    @cached_property
    def raised(self) -> list[int]:
        """Return the numbers of raises.RAISED that hostile clients ask for."""
        if "raises" in self.tame:
            return [0]
        return [*range(len(RAISED))]

    def table(self) -> dict:
        rows = [vars(one) | {"way": sorted(one.way)} for one in self.listeners]
        keys = ("directory", "certificates", "ca", "target", "control", "kept", "rows", "honest_rows", "tame")
        return {"listeners": rows} | {key: getattr(self, key) for key in keys}

    def context(self, certificate: str | None = None, *, newest: bool = True) -> ssl.SSLContext:
        """Return what a client makes a handshake with, showing a certificate by its name here; TLS 1.3 or 1.2."""
        path, key = self.certificates[certificate] if certificate is not None else (None, None)
        with self.lock:
            return _context(self.ca, path, key, newest)


@cache
def _context(ca, path, key, newest):
    context = ssl.create_default_context(cafile=ca)
    if not newest:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    if path is not None:
        context.load_cert_chain(path, key)
    return context


# ---- names


def odd_path_name(chance, directory: str, made: int) -> bytes:
    """Return what a Unix client binds: empty for the kernel's choice of an abstract name (unix(7))."""
    number = next(_numbers)
    base = os.fsencode(directory) + b"/%d-%d" % (os.getpid(), number)
    return chance.choice(
        (
            b"",
            b"\0storm-%d-%d" % (os.getpid(), number),
            b"\0made-%d-%d-%d" % (made, os.getpid(), number),
            b"\0" + b"%d-%d" % (os.getpid(), number) + b"\xff\xfe\n\x1b[2J\0\0",
            (b"\0%d-%d-" % (os.getpid(), number)).ljust(108, b"x"),
            base + b"-made-%d" % made,
            base + b"-\xff\xfe\n",
            base.ljust(108, b"x")[:108],
        )
    )


def bind_odd(sock: socket.socket, listener: Listener, chance, world: World, made: int) -> str:
    """Bind a client's socket at random, or leave it to the kernel; return what was done."""
    if listener.family == socket.AF_UNIX:
        if chance.random() < 0.3 or "names" in world.tame:
            return "unnamed"
        name = odd_path_name(chance, world.directory, made)
        sock.bind(name or "")
        return f"from {name!r:.60}"
    if listener.family == socket.AF_INET and chance.random() < 0.9:
        near = f"127.88.0.{chance.randrange(1, 5)}" if "rules" in listener.way else None
        source = near or chance.choice((f"127.99.{made}.1", f"127.77.{made}.{chance.randrange(1, 255)}"))
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source, 0))
        return f"from {source}"
    return "anyhow"


def forget_path(sock: socket.socket) -> None:
    """Remove the path that a Unix client was bound to; its name stays what it was."""
    if sock.family == socket.AF_UNIX:
        name = sock.getsockname()
        if name and isinstance(name, str) and not name.startswith("\0"):
            with suppress(OSError):
                Path(name).unlink()


def end_with_reset(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


# ---- what is carried


class Talk:
    """A connection to the daemon; behind secure() by TLS, whose records can be had before they are sent."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._tls = None

    def send(self, data: bytes) -> None:
        self.raw(self.sealed(data))

    def raw(self, data: bytes) -> None:
        if data:
            self.sock.sendall(data)

    def sealed(self, data: bytes) -> bytes:
        """Return data as it goes over the wire."""
        if self._tls is None or not data:
            return data
        self._tls.write(data)
        return self._outgoing.read()

    def hello(self, context: ssl.SSLContext) -> bytes:
        """Begin TLS; return the first message."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    def secure(self, context: ssl.SSLContext) -> None:
        """Make a handshake.

        Raises:
            OSError, ssl.SSLError: it did not come about.
        """
        self.raw(self.hello(context))
        self.complete()

    def complete(self) -> None:
        """Go on with a handshake whose hello is sent, to its end."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.raw(self._outgoing.read())
                self._receive()
        self.raw(self._outgoing.read())

    def _receive(self) -> None:
        piece = self.sock.recv(65_536)
        if not piece:
            raise ConnectionAbortedError("the daemon ended the handshake")
        self._incoming.write(piece)

    def receive(self) -> bytes:
        """Return what comes next; empty at the end."""
        if self._tls is None:
            return self.sock.recv(65_536)
        while True:
            try:
                return self._tls.read(65_536)
            except ssl.SSLWantReadError:
                piece = self.sock.recv(65_536)
                if not piece:
                    return b""
                self._incoming.write(piece)
            except ssl.SSLZeroReturnError:
                return b""

    def farewell(self) -> bytes:
        """Return our close_notify as it goes over the wire."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        return self._outgoing.read()

    def end(self) -> None:
        """End our side: close_notify where there is TLS, then FIN."""
        if self._tls is not None:
            self.raw(self.farewell())
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()


def opened(listener: Listener, timeout: float) -> Talk:
    """Connect as an honest client does."""
    sock = socket.socket(listener.family, listener.type)
    try:
        sock.settimeout(timeout)
        sock.connect(listener.sockaddr)
        if listener.family != socket.AF_UNIX and listener.type == socket.SOCK_STREAM:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return Talk(sock)
