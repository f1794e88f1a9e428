# SPDX-License-Identifier: MIT
"""inetd mode: a daemon that serves its standard input (FAQ IV.3).

nowait: one connection, until its end; no daemon is made around it before the first signal, which only a daemon knows
to act on.  wait: the listening or datagram socket, until no client has come for `inetd_timeout`; then the process
exits, and the parent waits for the next client again. All else is as in every daemon: the same table, framings,
deadlines and log, which goes to syslog, because standard output and standard error belong to the client.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
from contextlib import ExitStack
from functools import cached_property, partial
from typing import TYPE_CHECKING, assert_never

from sockd.daemon import runtime
from sockd.daemon.context import StartContext
from sockd.daemon.startup import ServingProcess, Start
from sockd.errors import HandlerError, SockdError, SystemFault, fault
from sockd.lazy import lazily, load_resident
from sockd.log import format as log_format
from sockd.log import targets
from sockd.log.format import OwnHandler
from sockd.net.address.address import Address
from sockd.net.address.sockaddr import Endpoint, SocketAddress
from sockd.process.inetd_stdio import StandardStreams, StdinKind, parse_peer
from sockd.services import hooks
from sockd.services.families import ProxyKind, TableKind, WaitKind
from sockd.services.handlers import group_options, make_sink
from sockd.settings.listen import ListenSettings
from sockd.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.daemon import daemon as serving_daemon
    from sockd.daemon import listeners, stdio_bridge, worker_processes
    from sockd.daemon.daemon import Daemon
    from sockd.daemon.instances import Runtime
    from sockd.daemon.plan import ListenerPlan
    from sockd.daemon.startup import Opened
    from sockd.net.address.sockaddr import SockAddr
    from sockd.net.listen import bind, options
    from sockd.net.loop import turns
    from sockd.net.loop.loop import Timer
    from sockd.process.inherited_sockets import InheritedSockets
    from sockd.process.privileges import Wanted
    from sockd.process.signals import Signals
    from sockd.services import given_kinds
    from sockd.settings import DaemonSettings, LogSettings, Settings
else:
    listeners = lazily("sockd.daemon.listeners")
    serving_daemon = lazily("sockd.daemon.daemon")
    stdio_bridge = lazily("sockd.daemon.stdio_bridge")
    worker_processes = lazily("sockd.daemon.worker_processes")
    options = lazily("sockd.net.listen.options")
    bind = lazily("sockd.net.listen.bind")
    turns = lazily("sockd.net.loop.turns")
    given_kinds = lazily("sockd.services.given_kinds")

logger = logging.getLogger("sockd.inetd")

INHERITED = Address("fd", name="0")
"""Standard input, as a listener's address."""


class Silent(OwnHandler):
    """A log that drops everything: there is no syslog, and the client must not get it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Drop it."""


def open_log(settings: LogSettings, owner: tuple[int, int] | None = None) -> OwnHandler:
    """Log to syslog, or as the settings say; never to standard error, and nowhere without a syslog.

    Raises: SystemFault, PermissionFault: a file or a journal in the settings cannot be opened.
    """
    if settings.to not in (None, "stderr", "syslog"):
        return targets.open_target(settings, owner=owner)
    try:
        return targets.open_target(replace(settings, to="syslog"), owner=owner)
    except SockdError:
        return log_format.install(settings, Silent())


def inetd_settings(settings: Settings, service: str) -> Settings:
    """Return settings that serve one service on no address, without pid file and control socket."""
    daemon = replace(settings.daemon, pidfile=None, control=None)
    return replace(settings, daemon=daemon, listen=(ListenSettings(service=service),))


class StandardInput:
    """Standard input, as it is served.

    Args:
        streams: standard input and output.
    """

    def __init__(self, streams: StandardStreams) -> None:
        self.streams = streams

    @property
    def is_one(self) -> bool:
        """Whether it is one connection, or is treated as one."""
        return self.streams.kind in (StdinKind.CONNECTION, StdinKind.PLAIN)

    def listen(self, plans: list[ListenerPlan], _passed: InheritedSockets, stack: ExitStack) -> list[Opened]:
        """Adopt the listening or datagram socket, which the parent keeps: only the descriptor here is closed."""
        plan, streams = plans[0], self.streams
        if self.is_one:
            return []
        stack.callback(streams.close)
        spec = plan.service
        if streams.kind is StdinKind.DATAGRAMS and not spec.kind.answers_datagrams:
            raise HandlerError(
                f"--inetd: standard input is a datagram socket, and service {spec.name} cannot answer datagrams"
            )
        fd = streams.source
        was_blocking = os.get_blocking(fd)
        sock = socket.socket(fileno=os.dup(fd))
        sock.setblocking(False)
        if was_blocking:
            stack.callback(os.set_blocking, fd, True)
        endpoint = Endpoint(socket.AddressFamily(sock.family), sock.type, sock.proto, _name(sock.getsockname()))
        options.set_inherited(sock, endpoint, plan.settings)
        listening = bind.ServerSocket(sock, endpoint, is_ours=False)
        stack.callback(listening.close)
        return [(INHERITED, listening, plan)]


class IdleWatch:
    """wait: stops a daemon without clients.

    Args:
        daemon: whose loop is stopped then.
        seconds: without a client.
    """

    def __init__(self, daemon: Daemon, seconds: float) -> None:
        self._serving = daemon.serving
        self._loop = daemon.serving.tools.loop
        self._seconds = seconds
        self._seen = -1
        self._timer: Timer | None = None
        turns.TurnWatch(self._loop, self._look)

    @property
    def _accepted(self) -> int:
        return sum(served.listener.counts.accepted for served in self._serving.listeners)

    def _look(self) -> None:
        """See whether somebody came, or is there: then the time begins anew."""
        is_busy = self._serving.count() > 0
        if (is_busy or self._accepted != self._seen) and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._seen = self._accepted
        if self._timer is None and not is_busy:
            self._timer = self._loop.call_later(self._seconds, self._end)

    def _end(self) -> None:
        self._timer = None
        if self._serving.count() or self._accepted != self._seen:
            return  # somebody came in this very turn, which is looked at behind it
        logger.info("idle", extra={"event": {"seconds": self._seconds, "served": self._seen}})
        self._loop.stop()


class OneConnection:
    """nowait: serves one connection, or what is treated as one, to its end.

    Args:
        tools: with which it is served.
        plan: its service.
        streams: standard input and output; closed when they are not needed any more.
        compose: makes a daemon, which knows what to do on a signal, and how to drain.
    """

    def __init__(
        self, tools: Runtime, plan: ListenerPlan, streams: StandardStreams, compose: Callable[[], Daemon]
    ) -> None:
        self._tools = tools
        self._loop = tools.loop
        self._plan = plan
        self._streams = streams
        self._compose = compose
        self._timer: Timer | None = None
        self._is_served = False

    @cached_property
    def _daemon(self) -> Daemon:
        return self._compose()

    def serve(self, signals: Signals, stack: ExitStack) -> None:
        """Start what the service starts, and serve.

        Raises:
            SystemFault: standard output is closed, or standard input cannot be served.
        """
        hooks.start([self._plan.service], stack, self._loop)
        self._begin()
        signalled = partial(self._signalled, signals)
        self._loop.watch_fd(signals.fileno(), selectors.EVENT_READ, signalled, urgent=True)
        self._loop.run()
        if not self._is_served:
            self._daemon.drain()

    def _signalled(self, signals: Signals) -> None:
        """Have a daemon act on the first signal, and on all later ones."""
        try:
            self._daemon.act_on_signals()
        except (SystemFault, OSError):  # its files are another version's by now: only what ends something is done
            actions = {signal.SIGCHLD: self._tools.executor.reap}
            actions |= dict.fromkeys((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT), self._loop.stop)
            signals.act({number: partial(self._loop.attempt, act) for number, act in actions.items()})
            signals.handle()

    def _begin(self) -> None:
        if self._streams.kind is StdinKind.CONNECTION:
            sock = socket.socket(fileno=os.dup(self._streams.source))
            self._streams.close()  # its end is seen by the peer when ours is the last one
            self._connect(sock, self._served)
        else:
            self._join()

    def _join(self) -> None:
        """Serve a pipe, a terminal or a file."""
        if self._streams.sink < 0:
            raise SystemFault("--inetd: standard output is closed; the service's replies are written to it")
        loop = self._loop
        bridge = stdio_bridge.Bridge(
            self._streams.source,
            self._streams.sink,
            timeout=self._plan.service.limits.write_timeout,
            ended=lambda: loop.call_soon_threadsafe(loop.stop),
        )

        def served() -> None:
            self._is_served = True
            bridge.report_progress(lambda: loop.call_soon_threadsafe(self._output_moved))
            self._output_moved()

        self._connect(bridge.socket, served)
        bridge.start()

    def _connect(self, sock: socket.socket, served: Callable[[], None]) -> None:
        spec, tools = self._plan.service, self._tools
        announced = parse_peer(os.environ)
        known = tools.connections.find_name
        tools.connections.find_name = lambda host: (announced.name if host == announced.host else None) or known(host)
        peer = SocketAddress.query_peer(sock.fileno())
        if not peer.host and not peer.name and announced.host:
            peer = SocketAddress.parse(announced.host, announced.port)
        if sock.family != socket.AF_UNIX:
            endpoint = Endpoint(socket.AddressFamily(sock.family), sock.type, sock.proto, _name(sock.getsockname()))
            options.set_inherited(sock, endpoint, self._plan.settings)
        match spec.kind:
            case TableKind():
                self._add(sock, peer, served)
            case given_kinds.TcpmuxKind():
                server = tools.executor.tcpmux(spec.name, spec.kind, tools.resolver, tools.refusals)
                server.serve(sock, peer, lambda *_why: served())
            case given_kinds.ExecKind(program=program):
                tools.executor.service(spec.name, program, tools.connections.find_name).serve(
                    sock, peer, lambda *_why: served()
                )
            case WaitKind():
                text = f"service {spec.name} has wait = true, and standard input is a connection; remove wait"
                raise HandlerError(f"--inetd: {text}")
            case ProxyKind():
                sock.setblocking(False)  # splice(2) cannot be told call by call not to wait for a socket
                tools.forwarding.server(spec, spec.kind).serve(sock, peer, served)
            case _:
                assert_never(spec.kind)

    def _add(self, sock: socket.socket, peer: SocketAddress, served: Callable[[], None]) -> None:
        spec, tools = self._plan.service, self._tools
        group = tools.connections.groups.add(
            group_options(spec), make_sink(spec, tools.connections, self._loop, tools.pool)
        )
        tools.connections.groups.when_ended(group, lambda _: served())
        try:
            tools.connections.add(sock, group, peer)  # the table is empty, so it has a place
        except OSError as error:
            raise fault(error, "--inetd: standard input") from None

    def _served(self) -> None:
        self._is_served = True
        self._loop.call_soon(self._loop.stop)

    def _output_moved(self) -> None:
        """Wait for what is on its way to a pipe or a terminal, as long as some of it moves."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._plan.service.limits.write_timeout, self._output_stuck)

    def _output_stuck(self) -> None:
        logger.warning("standard output takes no more data, the rest is dropped")
        self._loop.stop()


def run(settings: Settings, streams: StandardStreams) -> None:
    """Serve what standard input is.

    Args:
        settings: as inetd_settings() gives them.
        streams: standard input and output; closed at the end.

    Raises:
        SockdError: as sockd.daemon.daemon.run(); or standard input, or output, cannot be served.
    """
    source = StandardInput(streams)
    if source.is_one:
        settings = replace(settings, daemon=replace(settings.daemon, max_connections=1))
    else:
        load_resident()
    process = ServingProcess.create(settings, StartContext(ready=lambda _: None, root_may_stay=True))

    def log(daemon: DaemonSettings, wanted: Wanted) -> OwnHandler:
        return open_log(daemon.log, wanted.owner)

    with ExitStack() as stack:
        start = Start(process, stack, log, source.listen).run()
        tools = runtime.make(process, start, stack)

        def compose() -> Daemon:
            registry = listeners.ListenerRegistry(tools)
            return serving_daemon.Daemon(process, start, registry, worker_processes.NoWorkers(), stack)

        if source.is_one:
            OneConnection(tools, start.resources.plans[0], streams, compose).serve(process.signals, stack)
            return
        daemon = compose()
        daemon.begin()
        IdleWatch(daemon, settings.daemon.inetd_timeout)
        daemon.serve()
        daemon.drain()


def _name(name: SockAddr | bytes) -> SockAddr:
    return os.fsdecode(name) if isinstance(name, bytes) else name


__all__ = ["inetd_settings", "open_log", "run"]
