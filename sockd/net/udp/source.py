# SPDX-License-Identifier: MIT
"""Where a datagram is from, for handlers that want to know; and what answers datagrams, for their listener."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from sockd.errors import Close
from sockd.log.failure import end_copy
from sockd.net.address.sockaddr import SockAddr, format_sockaddr
from sockd.net.connection.codec import reply_bytes
from sockd.net.udp.addresses import asked_address, read_name
from sockd.net.udp.table import DATAGRAMS_A_TURN
from sockd.wire.framing import datagram_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.udp.listener import DatagramListener

    Reply = bytes | bytearray | memoryview | None
    Outcome = tuple[bytes | None, BaseException | None]


class DatagramSource:
    """Who has sent a datagram, and where it arrived.

    Args:
        listener: whose socket it arrived at.
        place: of the datagram, in the listener's table while that has it.

    Attributes:
        listener, place: as given.
        name: of the sender, as a struct sockaddr; empty where it has none.
        control: what came with it.
        size: bytes of the datagram.
        generation: of the table.
    """

    __slots__ = ("control", "generation", "listener", "name", "place", "size")

    def __init__(self, listener: DatagramListener, place: int) -> None:
        table = listener.table
        self.listener = listener
        self.place = place
        self.name = table.names[place]
        self.control = table.controls[place]
        self.size = len(table.payloads[place])
        self.generation = table.generation

    @property
    def sockaddr(self) -> SockAddr | bytes | None:
        """The sender's address; None where it has none."""
        return read_name(self.name)

    @property
    def peer(self) -> str:
        """The sender as text."""
        return format_sockaddr(self.listener.socket.family, socket.SOCK_DGRAM, self.sockaddr)

    @property
    def local(self) -> SockAddr | bytes:
        """The address that it was sent to, also where the socket is bound to every one."""
        name: SockAddr | bytes = self.listener.socket.getsockname()
        asked = asked_address(self.control)
        return (asked, *name[1:]) if asked and isinstance(name, tuple) else name

    def send(self, data: bytes) -> None:
        """Send a datagram back, from the address that was asked; the listener's rules apply."""
        self.listener.send_back(data, self)

    def begin(self) -> None:
        """Say that an answer is being made; done() ends that."""
        self.listener.one_more()

    def done(self, reply: object, error: BaseException | None) -> None:
        """Answer, or tell of a failure."""
        self.listener.answer_later(self, reply, error)


class LineFunction:
    """Answers a datagram by a function of a line; the reply ends as the datagram did.

    Args:
        function: of a line without its ending; its reply is bytes-like or None.

    Attributes:
        function: as given, for a listener whose table takes the ending off and puts it behind the reply.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __call__(self, datagram: bytes) -> bytes | None:
        """Answer a datagram as it has come."""
        line, ending = datagram_frame(datagram)
        reply = self.function(line)
        return None if reply is None else reply_bytes(reply) + ending


def call_outcome(call: Callable[[], object]) -> Outcome:
    """Return the answer of a handler, its last words included; or what it has raised."""
    try:
        try:
            answer = checked(call())
        except Close as close:  # there is nothing to close, and its last words are an answer
            answer = checked(close.last_words)
    except BaseException as error:
        end_copy(error)
        return None, error
    end_copy()
    return answer, None


def checked(reply: object) -> bytes | None:
    """Return the handler's result, if it can be sent.

    Raises:
        TypeError: it is neither None nor bytes-like.
    """
    return None if reply is None else reply_bytes(reply)


class SourcedAnswer:
    """Answers datagrams, and is told where they are from.  A listener has one of its own (bind)."""

    @property
    def room(self) -> int:
        """How many more datagrams are wanted for now."""
        return DATAGRAMS_A_TURN

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


__all__ = ["DatagramSource", "LineFunction", "Outcome", "Reply", "SourcedAnswer", "call_outcome", "checked"]
