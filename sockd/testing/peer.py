# SPDX-License-Identifier: MIT
"""A peer for a handler's own tests: the client's side of one connection."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from itertools import chain, repeat
from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.connection.peers import ProxyInfo
from sockd.testing.facts import parse_client, parse_header
from sockd.testing.stage import PIECE_BYTES, TURN_SECONDS, Stage, make_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from sockd.testing.facts import Tls
    from sockd.wire.close_reason import CloseReason


def connect(
    found: object,
    *,
    client: tuple[str, int] | None = None,
    proxy_header: bytes = b"",
    tls: Tls | None = None,
    starttls: Tls | None = None,
) -> Peer:
    """Connect to a handler: a function, a protocol class, a sockd.Service, or `module:attribute`.

    Args:
        found: the handler.
        client: numeric address and port that the connection says it comes from.
        proxy_header: of version 1 or 2, as a proxy sends it before the client's first byte; `client` is the proxy then.
        tls: the connection is encrypted, and `get_extra_info` tells this of it.
        starttls: the handler may call `start_tls()`, and learns this then.

    Raises:
        ValueError: client is no numeric address and port, or proxy_header is no PROXY header.
        HandlerError: found is no handler, cannot be imported, or its startup failed.
        RuntimeError: an event loop runs in this thread, and the handler needs one of its own.
    """
    return Peer(found, client, proxy_header, tls, starttls)


def answer(found: object, data: bytes, *, sizes: Iterable[int] = (), timeout: float = 5.0) -> bytes:
    """Return all that a handler answers to a client that sends this and then ends its side.

    Args:
        found: the handler, as for connect().
        data: what the client sends.
        sizes: of the pieces in which the bytes arrive; the last one is repeated: (1,) is byte by byte.
        timeout: seconds that a coroutine may take, where it awaits something.

    Raises:
        TimeoutError: a coroutine has not ended by then.
    """
    with connect(found) as peer:
        peer.send(data, sizes=sizes)
        peer.end()
        peer._finish(timeout)
        return peer.received()


class Peer:
    """The client's side of a connection to a handler; a context manager."""

    def __init__(
        self,
        found: object,
        client: tuple[str, int] | None = None,
        proxy_header: bytes = b"",
        tls: Tls | None = None,
        starttls: Tls | None = None,
    ) -> None:
        address = None if client is None else parse_client(client)
        proxied = None
        if proxy_header:
            proxy = address or SocketAddress(socket.AF_UNIX)
            address, header = parse_header(proxy_header)
            address, proxied = address or proxy, ProxyInfo(proxy, header)
        self._stage = Stage(make_spec(found), 1, time.monotonic, starttls=starttls)
        with ExitStack() as stack:
            stack.callback(self._stage.close)
            self._link = self._stage.connect(address, tls, proxied)
            self._run_until_idle()
            stack.pop_all()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect, and let the handler know."""
        self._link.sock.close()
        try:
            self._run_until_idle()
        finally:
            self._stage.close()

    # ---- what a client does

    def send(self, data: bytes | bytearray | memoryview, *, sizes: Iterable[int] = ()) -> None:
        """Deliver bytes to the handler, and run it.

        Args:
            sizes: of the pieces in which they arrive, one in each turn; the last one is repeated; all at once if none.

        Raises:
            BrokenPipeError: the handler's side is closed, or end() was called.
            TypeError: data are not bytes-like.
        """
        data = bytes(data if isinstance(data, bytes) else memoryview(data))  # bytes(5) would be five zeros
        given = [*sizes]
        at = 0
        for size in chain(given, repeat(given[-1] if given else PIECE_BYTES)):
            if at >= len(data):
                break
            piece = data[at : at + max(1, size)]
            at += len(piece)
            self._send(piece)
        self._run_until_idle()

    def _send(self, piece: bytes) -> None:
        while piece:
            try:
                piece = piece[self._link.sock.send(piece) :]
            except BlockingIOError:
                self._run_until_idle()
            self._stage.turn(self._link)

    def end(self) -> None:
        """End our side (FIN); what the handler still sends can be received."""
        self._link.sock.shutdown(socket.SHUT_WR)
        self._run_until_idle()

    def run(self, seconds: float) -> None:
        """Let time pass, for timers and deadlines."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._stage.loop.run_once(min(left, TURN_SECONDS))
            self._link.receive()
        self._run_until_idle()

    # ---- what it sees

    def received(self, *, timeout: float = 0.0) -> bytes:
        """Return, and forget, what the handler has sent.

        Args:
            timeout: seconds to wait until there is something, or the handler's side has closed: for a coroutine that
                awaits a timer or another server.  Calls in threads (`asyncio.to_thread`, blocking functions) are always
                waited for.
        """
        self._run_while(timeout, lambda: not (self._link.accepted or self._link.has_ended))
        accepted = bytes(self._link.accepted)
        self._link.accepted.clear()
        return accepted

    @property
    def close_reason(self) -> CloseReason:
        """Why the connection closed, NONE while it is open."""
        return self._stage.close_reason(self._link)

    @property
    def ended(self) -> bool:
        """Whether the handler's side has closed (its FIN was received)."""
        return self._link.has_ended

    def _finish(self, timeout: float) -> None:
        """Wait for coroutines (for answer())."""
        groups = self._stage.connections.groups
        if not self._run_while(timeout, lambda: groups.at_work > 0 and not self._link.has_ended):
            raise TimeoutError(f"the handler has not ended {timeout:g} s after the client; give more with timeout=")

    def _run_while(self, seconds: float, condition: Callable[[], bool]) -> bool:
        """Let time pass while a condition holds; False when it still does at the end."""
        end = time.monotonic() + seconds
        while condition() and time.monotonic() < end:
            self._stage.loop.run_once(TURN_SECONDS)
            self._run_until_idle()
        return not condition()

    def _run_until_idle(self) -> None:
        self._stage.run_until_idle(self._link)


__all__ = ["Peer", "answer", "connect"]
