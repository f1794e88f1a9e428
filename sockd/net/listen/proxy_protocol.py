# SPDX-License-Identifier: MIT
"""PROXY headers: who a connection's client is, as a trusted proxy tells before the client's first byte.

A connection waits here between accept and the rules of its listener.  Bytes are
looked at before they are taken (MSG_PEEK), so that not one behind the header is
read: whoever serves the connection finds its client's bytes in the socket.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.connection.peers import ProxyInfo
from sockd.net.listen.admission import Networks
from sockd.net.loop.deadline import Deadline
from sockd.settings.networks import UNIX_CLIENTS
from sockd.wire import proxy
from sockd.wire.proxy import Header, ProxyError  # an upgrade reads the annotations of Proxied

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop.loop import EventLoop
    from sockd.settings.listen import ProxyProtocolSettings

    WhenDone = Callable[["SocketAddress | None", "ProxyInfo | None"], None]

logger = logging.getLogger("sockd.proxy")

MOST_WAITING = 4096
"""Connections of one listener whose header has not come; proxies send it at once, so these are a fault of the proxy."""
PEEK_BYTES = 4096


@dataclass
class _Waiting:
    sock: socket.socket
    proxy: SocketAddress
    done: WhenDone
    deadline: Deadline
    head: bytearray = field(default_factory=bytearray)
    least: int = 0
    """Bytes of the header at least: with fewer nothing is parsed anew, however small the pieces of it are."""


class ProxyHeaders:
    """Receives the headers of one listener's connections.

    Args:
        settings: which proxies are believed, and how long one may take.
        address: the listener's, for the log.
    """

    def __init__(self, settings: ProxyProtocolSettings, address: str, loop: EventLoop) -> None:
        networks = [one for one in settings.from_ if one != UNIX_CLIENTS]
        self._networks = Networks(networks, ()) if networks else None
        self._unix = UNIX_CLIENTS in settings.from_
        self._timeout = float(settings.timeout)
        self._address = address
        self._loop = loop
        self._waiting: dict[int, _Waiting] = {}
        loop.keepers.add(self)

    def __len__(self) -> int:
        """Return how many connections wait for theirs."""
        return len(self._waiting)

    def expects(self, peer: SocketAddress) -> bool:
        """Tell whether a connection of this peer begins with a header; from anybody else it is the client's own."""
        if peer.family == socket.AF_UNIX:
            return self._unix
        return bool(peer.host) and self._networks is not None and self._networks.admit(peer.host)

    def take(self, sock: socket.socket, peer: SocketAddress, done: WhenDone) -> None:
        """Own a connection until its header is there.

        Args:
            sock: connected, non-blocking.
            done: is called once: with the client's address and what is known of its way, or with None twice
                when no header came; the socket is closed then.

        Raises:
            OSError: the socket cannot be watched; it is the caller's still, and done() is not called.
        """
        if len(self._waiting) >= MOST_WAITING:
            sock.close()
            self._log(logging.WARNING, peer, f"{MOST_WAITING} wait for theirs already")
            done(None, None)
            return
        fd = sock.fileno()
        abort = partial(self._drop, fd, "internal error")
        self._loop.add_reader(fd, self._loop.guarded(partial(self._readable, fd), abort))
        late = partial(self._drop, fd, f"not whole after {self._timeout:g} s")
        self._waiting[fd] = _Waiting(sock, peer, done, Deadline(self._loop, self._timeout, late, abort))

    def _readable(self, fd: int) -> None:
        one = self._waiting[fd]
        try:
            seen = one.sock.recv(PEEK_BYTES, socket.MSG_PEEK)
            header = self._parsed(one, seen)
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

    def _parsed(self, one: _Waiting, seen: bytes) -> Header | None:
        """Return the header, None if it is not whole; raises ProxyError."""
        if not seen or len(one.head) + len(seen) >= one.least:
            data = bytes(one.head) + seen
            header = proxy.parse(data)
            one.least = proxy.least(data)
            return header
        return None

    def _known(self, fd: int, header: Header) -> None:
        one = self._leave(fd)
        if header.local:
            event = {"address": self._address, "via": str(one.proxy)}
            logger.debug("proxy's own connection", extra={"event": event})
        one.done(_client(header) or one.proxy, ProxyInfo(one.proxy, header))

    def _drop(self, fd: int, why: str) -> None:
        """Close without an answer (section 2 of the protocol); quietly where nothing was sent, as health checks do."""
        if fd not in self._waiting:
            return
        one = self._leave(fd)
        one.sock.close()
        self._log(logging.WARNING if why else logging.DEBUG, one.proxy, why or "none came")
        one.done(None, None)

    def _leave(self, fd: int) -> _Waiting:
        one = self._waiting.pop(fd)
        one.deadline.cancel()
        self._loop.remove_reader(fd)
        return one

    def _log(self, level: int, proxy: SocketAddress, why: str) -> None:
        event = {"address": self._address, "via": str(proxy), "why": why}
        logger.log(level, "no PROXY header", extra={"event": event})

    def close(self) -> None:
        """Wait for no header any more."""
        for fd in list(self._waiting):
            self._drop(fd, "")

    def leave(self) -> None:
        """Close the sockets alone, in a process that was forked."""
        for one in self._waiting.values():
            one.sock.close()


def _client(header: Header) -> SocketAddress | None:
    """Return the client's address, None where the header tells none."""
    if header.source is None:
        return None
    if isinstance(header.source, bytes):
        return SocketAddress(socket.AF_UNIX, name=header.source)
    return SocketAddress.told(*header.source)
