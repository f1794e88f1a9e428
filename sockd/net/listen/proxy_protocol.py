# SPDX-License-Identifier: MIT
"""PROXY headers: the client's address, as a trusted proxy sends it before the client's first byte.

A connection waits here between accept and the rules of its listener.  Bytes are peeked at (MSG_PEEK) before they are
consumed, so that no byte after the header is read: the service finds its client's bytes in the socket.
"""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.connection.peers import ProxyInfo
from sockd.net.listen.admission import Networks
from sockd.net.loop.deadline import Deadline
from sockd.settings.networks import UNIX_CLIENTS
from sockd.values import dataclass, field
from sockd.wire import proxy
from sockd.wire.proxy import Header, ProxyError  # an upgrade reads the annotations of Proxied

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop.loop import EventLoop
    from sockd.settings.listen import ProxyProtocolSettings

    WhenDone = Callable[["SocketAddress | None", "ProxyInfo | None"], None]

logger = logging.getLogger("sockd.proxy")

MAX_WAITING = 4096
"""Connections of one listener without a header yet; proxies send it at once, so these are a fault of the proxy."""
PEEK_BYTES = 4096


@dataclass
class _Waiting:
    sock: socket.socket
    proxy: SocketAddress
    done: WhenDone
    deadline: Deadline
    head: bytearray = field(default_factory=bytearray)
    least: int = 0
    """Minimum of header bytes for a first parse, however small its pieces are."""


class ProxyHeaders:
    """Receives the headers of one listener's connections.

    Args:
        settings: trusted proxies, and the time limit.
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
        """Return how many connections wait for their header."""
        return len(self._waiting)

    def expects(self, peer: SocketAddress) -> bool:
        """Return whether a connection of this peer begins with a header; from any other it would be the client's
        data.
        """
        if peer.family == socket.AF_UNIX:
            return self._unix
        return bool(peer.host) and self._networks is not None and self._networks.admit(peer.host)

    def receive(self, sock: socket.socket, peer: SocketAddress, done: WhenDone) -> None:
        """Own a connection until its header is complete.

        Args:
            sock: connected, non-blocking.
            done: called once: with the client's address and the proxy's data, or with None twice without a valid
                header; the socket is closed then.

        Raises:
            OSError: the socket cannot be watched; it remains the caller's, and done() is not called.
        """
        if len(self._waiting) >= MAX_WAITING:
            sock.close()
            self._log(logging.WARNING, peer, f"already {MAX_WAITING} connections wait for their headers")
            done(None, None)
            return
        fd = sock.fileno()
        abort = partial(self._drop, fd, "internal error")
        self._loop.add_reader(fd, self._loop.guarded(partial(self._readable, fd), abort))
        late = partial(self._drop, fd, f"incomplete after {self._timeout:g} s")
        self._waiting[fd] = _Waiting(sock, peer, done, Deadline(self._loop, self._timeout, late, abort))

    def _readable(self, fd: int) -> None:
        one = self._waiting[fd]
        try:
            seen = one.sock.recv(PEEK_BYTES, socket.MSG_PEEK)
            header = self._parsed(one, seen)
            size = len(seen) if header is None else header.size - len(one.head)
            one.head += one.sock.recv(size) if size else b""
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(fd, str(error))
            return
        except ProxyError as error:
            self._drop(fd, str(error))
            return
        if not seen:
            self._drop(fd, "the peer closed the connection within it" if one.head else "")
        elif header is not None:
            self._known(fd, header)

    def _parsed(self, one: _Waiting, seen: bytes) -> Header | None:
        """Return the header, None if it is incomplete; raises ProxyError."""
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
            logger.debug("connection of the proxy itself", extra={"event": event})
        one.done(client_address(header) or one.proxy, ProxyInfo(one.proxy, header))

    def _drop(self, fd: int, why: str) -> None:
        """Close without a reply (section 2 of the protocol); without a log line if nothing was sent, as health
        checks do.
        """
        if fd not in self._waiting:
            return
        one = self._leave(fd)
        one.sock.close()
        self._log(logging.WARNING if why else logging.DEBUG, one.proxy, why or "none received")
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
        """Stop waiting for headers."""
        for fd in list(self._waiting):
            self._drop(fd, "")

    def leave(self) -> None:
        """Close the sockets alone, in a forked process."""
        for one in self._waiting.values():
            one.sock.close()


def client_address(header: Header) -> SocketAddress | None:
    """Return the client's address, None if the header has none."""
    if header.source is None:
        return None
    if isinstance(header.source, bytes):
        return SocketAddress(socket.AF_UNIX, name=header.source)
    return SocketAddress.parse(*header.source)
