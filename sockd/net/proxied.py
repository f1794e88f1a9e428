"""PROXY headers: who a connection's client is, as a trusted proxy tells before the client's first byte.

A connection waits here between accept and the rules of its listener.  Bytes are
looked at before they are taken (MSG_PEEK), so that not one behind the header is
read: whoever serves the connection finds its client's bytes in the socket.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockd.net.admission import Networks
from sockd.net.endpoint import format_peer
from sockd.wire import proxy
from sockd.wire.proxy import Header, ProxyError  # an upgrade reads the annotations of Proxied

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.endpoint import SockAddr
    from sockd.net.loop import EventLoop, Timer
    from sockd.settings import ProxyProtocolSettings

logger = logging.getLogger("sockd.proxy")

MOST_WAITING = 4096
"""Connections of one listener whose header has not come; proxies send it at once, so these are a fault of the proxy."""
PEEK_BYTES = 4096
UNIX = "unix:"
"""In `from`: whoever connects over a Unix socket."""


@dataclass(frozen=True)
class Proxied:
    """A connection that came through a proxy.

    Attributes:
        via: the proxy's own address, as text.
        header: what it said.
    """

    via: str
    header: Header


@dataclass
class _Waiting:
    sock: socket.socket
    via: str
    done: Callable[[SockAddr | None, Proxied | None], None]
    timer: Timer
    head: bytes = b""


class ProxyHeaders:
    """Receives the headers of one listener's connections.

    Args:
        settings: which proxies are believed, and how long one may take.
        address: the listener's, for the log.
    """

    def __init__(self, settings: ProxyProtocolSettings, address: str, loop: EventLoop) -> None:
        networks = [text for text in settings.from_ if text != UNIX]
        self._networks = Networks(networks, ()) if networks else None
        self._unix = UNIX in settings.from_
        self._timeout = float(settings.timeout)
        self._address = address
        self._loop = loop
        self._waiting: dict[int, _Waiting] = {}

    def __len__(self) -> int:
        """Return how many connections wait for theirs."""
        return len(self._waiting)

    def expects(self, peer: SockAddr) -> bool:
        """Tell whether a connection of this peer begins with a header; from anybody else it is the client's own."""
        if isinstance(peer, str):
            return self._unix
        return self._networks is not None and self._networks.admit(peer[0])

    def take(
        self, sock: socket.socket, peer: SockAddr, done: Callable[[SockAddr | None, Proxied | None], None]
    ) -> None:
        """Own a connection until its header is there.

        Args:
            sock: connected, non-blocking.
            done: is called once: with the client's address and what is known of its way, or with None twice
                when no header came; the socket is closed then.
        """
        via = format_peer(peer)
        if len(self._waiting) >= MOST_WAITING:
            sock.close()
            self._log(logging.WARNING, via, f"{MOST_WAITING} wait for theirs already")
            done(None, None)
            return
        fd = sock.fileno()
        timer = self._loop.call_later(self._timeout, lambda: self._drop(fd, f"not whole after {self._timeout:g} s"))
        self._waiting[fd] = _Waiting(sock, via, lambda client, way: done(client or peer if way else None, way), timer)
        self._loop.add_reader(fd, lambda: self._readable(fd))

    def _readable(self, fd: int) -> None:
        one = self._waiting[fd]
        try:
            seen = one.sock.recv(PEEK_BYTES, socket.MSG_PEEK)
            header = proxy.parse(one.head + seen)
            taken = len(seen) if header is None else header.size - len(one.head)
            one.head += one.sock.recv(taken) if taken else b""
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(fd, str(error))
            return
        except ProxyError as error:
            self._drop(fd, str(error))
            return
        if not seen:
            self._drop(fd, "the connection ended within it" if one.head else "")
        elif header is not None:
            self._known(fd, header)

    def _known(self, fd: int, header: Header) -> None:
        one = self._leave(fd)
        if header.local:
            logger.debug("proxy's own connection", extra={"event": {"address": self._address, "via": one.via}})
        one.done(_sockaddr(header), Proxied(one.via, header))

    def _drop(self, fd: int, why: str) -> None:
        """Close without an answer (section 2 of the protocol); quietly where nothing was sent, as health checks do."""
        one = self._leave(fd)
        one.sock.close()
        self._log(logging.WARNING if why else logging.DEBUG, one.via, why or "none came")
        one.done(None, None)

    def _leave(self, fd: int) -> _Waiting:
        one = self._waiting.pop(fd)
        one.timer.cancel()
        self._loop.remove_reader(fd)
        return one

    def _log(self, level: int, via: str, why: str) -> None:
        event = {"address": self._address, "via": via, "why": why}
        logger.log(level, "no PROXY header", extra={"event": event})

    def close(self) -> None:
        """Wait for no header any more."""
        for fd in list(self._waiting):
            self._drop(fd, "")


def _sockaddr(header: Header) -> SockAddr | None:
    """Return the client's address for the socket module, None where the header tells none."""
    if header.source is None:
        return None
    if isinstance(header.source, str):
        return header.source
    host, port = header.source
    return (host, port, 0, 0) if ":" in host else (host, port)
