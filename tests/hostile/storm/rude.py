# SPDX-License-Identifier: MIT
"""The target of relays and SOCKS clients: takes connections and is rude to some; echoes to those who say "s" first."""

from __future__ import annotations

import random
import selectors
import socket
import threading
from contextlib import suppress

from storm.peers import end_with_reset

MOST = 500


class Target:
    """Listens on a Unix path and a port of 127.0.0.1, in a thread.

    An honest client's first byte is s: its bytes come back, and its end behind them.  With a PROXY header before it the
    header is left out.
    """

    def __init__(self, path: str, seed: str) -> None:
        self._chance = random.Random(f"{seed} target")
        self._ready = selectors.DefaultSelector()
        self._over = False
        unix, tcp = socket.socket(socket.AF_UNIX), socket.socket()
        unix.bind(path)
        tcp.bind(("127.0.0.1", 0))
        self.port = tcp.getsockname()[1]
        for listener in (unix, tcp):
            listener.listen(500)
            listener.setblocking(False)
            self._ready.register(listener, selectors.EVENT_READ, self._accept)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over:
            for key, _ in self._ready.select(0.2):
                key.data(key.fileobj)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            sock, _ = listener.accept()
            sock.setblocking(False)
            self._ready.register(sock, selectors.EVENT_READ, self._first)
            if len(self._ready.get_map()) > MOST:
                self._drop(next(key.fileobj for key in self._ready.get_map().values() if key.data != self._accept))

    def _drop(self, sock: socket.socket, how=socket.socket.close) -> None:
        self._ready.unregister(sock)
        how(sock)

    def _first(self, sock: socket.socket) -> None:
        """Look at what comes first, behind a header of version 2."""
        try:
            data = sock.recv(65_536, socket.MSG_PEEK)
            if data.startswith(b"\r\n\r\n\0\r\nQUIT\n"):
                if len(data) >= 16:
                    sock.recv(16 + int.from_bytes(data[14:16], "big"))
                return
        except OSError:
            self._drop(sock)
            return
        if data.startswith(b"s"):
            self._ready.modify(sock, selectors.EVENT_READ, self._echo)
            return
        self._be_rude(sock)

    def _echo(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(65_536)
            if data:
                sock.settimeout(1)
                sock.sendall(data)
                sock.setblocking(False)
                return
        except OSError:
            pass
        self._drop(sock)

    def _be_rude(self, sock: socket.socket) -> None:
        with suppress(OSError):
            match self._chance.randrange(6):
                case 0:
                    self._drop(sock, end_with_reset)
                case 1:
                    sock.send(b"unasked " * 1000)
                    self._drop(sock)
                case 2:
                    sock.shutdown(socket.SHUT_WR)
                    self._ready.modify(sock, selectors.EVENT_READ, self._swallow)
                case 3:
                    self._ready.unregister(sock)
                    self._ready.register(sock, selectors.EVENT_WRITE, self._flood)
                case 4:
                    self._drop(sock)
                case _:
                    self._ready.modify(sock, selectors.EVENT_READ, self._swallow)

    def _swallow(self, sock: socket.socket) -> None:
        try:
            if sock.recv(65_536):
                return
        except OSError:
            pass
        self._drop(sock)

    def _flood(self, sock: socket.socket) -> None:
        try:
            sock.send(b"flood " * 10_000)
            if self._chance.random() < 0.9:
                return
        except OSError:
            pass
        self._drop(sock)

    def close(self) -> None:
        self._over = True
        self._thread.join(10)
        for key in [*self._ready.get_map().values()]:
            self._drop(key.fileobj)
        self._ready.close()
