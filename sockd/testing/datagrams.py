# SPDX-License-Identifier: MIT
"""A client of a handler of datagrams, for its own tests: over a Unix socket in the abstract namespace (unix(7))."""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sockd._sockbuf import lib
from sockd.errors import HandlerError
from sockd.net.address.sockaddr import Endpoint, SocketAddress
from sockd.net.listen.bind import ServerSocket
from sockd.net.udp.addresses import NAME_FAMILY
from sockd.net.udp.listener import DatagramListener
from sockd.net.udp.rules import DatagramRules
from sockd.net.udp.table import DatagramTable
from sockd.services.handlers.datagrams import DatagramCodec
from sockd.settings.listen import ListenSettings
from sockd.testing.facts import parse_client
from sockd.testing.stage import Stage, make_spec

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed import ReadableBuffer

    from sockd.net.address.sockaddr import SockAddr
    from sockd.net.listen.listener import DatagramCounts
    from sockd.net.udp.table import Received

KEPT_REPLY_BYTES = 65_536
OWN_ADDRESS = ("127.0.0.1", 9)
"""The handler's, where its client has an Internet address."""


def datagrams(found: object, *, client: tuple[str, int] | None = None) -> DatagramClient:
    """Send datagrams to a handler: a function, a class, a sockd.Service, or `module:attribute`.

    Args:
        found: the handler.
        client: numeric IPv4 address and port that the datagrams say they come from, in place of a Unix socket's name.

    Raises:
        HandlerError: it is no handler of datagrams, cannot be imported, or its startup failed.
        ValueError: client is no numeric IPv4 address and port.
        RuntimeError: an event loop runs in this thread, and the handler needs one of its own.
    """
    return DatagramClient(found, client)


class InternetLike(socket.socket):
    """A Unix socket whose peer has an Internet address, for whoever asks.

    Args:
        client: the address that the peer seems to have.
        name: that it has.

    Attributes:
        client, name: as given.
    """

    def __init__(self, fd: int, client: tuple[str, int], name: bytes) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_DGRAM, 0, fd)
        self.client = client
        self.name = name

    @property
    def family(self) -> socket.AddressFamily:
        """That of the client's address."""
        return socket.AF_INET

    def getsockname(self) -> tuple[str, int]:
        """Return an address of the client's family."""
        return OWN_ADDRESS

    def sendto(self, data: ReadableBuffer, address: SockAddr) -> int:  # type: ignore[override]  # no flags: the listener has none
        """Send to the client; to nobody else."""
        if address != self.client:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        return super().sendto(data, self.name)


class InternetLikeTable(DatagramTable):
    """The datagrams of such a socket.

    Args:
        sock: an InternetLike one.
        options: as for every table.
    """

    plain: int

    def __init__(self, sock: InternetLike, **options: bool) -> None:
        super().__init__(sock, **options)
        self._sockaddr = sock.client
        self._client = SocketAddress.from_sockaddr(sock.client).packed()
        self._name = NAME_FAMILY.pack(socket.AF_UNIX) + sock.name

    @property
    def names(self) -> list[bytes]:
        """The client's, of each."""
        return [self._client] * len(super().names)

    def receive(self, wanted: int) -> int:
        """Receive; all senders are the client, and have to be judged."""
        count = super().receive(wanted)
        self.plain = 0
        return count

    def exchange(
        self, limit: int, _function: object, _clock: object, _end: float
    ) -> tuple[int, int, int, bool, bytes, None, None]:
        """Receive alone."""
        try:
            return self.receive(min(limit, self.batch_size)), 0, 0, False, b"", None, None
        except OSError as error:
            return 0, 0, error.errno or errno.EIO, False, b"", None, None

    def look(self, place: int) -> Received:
        """Say what is known of a datagram; its sender is the client, and the rules have to be asked."""
        return super().look(place)._replace(name=self._client, verdict=lib.SB_SENDER_UNKNOWN)

    def sender(self, place: int) -> SockAddr:
        """Return the client's address."""
        return self._sockaddr

    def answer_later(self, data: bytes, name: bytes, control: bytes) -> None:
        """Send to the client."""
        super().answer_later(data, self._name, control)


class InternetLikeListener(DatagramListener):
    """Receives from such a socket."""

    def _make_table(self, **options: bool) -> DatagramTable:
        assert isinstance(self.socket, InternetLike)
        return InternetLikeTable(self.socket, **options)


class DatagramClient:
    """Whoever sends datagrams to a handler; a context manager."""

    def __init__(self, found: object, client: tuple[str, int] | None = None) -> None:
        spec = make_spec(found)
        if not spec.kind.answers_datagrams:
            raise HandlerError(f"{spec.name} cannot answer datagrams; {spec.kind.instead}")
        if client is not None and parse_client(client).family != socket.AF_INET:
            raise ValueError(f"client is an IPv4 address here, not {client[0]}")
        self._stage = stage = Stage(spec, 1, time.monotonic)
        self._stack = ExitStack()
        self._stack.callback(stage.close)
        with ExitStack() as stack:
            stack.callback(stage.close)
            own, self._sock = (stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) for _ in "12")
            for sock in (own, self._sock):
                sock.setblocking(False)
                sock.bind("")  # the kernel chooses a name
            self._address = own.getsockname()
            make_listener = DatagramListener if client is None else InternetLikeListener
            if client is not None:
                own = stack.enter_context(InternetLike(own.detach(), client, self._sock.getsockname()))
            answer = spec.kind.datagram(DatagramCodec(spec.framing, by_line=spec.datagram_lines))
            rules = DatagramRules(ListenSettings(), stage.loop.clock, small=False)
            endpoint = Endpoint(socket.AF_UNIX, socket.SOCK_DGRAM, 0, own.getsockname())
            pool = stage.pool if spec.kind.needs_threads else None
            self._listener = make_listener(ServerSocket(own, endpoint), answer, stage.loop, spec.name, rules, pool=pool)
            self._listener.start()
            self._stack = stack.pop_all()

    def __enter__(self) -> DatagramClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the handler's socket, and ours."""
        self._listener.close()
        try:
            self._stage.run_until_idle()
        finally:
            self._stack.close()

    @property
    def counts(self) -> DatagramCounts:
        """What became of the datagrams."""
        return self._listener.tally

    def send(self, datagram: bytes) -> None:
        """Have a datagram arrive, and the handler do what it does of it."""
        self._sock.sendto(datagram, self._address)
        self._stage.run_until_idle()

    def run(self, seconds: float) -> None:
        """Let time pass, for answers that come later."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._stage.loop.run_once(min(left, 0.01))
        self._stage.run_until_idle()

    def received(self) -> list[bytes]:
        """Return the datagrams that have come back since the last call."""
        found = []
        while True:
            try:
                found.append(self._sock.recv(KEPT_REPLY_BYTES))
            except BlockingIOError:
                return found


__all__ = ["DatagramClient", "datagrams"]
