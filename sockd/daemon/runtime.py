# SPDX-License-Identifier: MIT
"""What a process serves with, made once its rights are dropped: the table of connections, the loop, threads, names."""

from __future__ import annotations

import logging
import os
import resource
import sys
import time
import weakref
from typing import TYPE_CHECKING

from sockd.daemon.instances import Runtime
from sockd.daemon.programs import ProgramRunner
from sockd.daemon.proxies import ProxyServers
from sockd.errors import ConfigurationError
from sockd.lazy import lazily
from sockd.log.failure import OURS
from sockd.net.connect.reverse_dns import ReverseDns
from sockd.net.connection import selector
from sockd.net.connection.group import GroupOptions
from sockd.net.connection.table import ConnectionTable
from sockd.net.listen.overload import RejectedConnections, SpareDescriptor
from sockd.net.loop.defects import Defects
from sockd.net.loop.thread_pool import ThreadPool
from sockd.process.stall_detector import StallDetector
from sockd.services.builtin import DISCARD
from sockd.wire.framing import Raw

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from sockd.daemon.startup import ServingProcess, Unprivileged
    from sockd.net.loop.loop import EventLoop
    from sockd.process import forked
    from sockd.settings import Settings
else:
    forked = lazily("sockd.process.forked", resident=True)

logger = logging.getLogger("sockd.daemon")

PAGE_CONNECTIONS = 16
"""Rows for the metrics service, beyond max_connections: a daemon at its limits must still report its health."""


OWN_DESCRIPTORS = 64
"""Descriptors kept free of connections: listeners, logs, what handlers open."""


SELECT_DESCRIPTORS = 1024
"""FD_SETSIZE of select(2); a descriptor past it cannot be waited for, so none is opened, by handlers neither."""


REFUSED = GroupOptions(
    framing=Raw(),
    serve=DISCARD,
    merge=False,
    announce=False,
    high_water=65_536,
    max_buffer=65_536,
    idle_timeout=1,
    frame_timeout=1,
    write_timeout=1,
    linger_timeout=1,
)
"""Rows for refused connections: a second to read the banner, and to be told apart from a reset."""


REFUSED_SHARE = 8
"""One in so many connections may be a refused one; a source above its limit gets no more of these."""


def room(settings: Settings, *, programs: int, forwarded: int) -> int:
    """Raise the limit of descriptors as far as possible, and return the number of connections that fit.

    Args:
        programs: maximum running at once.
        forwarded: descriptors that relays and SOCKS servers may need.

    Returns:
        max_connections, or what select(2) can wait for.

    Raises:
        ConfigurationError: listeners leave select(2) no connection.
    """
    wanted = settings.daemon.max_connections
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    selects = settings.daemon.multiplexer == "select"
    soft = SELECT_DESCRIPTORS if selects and not 0 <= hard < SELECT_DESCRIPTORS else hard  # RLIM_INFINITY is -1
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    own = OWN_DESCRIPTORS + programs
    own += min(forwarded, SELECT_DESCRIPTORS // 2) if selects else forwarded  # with select() they share what there is
    own += sum(len(listen.addresses) or 1 for listen in settings.listen)
    if hard != resource.RLIM_INFINITY and hard < wanted + own:
        event = {"max_connections": wanted, "descriptors": hard, "own": own}
        logger.warning("fewer descriptors than max_connections may need", extra={"event": event})
    if not selects or wanted + own <= SELECT_DESCRIPTORS:
        return wanted
    if own >= SELECT_DESCRIPTORS:
        raise ConfigurationError(
            f'"select" waits for {SELECT_DESCRIPTORS} descriptors (FD_SETSIZE), '
            f"{own - OWN_DESCRIPTORS} listeners leave none for a connection; use auto, epoll or poll",
            key=("daemon", "multiplexer"),
        )
    event = {"max_connections": wanted, "connections": SELECT_DESCRIPTORS - own, "descriptors": SELECT_DESCRIPTORS}
    logger.warning("select() cannot wait for that many connections; use another multiplexer", extra={"event": event})
    return SELECT_DESCRIPTORS - own


def make(
    process: ServingProcess, start: Unprivileged, stack: ExitStack, clock: Callable[[], float] = time.monotonic
) -> Runtime:
    """Make what the process serves with; the stack closes it.

    Args:
        clock: of the loop.

    Raises:
        ConfigurationError: as room().
        SystemFault: the table of connections cannot be made.
    """
    settings, resources = process.settings.current, start.resources
    daemon = settings.daemon
    capacity = room(settings, programs=resources.programs.max_running, forwarded=resources.proxies.max_descriptors)
    defects = Defects(clock)
    connections = ConnectionTable(
        size=capacity + PAGE_CONNECTIONS,
        kept=PAGE_CONNECTIONS,
        memory=daemon.max_memory,
        epoll=selector.waits_in_table(daemon.multiplexer),
        defects=defects,
    )
    stack.callback(connections.close)
    chosen = selector.choose(daemon.multiplexer, connections)
    stack.callback(chosen.close)
    loop = resources.loop_class(chosen, clock, defects)
    stack.callback(loop.close)
    _end_copies(connections, loop)
    pool = ThreadPool(daemon.threads, loop)
    stack.callback(pool.close)
    if daemon.stall_time:
        watch = StallDetector(daemon.stall_time, loop.clock)
        stack.callback(watch.close)
        loop.watch = watch
    forwarding = ProxyServers(resources.proxies, loop)
    stack.callback(forwarding.close)
    resolver = ReverseDns(loop)
    stack.callback(resolver.close)
    connections.find_name = resolver.known
    reserve = SpareDescriptor()
    stack.callback(reserve.close)
    return Runtime(
        connections=connections,
        loop=loop,
        pool=pool,
        resolver=resolver,
        executor=ProgramRunner(resources.programs, loop, process.lineage.files),
        forwarding=forwarding,
        refusals=RejectedConnections(connections, REFUSED, max(1, capacity // REFUSED_SHARE)),
        reserve=reserve,
        capacity=capacity,
        trace=process.context.trace,
    )


def _end_copies(connections: ConnectionTable, loop: EventLoop) -> None:
    """From now on, end processes that handlers fork where they return."""
    table, turns = weakref.ref(connections), weakref.ref(loop)

    def forked_here() -> None:
        if not sys._getframe(1).f_code.co_filename.startswith(OURS):  # else a process of our own
            forked.exit_when_done(table(), turns())

    os.register_at_fork(after_in_child=forked_here)


__all__ = ["make", "room"]
