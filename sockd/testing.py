# SPDX-License-Identifier: MIT
"""A peer for a handler's own tests: the real framing, buffers and connection, without an address and without a process.

    from sockd import testing

    def test_greet():
        with testing.connect(app.greet) as peer:
            peer.send(b"wor")
            assert peer.received() == b""
            peer.send(b"ld\\n")
            assert peer.received() == b"hello world\\n"

Everything happens within the calls of the peer, in the caller's thread: after `send` returns, the handler has
answered what it could.  Between the two sides is a socket pair, so that a `connection.peer` is `unix:` unless a
client's address is given.
"""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from itertools import chain, repeat
from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.connection import selector
from sockd.net.connection.table import ConnectionTable
from sockd.net.loop.defects import Defects
from sockd.net.loop.loop import loop_class
from sockd.net.loop.thread_pool import ThreadPool
from sockd.services import hooks, loader, resolve
from sockd.services.handlers import group_of, sink_of
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = ["Peer", "answer", "connect"]

MEMORY_BYTES = 256 * 1024 * 1024
PIECE_BYTES = 64 * 1024
CALM_TURNS = 3
"""Turns without a byte, a frame or a callback after which nothing more comes of itself."""
TURN_SECONDS = 0.01
THREADS = 1
"""Of blocking handlers: there is one connection."""


def connect(found: object, *, client: tuple[str, int] | None = None) -> Peer:
    """Connect to a handler: a function, a protocol class, a sockd.Service, or `module:attribute`.

    Args:
        found: the handler.
        client: numeric address and port that the connection says it comes from.

    Raises:
        HandlerError: it is no handler, cannot be imported, or its startup failed.
    """
    return Peer(found, client)


def answer(found: object, data: bytes, *, sizes: Iterable[int] = ()) -> bytes:
    """Return all that a handler answers to a client that sends this and then ends its side.

    Args:
        sizes: of the pieces in which the bytes arrive; the last one is repeated: (1,) is byte by byte.
    """
    with connect(found) as peer:
        peer.send(data, sizes=sizes)
        peer.end()
        return peer.received()


class _Raised(Defects):
    """Lets a test see a defect of sockd."""

    def report(self, error: BaseException) -> None:
        """Raise it."""
        raise error


class Peer:
    """The client's side of a connection to a handler; a context manager."""

    def __init__(self, found: object, client: tuple[str, int] | None) -> None:
        name = found if isinstance(found, str) else "the handler"
        service = loader.find(found) if isinstance(found, str) else loader.as_service(found, name)
        self._spec = resolve.of_service(name, service)
        self._reason = CloseReason.NONE
        self._accepted = bytearray()
        self._ended = False
        self._stack = ExitStack()
        defects = _Raised(time.monotonic)
        with ExitStack() as stack:
            self._set = ConnectionTable(
                size=1, memory=MEMORY_BYTES, epoll=selector.waits_in_set("auto"), defects=defects
            )
            stack.callback(self._set.close)
            chosen = selector.choose("auto", self._set)
            stack.callback(chosen.close)
            self._loop = loop_class(asyncio=self._spec.kind.may_use_asyncio)(chosen, time.monotonic, defects)
            stack.callback(self._loop.close)
            self._pool = ThreadPool(THREADS, self._loop)
            stack.callback(self._pool.close)
            hooks.start([self._spec], stack, self._loop)
            self._sock, theirs = socket.socketpair()
            stack.callback(self._sock.close)
            self._sock.setblocking(False)
            theirs.setblocking(False)
            group = self._set.add_group(group_of(self._spec), sink_of(self._spec, self._set, self._loop, self._pool))
            self._set.when_ended(group, self._told_end)
            id = self._set.add(theirs, group)
            assert id is not None  # it is the first one
            self._id = id
            if client is not None:
                self._set.peers.name(id, SocketAddress.told(*client))
            self._settle()
            self._stack = stack.pop_all()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect, and let the handler know."""
        self._sock.close()
        self._settle()
        self._stack.close()

    def _told_end(self, id: int) -> None:
        self._reason = self._set.info(id).reason

    # ---- what a client does

    def send(self, data: bytes | bytearray | memoryview, *, sizes: Iterable[int] = ()) -> None:
        """Have bytes arrive at the handler, and the handler do what it does of it.

        Args:
            sizes: of the pieces in which they arrive, one in each turn; the last one is repeated; all at once if none.

        Raises:
            BrokenPipeError: the handler's side is closed.
        """
        data = bytes(data)
        given = [*sizes]
        at = 0
        for size in chain(given, repeat(given[-1] if given else PIECE_BYTES)):
            if at >= len(data):
                break
            piece = data[at : at + max(1, size)]
            at += len(piece)
            self._send(piece)
        self._settle()

    def _send(self, piece: bytes) -> None:
        while piece:
            try:
                piece = piece[self._sock.send(piece) :]
            except BlockingIOError:
                self._settle()
            self._turn()

    def end(self) -> None:
        """End our side (FIN); what the handler still sends can be received."""
        self._sock.shutdown(socket.SHUT_WR)
        self._settle()

    def run(self, seconds: float) -> None:
        """Let time pass, for timers and deadlines."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._loop.run_once(min(left, TURN_SECONDS))
            self._receive()
        self._settle()

    # ---- what it sees

    def received(self) -> bytes:
        """Return, and forget, what the handler has sent."""
        accepted = bytes(self._accepted)
        self._accepted.clear()
        return accepted

    @property
    def close_reason(self) -> CloseReason:
        """Why the connection ended, NONE while it lives."""
        return self._reason or (self._set.info(self._id).reason if self._ended else CloseReason.NONE)

    @property
    def ended(self) -> bool:
        """Whether the handler's side has ended (its FIN came)."""
        return self._ended

    # ---- turns

    def _turn(self) -> bool:
        """Run one turn; tell whether anything moved."""
        before = self._moved()
        self._loop.run_once(TURN_SECONDS if self._pool.at_work else 0)
        self._receive()
        return bool(self._pool.at_work) or self._loop.is_busy or self._moved() != before

    def _moved(self) -> tuple[int, ...]:
        if self._reason:
            return len(self._accepted), self._ended
        info = self._set.info(self._id)
        return info.received, info.sent, len(self._accepted), self._ended

    def _settle(self) -> None:
        calm = 0
        while calm < CALM_TURNS:
            calm = 0 if self._turn() else calm + 1

    def _receive(self) -> None:
        if self._sock.fileno() < 0:
            return
        try:
            while not self._ended:
                piece = self._sock.recv(PIECE_BYTES)
                self._accepted += piece
                self._ended = not piece
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self._ended = True
