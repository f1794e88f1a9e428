# SPDX-License-Identifier: MIT
"""inetd mode: a daemon that serves what it was given on standard input (FAQ IV.3).

nowait: one connection, to its end.  wait: the listening or datagram socket, until nobody has
come for `inetd_timeout`; then it ends, and the parent waits for the next client again.
Everything else is as for every daemon: the same table, framings, deadlines and log, which
goes to syslog, for standard output and standard error are the client's.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from sockd.daemon.context import StartContext
from sockd.daemon.daemon import Daemon
from sockd.daemon.stdio_bridge import Bridge
from sockd.errors import HandlerError, SockdError, SystemFault, fault
from sockd.log import format as log_format
from sockd.log import targets
from sockd.log.format import OwnHandler
from sockd.net.address.address import Address
from sockd.net.address.sockaddr import Endpoint, SocketAddress
from sockd.net.listen.bind import ServerSocket
from sockd.net.listen.options import set_inherited
from sockd.process.inetd_stdio import StandardStreams, StdinKind, peer_of
from sockd.services import hooks
from sockd.services.handlers import group_of, sink_of
from sockd.settings.listen import ListenSettings

if TYPE_CHECKING:
    from contextlib import ExitStack

    from sockd.daemon.plan import ListenerPlan
    from sockd.daemon.startup import Opened
    from sockd.net.address.sockaddr import SockAddr
    from sockd.process.privileges import Wanted
    from sockd.settings import LogSettings, Settings

logger = logging.getLogger("sockd.inetd")

INHERITED = Address("fd", name="0")
"""What is on standard input, as a listener's address."""
LOOKS_A_TIMEOUT = 10
"""How often in an idle time it is looked whether somebody came: it is over a tenth late at most."""
OUTPUT_LOOK_SECONDS = 1.0


class Silent(OwnHandler):
    """A log that nobody keeps: there is no syslog, and the client must not get it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Drop it."""


def open_log(settings: LogSettings, owner: tuple[int, int] | None = None) -> OwnHandler:
    """Log to syslog, or where the settings say; never to standard error, and nowhere where there is no syslog.

    Raises:
        SystemFault, PermissionFault: a file or a journal that the settings name cannot be had.
    """
    if settings.to not in (None, "stderr", "syslog"):
        return targets.open_target(settings, owner=owner)
    try:
        return targets.open_target(replace(settings, to="syslog"), owner=owner)
    except SockdError:
        return log_format.install(settings, Silent())


def of_inetd(settings: Settings, service: str) -> Settings:
    """Return settings that serve one service on no address, lock no pid file and have no control socket."""
    daemon = replace(settings.daemon, pidfile=None, control=None)
    return replace(settings, daemon=daemon, listen=(ListenSettings(service=service),))


class InetdDaemon(Daemon):
    """Serves what standard input is.

    Args:
        settings: as of_inetd() gives them.
        streams: standard input and output; closed at the end.
    """

    def __init__(self, settings: Settings, streams: StandardStreams) -> None:
        if streams.kind in (StdinKind.CONNECTION, StdinKind.PLAIN):
            settings = replace(settings, daemon=replace(settings.daemon, max_connections=1))
        super().__init__(settings, StartContext(ready=lambda _: None, root_may_stay=True))
        self._streams = streams
        self._plan: ListenerPlan | None = None
        self._bridge: Bridge | None = None
        self._is_served = False

    def _open_log(self, wanted: Wanted) -> OwnHandler:
        return open_log(self._settings.daemon.log, wanted.owner)

    # ---- wait

    def _listen(self, plans: list[ListenerPlan], stack: ExitStack) -> list[Opened]:
        """Take the listening or datagram socket, which stays the parent's: only our descriptor of it is closed."""
        self._plan = plans[0]
        if self._streams.kind not in (StdinKind.LISTENER, StdinKind.DATAGRAMS):
            return []
        stack.callback(self._streams.close)
        spec = self._plan.service
        if self._streams.kind is StdinKind.DATAGRAMS and spec.datagram is None:
            raise HandlerError(f"--inetd: standard input is a datagram socket, and service {spec.name} answers none")
        fd = self._streams.source
        was_blocking = os.get_blocking(fd)
        sock = socket.socket(fileno=os.dup(fd))
        sock.setblocking(False)
        if was_blocking:
            stack.callback(os.set_blocking, fd, True)
        endpoint = Endpoint(socket.AddressFamily(sock.family), sock.type, sock.proto, _name(sock.getsockname()))
        set_inherited(sock, endpoint, self._plan.settings)
        listening = ServerSocket(sock, endpoint, is_ours=False)
        stack.callback(listening.close)
        return [(INHERITED, listening, self._plan)]

    def _watch_idle(self) -> None:
        pause = self._settings.daemon.inetd_timeout / LOOKS_A_TIMEOUT
        seen, quiet = -1, 0

        def look() -> None:
            nonlocal seen, quiet
            self._loop.call_later(pause, look)
            accepted = sum(served.listener.counts.accepted for served in self._serving.listeners)
            busy = accepted != seen or self._count()
            seen, quiet = accepted, 0 if busy else quiet + 1
            if quiet >= LOOKS_A_TIMEOUT:
                logger.info(
                    "idle", extra={"event": {"seconds": self._settings.daemon.inetd_timeout, "served": accepted}}
                )
                self._loop.stop()

        look()

    # ---- nowait

    def _attach(self, bound: list[Opened], stack: ExitStack) -> None:
        super()._attach(bound, stack)
        if bound:
            self._watch_idle()
            return
        assert self._plan is not None
        hooks.start([self._plan.service], stack, self._loop)
        if self._streams.kind is StdinKind.CONNECTION:
            sock = socket.socket(fileno=os.dup(self._streams.source))
            self._streams.close()  # its end is seen by the peer when ours is the last one
            self._connect(sock)
        else:
            self._join()

    def _join(self) -> None:
        """Serve a pipe, a terminal or a file."""
        if self._streams.sink < 0:
            raise SystemFault("--inetd: standard output is closed; the service's answers go there")
        assert self._plan is not None
        timeout = self._plan.service.limits.write_timeout
        loop = self._loop
        self._bridge = Bridge(
            self._streams.source,
            self._streams.sink,
            timeout=timeout,
            ended=lambda: loop.call_soon_threadsafe(loop.stop),
        )
        self._connect(self._bridge.socket)
        self._bridge.start()

    def _connect(self, sock: socket.socket) -> None:
        assert self._plan is not None
        spec = self._plan.service
        told = peer_of(os.environ)
        known = self._connections.name_of
        self._connections.name_of = lambda host: (told.name if host == told.host else None) or known(host)
        peer = SocketAddress.of_peer(sock.fileno())
        if not peer.host and not peer.name and told.host:
            peer = SocketAddress.told(told.host, told.port)
        if sock.family != socket.AF_UNIX:
            endpoint = Endpoint(socket.AddressFamily(sock.family), sock.type, sock.proto, _name(sock.getsockname()))
            set_inherited(sock, endpoint, self._plan.settings)
        if spec.program is not None:
            taker = self._executor.programs(spec, self._connections.name_of)
            taker.take(sock, peer, self._served)
            return
        if (server := self._forwarding.server(spec)) is not None:
            sock.setblocking(False)  # splice(2) cannot be told call by call not to wait for a socket
            server.take(sock, peer, self._served)
            return
        group = self._connections.add_group(group_of(spec), sink_of(spec, self._connections, self._loop, self._pool))
        self._connections.when_ended(group, lambda _: self._served())
        try:
            id = self._connections.add(sock, group, peer)
        except OSError as error:
            raise fault(error, "--inetd: standard input") from None
        assert id is not None  # the table is empty

    def _served(self) -> None:
        """The connection has ended; what is on its way to a pipe or a terminal still goes there."""
        self._is_served = True
        if self._bridge is None:
            self._loop.call_soon(self._loop.stop)
        else:
            self._watch_output()

    def _watch_output(self) -> None:
        self._loop.call_later(OUTPUT_LOOK_SECONDS, self._watch_output)
        assert self._bridge is not None
        assert self._plan is not None
        if self._bridge.idle_seconds > self._plan.service.limits.write_timeout:
            logger.warning("standard output takes no more, what is left is dropped")
            self._loop.stop()

    def _drain(self) -> None:
        if not self._is_served:
            super()._drain()


def _name(name: SockAddr | bytes) -> SockAddr:
    return os.fsdecode(name) if isinstance(name, bytes) else name


__all__ = ["InetdDaemon", "Silent", "of_inetd", "open_log"]
