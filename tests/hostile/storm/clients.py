# SPDX-License-Identifier: MIT
"""Hostile clients: each does what its number makes it do, at random from everything that a peer can send.

`play(world, seed, number)` is one client, always the same one for the same seed and number.
"""

from __future__ import annotations

import random
import socket
import ssl
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from storm import frames, headers
from storm.peers import SEND_S, Talk, World, bind_odd, end_with_reset, forget_path
from storm.services import FRAMINGS

if TYPE_CHECKING:
    from collections import deque

READ_S = 0.15
LINGER_S = 0.6
BURST = 24


class Client:
    """One client.

    Args:
        world: what there is.
        chance: its own dice.
        kept: sockets that are left open; those that fall out of it are closed.
        told: is given what it does, once it has reached the daemon.
    """

    def __init__(self, world: World, chance: random.Random, kept: deque, told) -> None:
        self._told = told
        self._world = world
        self._chance = chance
        self._kept = kept
        self._made = chance.choice(world.raised)
        self._targets = world.targets
        self.did: list[str] = []

    def _reached(self) -> None:
        if self._told is not None:
            self._told(self.did)
            self._told = None

    def _is_tame(self, what: str) -> bool:
        return what in self._world.tame

    def play(self) -> None:
        """Do all of it; the daemon's refusals are none of ours."""
        chance = self._chance
        self.listener = chance.choice(self._targets)
        self.did.append(self.listener.name)
        with suppress(OSError, ssl.SSLError):
            if self.listener.type == socket.SOCK_DGRAM:
                self._datagrams()
            elif chance.random() < 0.02 and not self._is_tame("bursts"):
                self._burst()
            else:
                self._converse()

    # ---- a connection

    def _connect(self, timeout: float = SEND_S) -> Talk:
        listener, chance = self.listener, self._chance
        sock = socket.socket(listener.family, listener.type)
        try:
            sock.settimeout(timeout)
            if chance.random() < 0.05:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.did.append(bind_odd(sock, listener, chance, self._world, self._made))
            sock.connect(listener.sockaddr)
            self._reached()
            forget_path(sock)
            if listener.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return Talk(sock)

    def _converse(self) -> None:
        talk = self._connect()
        try:
            self._introduce(talk)
            self._say(talk)
        except (OSError, ssl.SSLError) as error:
            self.did.append(f"stopped: {error!r:.60}")
        self._leave(talk)

    def _introduce(self, talk: Talk) -> None:
        """Do what comes before the first frame: headers, handshakes, logins."""
        chance, way = self._chance, self.listener.way
        if "proxy" in way:
            header = self._header()
            self.did.append(f"header {header!r:.300}")
            self._pieces(talk, header)
        if "tls" in way:
            self._handshake(talk)
        if "starttls" in way and chance.random() < 0.8:
            behind = self._frames() if chance.random() < 0.2 else b""
            self.did.append(f"starttls {len(behind)} behind")
            talk.raw(frames.wire_of(self._framing, b"y%02d" % chance.choice((0, 0, 0, self._made))) + behind)
            talk.sock.settimeout(READ_S)
            talk.sock.recv(100)
            talk.sock.settimeout(SEND_S)
            self._handshake(talk)

    def _frames(self) -> bytes:
        spoil = not self._is_tame("spoiled")
        return frames.stream_of(
            self._chance, self._framing, spoil=spoil, raised=self._world.raised, only=self._only_letter
        )

    @property
    def _only_letter(self) -> str:
        return "s" if self._is_tame("commands") else ""

    @property
    def _framing(self):
        return FRAMINGS[self.listener.framing][1]

    def _header(self) -> bytes:
        chance = self._chance
        if chance.random() < 0.4 or self._is_tame("headers"):
            return headers.right_header(chance)
        header = headers.odd_header(chance, self._made)
        return frames.spoiled(chance, header) if chance.random() < 0.1 else header

    def _handshake(self, talk: Talk) -> None:
        chance, world = self._chance, self._world
        names = ("",) if self._is_tame("certificates") else (*world.certificates, "")
        name = chance.choice(names) if "client-ca" in self.listener.way else None
        context = world.context(name, newest=chance.random() < 0.6)
        luck = chance.random()
        if luck < 0.15:
            hello = frames.spoiled(chance, talk.hello(context))
            self.did.append(f"hello {len(hello)} spoiled")
            self._pieces(talk, hello, raw=True)
            raise ConnectionAbortedError("a spoiled handshake")
        self.did.append(f"certificate {name!r}")
        talk.secure(context)

    def _say(self, talk: Talk) -> None:
        chance = self._chance
        match self.listener.kind:
            case "socks" | "socks-users":
                self._socks(talk)
            case "metrics":
                self._stream(talk, headers.odd_http(chance))
            case _:
                for _ in range(chance.choice((1, 1, 1, 2, 4))):
                    self._stream(talk, self._frames())
                    if chance.random() < 0.5:
                        self._read(talk)

    def _stream(self, talk: Talk, stream: bytes) -> None:
        chance = self._chance
        self.did.append(f"{stream!r:.120} ({len(stream)})")
        if "tls" in self.listener.way and chance.random() < 0.15:
            records = frames.spoiled(chance, talk.sealed(stream))
            self.did.append(f"{len(records)} bytes of records spoiled")
            self._pieces(talk, records, raw=True)
        else:
            self._pieces(talk, stream)

    def _pieces(self, talk: Talk, stream: bytes, *, raw: bool = False) -> None:
        chance = self._chance
        for piece in frames.pieces_of(chance, stream):
            (talk.raw if raw else talk.send)(piece)
            if chance.random() < 0.2:
                time.sleep(0.001)  # so that the daemon reads what there is

    def _read(self, talk: Talk, seconds: float = READ_S) -> None:
        """Take what comes within a time, or nothing of it."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            talk.sock.settimeout(left)
            try:
                if not talk.receive():
                    break
            except TimeoutError:
                break
            if self._chance.random() < 0.5:
                break
        talk.sock.settimeout(SEND_S)

    # ---- SOCKS

    def _socks(self, talk: Talk) -> None:
        chance = self._chance
        messages = headers.odd_socks(chance, self._world.target, users="users" in self.listener.kind)
        self.did.append(f"socks {messages!r:.200}")
        data = b"data" * chance.choice((0, 0, 1, 1000))
        if chance.random() < 0.3:
            self._pieces(talk, b"".join(messages) + data)
            return
        answer = b""
        for message in messages:
            self._pieces(talk, frames.spoiled(chance, message) if chance.random() < 0.1 else message)
            if chance.random() < 0.7:
                answer = self._answer(talk)
        if len(answer) == 10 and answer[:2] == b"\5\0":
            self._told_where(messages[-1][1:2], answer)
        talk.send(data)

    def _answer(self, talk: Talk) -> bytes:
        talk.sock.settimeout(LINGER_S)
        answer = talk.receive()
        talk.sock.settimeout(SEND_S)
        return answer

    def _told_where(self, command: bytes, answer: bytes) -> None:
        """Go where a BIND or a UDP ASSOCIATE says."""
        host, port = socket.inet_ntoa(answer[4:8]), struct.unpack("!H", answer[8:])[0]
        if command == b"\2":
            with suppress(OSError), socket.create_connection((host, port), SEND_S) as sock:
                sock.sendall(b"s from the other side")
            return
        if command != b"\3":
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(3):
                with suppress(OSError):
                    sock.sendto(headers.socks_datagram(self._chance, self._world.target), (host, port))

    # ---- the end

    def _leave(self, talk: Talk) -> None:
        chance = self._chance
        how = chance.choice(("close", "reset", "half", "half", "kept", "kept", "half-kept", "deaf", "read", "both"))
        self.did.append(how)
        with suppress(OSError, ssl.SSLError):
            match how:
                case "half":
                    talk.end() if chance.random() < 0.7 else talk.sock.shutdown(socket.SHUT_WR)
                    self._read(talk, LINGER_S)
                case "half-kept":
                    talk.sock.shutdown(socket.SHUT_WR)
                case "read":
                    self._read(talk, LINGER_S)
                case "both":
                    talk.sock.shutdown(socket.SHUT_RDWR)
                case "deaf":
                    talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    for _ in range(20):
                        talk.send(frames.wire_of(self._framing, b"g90"))
        if how in ("kept", "half-kept", "deaf"):
            self._kept.append(talk.sock)
            if len(self._kept) > self._world.kept:
                chance.choice((end_with_reset, socket.socket.close))(self._kept.popleft())
        elif how == "reset":
            end_with_reset(talk.sock)
        else:
            talk.close()

    # ---- many at once

    def _burst(self) -> None:
        """Connect many times, say little, and be gone at once: some of it in the very turn that begins to serve."""
        chance = self._chance
        self.did.append("burst")
        socks = []
        words = self._burst_words()
        for _ in range(BURST):
            with suppress(OSError):
                talk = self._connect()
                socks.append(talk.sock)
                talk.raw(words)
        if chance.random() < 0.5:
            time.sleep(chance.random() / 20)
        for sock in socks:
            chance.choice((end_with_reset, end_with_reset, socket.socket.close))(sock)

    def _burst_words(self) -> bytes:
        chance = self._chance
        if "proxy" in self.listener.way:
            return headers.right_header(chance)
        if "tls" in self.listener.way:
            return b"\x16\3\1"
        if self.listener.kind.startswith("socks"):
            return b"\5\1\0" + headers.socks5(b"localhost", self._world.target)
        return frames.wire_of(self._framing, b"z05") if chance.random() < 0.5 else b""

    # ---- datagrams

    def _datagrams(self) -> None:
        chance, listener = self._chance, self.listener
        with socket.socket(listener.family, listener.type) as sock:
            sock.settimeout(READ_S)
            if chance.random() < 0.8:
                self.did.append(bind_odd(sock, listener, chance, self._world, self._made))
            try:
                for _ in range(chance.choice((1, 1, 3, 30))):
                    data = self._datagram()
                    self.did.append(f"{data!r:.60} ({len(data)})")
                    with suppress(OSError):
                        sock.sendto(data, listener.sockaddr)
                        self._reached()
                if chance.random() < 0.5:
                    with suppress(OSError):
                        sock.recv(65_536)
            finally:
                forget_path(sock)

    def _datagram(self) -> bytes:
        chance = self._chance
        luck = chance.random()
        if luck < 0.1:
            return b""
        if luck < 0.2:
            return b"s00" * chance.choice((100, 20_000, 21_835, 21_836, 40_000))
        payload = frames.command(chance, self._world.raised, only=self._only_letter)
        if chance.random() < 0.3:
            payload = frames.wire_of(self._framing, payload)
        return frames.spoiled(chance, payload) if luck < 0.4 else payload


def play(world: World, seed: str, number: int, kept: deque, told) -> None:
    """Play one client; `told(list)` is given what it does, while it does it."""
    Client(world, random.Random(f"{seed} {number}"), kept, told).play()
