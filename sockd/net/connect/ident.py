# SPDX-License-Identifier: MIT
"""Asks a client's host whose connection it is: the ident protocol (RFC 1413), driven by the loop.

What the answer is worth: the administrator of that host decides it (RFC 1413, section 6), so it is for logs of hosts
of one's own network.  Most hosts answer nothing, and a packet filter may drop the question, hence the deadline.
"""

from __future__ import annotations

import re
import socket
from functools import partial
from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import Endpoint
from sockd.net.connect.dialer import Dialer
from sockd.net.loop.deadline import Deadline
from sockd.net.loop.shares import Shares, source_key

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.loop.loop import EventLoop

PORT = 113
DEADLINE_SECONDS = 5.0
"""As for a name (sockd.net.connect.reverse_dns); RFC 1413 suggests at least 30 for the connection, tcpd(8) has 10."""
MAX_REPLY_BYTES = 1000
"""RFC 1413, section 5."""
MAX_ASKING = 256
"""Questions at once, of which each source has a share, so that hosts that say nothing leave room for others; a client
above its share is unknown at once, so that a flood of clients costs no more descriptors.
"""
_REPLY = re.compile(r"\s*(\d{1,5})\s*,\s*(\d{1,5})\s*:\s*USERID\s*:[^:]*:(.*)")


def parse_reply(line: bytes, client_port: int, local_port: int) -> str | None:
    """Return the user in a reply; None for an error, another connection, or what is not printable.

    Args:
        line: without its end.
        client_port, local_port: of the connection that was asked about.
    """
    found = _REPLY.fullmatch(line.decode("utf-8", "replace"))
    if found is None or (int(found[1]), int(found[2])) != (client_port, local_port):
        return None
    user = found[3].strip()
    return user if user and user.isprintable() else None


class IdentClient:
    """Asks for the users of clients.

    Args:
        loop: in which it asks.
        deadline: seconds for each.
        port: of the client's host.
    """

    def __init__(self, loop: EventLoop, deadline: float = DEADLINE_SECONDS, port: int = PORT) -> None:
        self._loop = loop
        self._deadline = deadline
        self._port = port
        self._asking: dict[_Question, Hashable] = {}  # and the source of each
        self._shares = Shares(MAX_ASKING)

    def ask(self, local: SocketAddress, client: SocketAddress, answer: Callable[[str | None], None]) -> None:
        """Have `answer(user)` called later, with None if nobody says.

        Args:
            local, client: both ends of the connection; the question leaves from `local`'s host.
        """
        source = source_key(client.host)
        if not self._shares.may(source):
            self._loop.call_soon(partial(answer, None))
            return
        question = _Question(self._loop, (local, client), (self._port, self._deadline), self._end, answer)
        self._asking[question] = source
        self._shares.acquire(source)

    def _end(self, question: _Question) -> None:
        if question in self._asking:
            self._shares.give_back(self._asking.pop(question))

    def close(self) -> None:
        """Answer every question that is open with None."""
        for question in list(self._asking):
            question.end(None)


class _Question:
    """One question, from its connection to its answer."""

    def __init__(
        self,
        loop: EventLoop,
        ends: tuple[SocketAddress, SocketAddress],
        where: tuple[int, float],
        ended: Callable[[_Question], None],
        answer: Callable[[str | None], None],
    ) -> None:
        self._loop = loop
        self._local, self._client = ends
        self._ended, self._answer = ended, answer
        self._reply = b""
        self._sock: socket.socket | None = None
        port, seconds = where
        family = socket.AF_INET6 if ":" in self._client.host else socket.AF_INET
        sockaddr = (self._client.host, port) if family == socket.AF_INET else (self._client.host, port, 0, 0)
        endpoint = Endpoint(family, socket.SOCK_STREAM, 0, sockaddr)
        source = self._local.host or None
        self._dialer = Dialer(loop, [endpoint], timeout=seconds, source=source, done=self._connected)
        self._limit = Deadline(loop, seconds, partial(self.end, None))

    def _connected(self, sock: socket.socket | None, _errors: list[int]) -> None:
        if sock is None:
            self.end(None)
            return
        self._sock = sock
        try:
            sock.send(f"{self._client.port}, {self._local.port}\r\n".encode())
        except OSError:
            self.end(None)
            return
        self._loop.add_reader(sock.fileno(), self._loop.guarded(self._readable, partial(self.end, None)))

    def _readable(self) -> None:
        assert self._sock is not None
        try:
            piece = self._sock.recv(MAX_REPLY_BYTES - len(self._reply))
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self._reply += piece
        line, newline, _ = self._reply.partition(b"\n")
        if newline or not piece or len(self._reply) >= MAX_REPLY_BYTES:
            self.end(parse_reply(line.rstrip(b"\r"), self._client.port, self._local.port) if newline else None)

    def end(self, user: str | None) -> None:
        """Answer; again does nothing."""
        self._limit.cancel()
        self._dialer.cancel()
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None
        answer, self._answer = self._answer, lambda _user: None
        self._ended(self)
        answer(user)


__all__ = ["DEADLINE_SECONDS", "IdentClient", "parse_reply"]
