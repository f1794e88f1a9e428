# SPDX-License-Identifier: MIT
"""Where a datagram is from, for handlers that want to know; and what such a handler is to its listener."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import SockAddr, format_sockaddr
from sockd.net.udp.pktinfo import Ancillary, asked_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.udp.listener import DatagramListener

    Reply = bytes | bytearray | memoryview | None


class DatagramSource:
    """Who has sent a datagram, and where it arrived.

    Args:
        listener: whose socket it arrived at.
        sockaddr: of the sender, None (or empty) where it has none.
        ancillary: what came with it.
        size: bytes of the datagram.

    Attributes:
        listener, sockaddr, ancillary: as given.
    """

    __slots__ = ("_size", "ancillary", "listener", "sockaddr")

    def __init__(self, listener: DatagramListener, sockaddr: SockAddr | None, ancillary: Ancillary, size: int) -> None:
        self.listener = listener
        self.sockaddr = sockaddr
        self.ancillary = ancillary
        self._size = size

    @property
    def peer(self) -> str:
        """The sender as text."""
        return format_sockaddr(self.listener.socket.family, socket.SOCK_DGRAM, self.sockaddr)

    @property
    def local(self) -> SockAddr | bytes:
        """The address that it was sent to, also where the socket is bound to every one."""
        name: SockAddr | bytes = self.listener.socket.getsockname()
        asked = asked_address(self.ancillary)
        return (asked, *name[1:]) if asked and isinstance(name, tuple) else name

    def send(self, data: bytes) -> None:
        """Send a datagram back, from the address that was asked; the listener's rules apply."""
        self.listener.send(data, self.sockaddr, self.ancillary)

    def begin(self) -> None:
        """Say that an answer is being made; done() ends that."""
        self.listener.one_more()

    def done(self, reply: object, error: BaseException | None) -> None:
        """Answer, or tell of a failure."""
        self.listener.answer_later(self._size, self.sockaddr, self.ancillary, reply, error)


class SourcedAnswer:
    """Answers datagrams, and is told where they are from.  A listener has one of its own (bind)."""

    @property
    def is_full(self) -> bool:
        """Whether no more datagrams are wanted for now."""
        return False

    def bind(self, listener: DatagramListener) -> SourcedAnswer:
        """Return what answers for a listener."""
        return self

    def started(self) -> None:
        """Datagrams come from now on."""

    def answer(self, datagram: bytes, source: DatagramSource) -> object:
        """Return the answer, None for none."""
        raise NotImplementedError

    def failed(self, error: OSError) -> None:
        """Receiving, or an earlier answer, has failed."""

    def when_free(self, callback: Callable[[], None]) -> None:
        """Call back once, when more datagrams are wanted."""

    def closed(self) -> None:
        """No more datagrams come."""


__all__ = ["DatagramSource", "SourcedAnswer"]
