# SPDX-License-Identifier: MIT
"""What a handler runs on in its tests: the real table of connections and the real loop, without an address.

Everything happens within the calls of whoever holds the stage, in the caller's thread.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from sockd.lazy import lazily
from sockd.net.connection import selector
from sockd.net.connection.table import ConnectionTable
from sockd.net.loop.defects import Defects
from sockd.net.loop.loop import loop_class
from sockd.net.loop.thread_pool import ThreadPool
from sockd.services import hooks, loader, resolve
from sockd.services.handlers import group_options, make_sink
from sockd.testing.facts import PlainStream, StartedTls

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connection.peers import ProxyInfo
    from sockd.net.loop import asyncio_loop
    from sockd.net.loop.loop import EventLoop
    from sockd.net.tls.stream import TlsStream
    from sockd.services.spec import ServiceSpec
    from sockd.testing.facts import Tls
    from sockd.wire.close_reason import CloseReason
else:
    asyncio_loop = lazily("sockd.net.loop.asyncio_loop")

MEMORY_BYTES = 256 * 1024 * 1024
PIECE_BYTES = 64 * 1024
CALM_TURNS = 3
"""Turns without a byte, a frame or a callback after which nothing more comes of itself."""
TURN_SECONDS = 0.01
THREADS = 1
"""Of blocking handlers: their calls come one after the other, so that tests are the same each time."""


class _Raised(Defects):
    """Lets a test see a defect of sockd."""

    def report(self, error: BaseException) -> None:
        """Raise it."""
        raise error


def make_spec(found: object) -> ServiceSpec:
    """Return the service of a function, a protocol class, a sockd.Service, or `module:attribute`.

    Raises:
        HandlerError: it is no handler, or cannot be imported.
    """
    name = found if isinstance(found, str) else "the handler"
    service = loader.find(found) if isinstance(found, str) else loader.as_service(found, name)
    return resolve.resolve_service(name, service)


class ExecutorCalls:
    """Counts the calls that coroutines have in threads (`asyncio.to_thread`): tests wait for them.

    Args:
        loop: whose calls.

    Attributes:
        running: calls whose results the loop does not have yet.
    """

    def __init__(self, loop: EventLoop) -> None:
        self.running = 0
        if isinstance(loop, asyncio_loop.AsyncioLoop):
            self._run = loop.asyncio.run_in_executor
            loop.asyncio.run_in_executor = self._counted  # type: ignore[method-assign,assignment]

    def _counted(
        self, executor: Executor | None, function: Callable[..., object], *args: object
    ) -> asyncio.Future[object]:
        future = self._run(executor, function, *args)
        self.running += 1
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _future: asyncio.Future[object]) -> None:
        self.running -= 1


class Link:
    """One connection to a handler: the client's socket, and what came of it.

    Attributes:
        sock: the client's side.
        id: of the row.
        accepted: what the handler has sent and nobody has taken.
        has_ended: the handler's FIN, or its reset, has come.
        reason: why the connection ended, NONE while it lives.
    """

    def __init__(self, sock: socket.socket, id: int, reason: CloseReason) -> None:
        self.sock = sock
        self.id = id
        self.accepted = bytearray()
        self.has_ended = False
        self.reason = reason

    def receive(self) -> None:
        """Take what has come."""
        if self.sock.fileno() < 0:
            return
        try:
            while not self.has_ended:
                piece = self.sock.recv(PIECE_BYTES)
                self.accepted += piece
                self.has_ended = not piece
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.has_ended = True

    def close(self) -> None:
        """Close the client's side."""
        self.sock.close()


class Stage:
    """A handler's service, started, with room for some connections; closed by close().

    Args:
        spec: of the service.
        size: connections at most.
        clock: seconds, never going back.
        starttls: what a handler learns that calls start_tls(); None: it cannot.

    Raises:
        HandlerError: its startup failed.
        RuntimeError: it needs an event loop, and another one runs in this thread.
    """

    def __init__(
        self, spec: ServiceSpec, size: int, clock: Callable[[], float], *, starttls: Tls | None = None
    ) -> None:
        if spec.kind.may_use_asyncio and asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "sockd.testing runs this handler in an event loop of its own, and one runs in this thread already: "
                "make the test a plain function, or call it by asyncio.to_thread()"
            )
        self.spec = spec
        self._starttls = starttls
        self._stack = ExitStack()
        defects = _Raised(clock)
        with ExitStack() as stack:
            self.connections = ConnectionTable(
                size=size, memory=MEMORY_BYTES, epoll=selector.waits_in_table("auto"), defects=defects
            )
            stack.callback(self.connections.close)
            chosen = selector.choose("auto", self.connections)
            stack.callback(chosen.close)
            self.loop = loop_class(asyncio=spec.kind.may_use_asyncio)(chosen, clock, defects)
            stack.callback(self.loop.close)
            self.pool = ThreadPool(THREADS, self.loop)
            stack.callback(self.pool.close)
            self._calls = ExecutorCalls(self.loop)
            hooks.start([spec], stack, self.loop)
            self._links: dict[int, Link] = {}
            self._group = self._begin()
            self._stack = stack.pop_all()

    def close(self) -> None:
        """End everything, and run the shutdown hooks."""
        for link in self._links.values():
            link.close()
        self._stack.close()

    def _begin(self) -> int:
        sink = make_sink(self.spec, self.connections, self.loop, self.pool)
        group = self.connections.groups.add(group_options(self.spec), sink)
        self.connections.groups.when_ended(group, self._reported_end)
        if self._starttls is not None:
            self.connections.tls.offer(group, StartedTls(self._starttls, self.loop))
        return group

    def reload(self) -> None:
        """Serve connections that come from now on as after a reload; those that are there go on as they were."""
        self._group = self._begin()

    def connect(
        self, client: SocketAddress | None = None, tls: Tls | None = None, proxied: ProxyInfo | None = None
    ) -> Link:
        """Add a connection.

        Args:
            client: who it says it is; None: as the socket pair has it.
            tls: it begins encrypted.
            proxied: what a proxy has said of it.
        """
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        theirs.setblocking(False)
        id = self.connections.add(theirs, self._group, client, proxied)
        if id is None:
            raise RuntimeError("more connections than the stage has room for")
        link = self._links[id] = Link(mine, id, self.connections.info(id).reason)
        if tls is not None:
            self.connections.tls.secure(id, cast("TlsStream", PlainStream(tls)))
        return link

    def _reported_end(self, id: int) -> None:
        self._links[id].reason = self.connections.info(id).reason

    def close_reason(self, link: Link) -> CloseReason:
        """Return why a connection ended, as soon as its end can be seen."""
        return link.reason or (self.connections.info(link.id).reason if link.has_ended else link.reason)

    # ---- turns

    def turn(self, *links: Link) -> bool:
        """Run one turn, and take what came of it; tell whether anything moved."""
        before = [self._moved(link) for link in links]
        self.loop.run_once(TURN_SECONDS if self._has_threads_at_work else 0)
        for link in links:
            link.receive()
        return self._has_threads_at_work or self.loop.is_busy or [self._moved(link) for link in links] != before

    @property
    def _has_threads_at_work(self) -> bool:
        return self.pool.at_work + self._calls.running > 0

    def _moved(self, link: Link) -> tuple[int, ...]:
        if link.reason:
            return len(link.accepted), link.has_ended
        info = self.connections.info(link.id)
        return info.received, info.sent, len(link.accepted), link.has_ended

    def run_until_idle(self, *links: Link, max_turns: int = 1_000_000) -> bool:
        """Run turns until nothing more comes of itself; False after so many."""
        calm = 0
        for _ in range(max_turns):
            calm = 0 if self.turn(*links) else calm + 1
            if calm >= CALM_TURNS:
                return True
        return False


__all__ = ["PIECE_BYTES", "TURN_SECONDS", "Link", "Stage", "make_spec"]
