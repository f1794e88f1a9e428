# SPDX-License-Identifier: MIT
"""What is to be served, as the daemon has it: resolved from settings, options and handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.process.program import Identity
    from sockd.services.api import BatchFunction, Hook, Reply, SessionFunction
    from sockd.settings import RelaySettings, SocksSettings
    from sockd.settings.limits import Limits
    from sockd.wire.framing import Framing


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program as it will be executed.

    Attributes:
        argv: the path and its arguments.
        user, group: as written; `identity` is what they came to, None: as the daemon.
        environment: NAME of what is kept, NAME=value of what is set.
        stderr: log, socket, null or a path.
        limits: (RLIMIT_*, soft, hard).
        wall: seconds; None for no limit.
        max_instances: that run at once.
    """

    argv: tuple[str, ...]
    user: str | None
    group: str | None
    environment: tuple[str, ...]
    stderr: str
    limits: tuple[tuple[int, int, int], ...]
    wall: float | None
    max_instances: int
    identity: Identity | None = None


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """A service as it will run: every limit decided, exactly one way to serve.

    Attributes:
        serve: number of a service of the C core (0: none, Python serves).
        function: answers a frame; `wants_connection` tells with how many arguments.
        is_async: calling it gives a coroutine; `max_in_flight` of them are worked on at once for a connection.
        batch: answers a list of frames of one connection.
        protocol: makes one object a connection.
        session: serves a connection as a coroutine.
        blocking: function, batch and datagram are called in threads.
        startup, shutdown: called before the first byte, and after the last.
        datagram: answers a datagram; None when it cannot.
        goodbye: payload of the last frame before a stop ends a connection; empty for none.
        program: is executed for each connection, which then is its own.
        relay: the connection is connected to a target.
        socks: the connection is a client of a SOCKS server.
        small: one that comes with sockd, whose datagrams must not make a loop or an amplifier.
        trace: each frame is a line of the log.
        pages: the daemon's own, which are answered however many connections others have.
    """

    name: str
    framing: Framing
    limits: Limits
    serve: int = 0
    function: Callable[..., Reply] | None = None
    wants_connection: bool = False
    is_async: bool = False
    max_in_flight: int = 1
    batch: BatchFunction | None = None
    protocol: Callable[[], object] | None = None
    session: SessionFunction | None = None
    blocking: bool = False
    startup: tuple[Hook, ...] = ()
    shutdown: tuple[Hook, ...] = ()
    datagram: Callable[[bytes], bytes | None] | None = None
    goodbye: bytes = b""
    program: Program | None = None
    relay: RelaySettings | None = None
    socks: SocksSettings | None = None
    small: bool = False
    trace: bool = False
    pages: bool = False

    @property
    def has_connections(self) -> bool:
        """Whether its handler has the Connection of whom it speaks to."""
        speaks = self.protocol is not None or self.session is not None or self.wants_connection or self.is_async
        return speaks and not self.blocking

    @property
    def most(self) -> int | None:
        """How many connections may be served at once; None for no limit of the service."""
        return self.program.max_instances if self.program else self.limits.max_connections


__all__ = ["Program", "ServiceSpec"]
