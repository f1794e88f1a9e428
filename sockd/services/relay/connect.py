# SPDX-License-Identifier: MIT
"""Connecting to a target: a race of its addresses, or a request to a SOCKS server."""

from __future__ import annotations

import os
import selectors
from typing import TYPE_CHECKING

from sockd.net.connect.dialer import Dialer
from sockd.values import dataclass
from sockd.wire.socks_client import MAX_REPLY_BYTES, Phase, SocksClient, SocksRefusal

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from sockd.net.address.sockaddr import Endpoint
    from sockd.net.loop.loop import EventLoop
    from sockd.services.relay.target import Target


@dataclass(frozen=True)
class UpstreamSocks:
    """A SOCKS server through which targets are reached."""

    server: Target
    user: str | None
    password: str | None


@dataclass(frozen=True)
class Connected:
    """A target that is connected.

    Attributes:
        sock: the connection, non-blocking; owned by the callback.
        rest: data already received from it.
    """

    target: Target
    sock: socket.socket
    rest: bytes


@dataclass(frozen=True)
class ConnectFailed:
    """Targets that are not connected.

    Attributes:
        is_theirs: that says something of the targets; else it was the SOCKS server.
    """

    why: str
    is_theirs: bool = True


class TargetConnect:
    """One attempt to reach the first of some targets.

    Args:
        targets: at least one; one alone where there is a way.
        timeout: seconds, for look-ups, connecting and the SOCKS server's replies together.
        done: is called once in the loop, maybe at once.
    """

    def __init__(
        self,
        loop: EventLoop,
        targets: Sequence[Target],
        way: UpstreamSocks | None,
        *,
        timeout: float,
        done: Callable[[Connected | ConnectFailed], None],
    ) -> None:
        self._loop = loop
        self._targets = targets
        self._way = way
        self._timeout = timeout
        self._deadline = loop.clock() + timeout
        self._done: Callable[[Connected | ConnectFailed], None] | None = done
        self._owners: dict[Endpoint, Target] = {}
        self._reasons: list[str] = []
        self._dial: Dialer | None = None
        self._request: _Request | None = None
        hops = targets if way is None else (way.server,)
        self._unknown = len(hops)
        for hop in hops:
            hop.find(timeout, lambda found, hop=hop: self._found(hop, found))  # type: ignore[misc]  # of a default

    def _found(self, hop: Target, found: list[Endpoint] | str) -> None:
        self._unknown -= 1
        if isinstance(found, str):
            self._reasons.append(found)
        else:
            for endpoint in found:
                self._owners.setdefault(endpoint, hop)
        if self._unknown or self._done is None:
            return
        left = self._deadline - self._loop.clock()
        if self._owners and left > 0:
            dial = Dialer(
                self._loop,
                list(self._owners),
                timeout=left,
                source=None,
                done=lambda sock, codes: self._dialed(dial, sock, codes),
            )
            self._dial = dial
        else:
            self._fail("; ".join(self._reasons) or f"no address within {self._timeout:g} s")

    def _dialed(self, dial: Dialer, sock: socket.socket | None, codes: list[int]) -> None:
        if sock is None or dial.winner is None:
            self._fail(str(dial.fault(", ".join(dict.fromkeys(map(str, self._owners.values()))))))
        elif self._way is None:
            self._end(Connected(self._owners[dial.winner], sock, b""))
        else:
            target = self._targets[0]
            left = max(0.0, self._deadline - self._loop.clock())
            try:
                self._request = _Request(self._loop, sock, target, self._way, left, self._answered)
            except OSError as error:
                sock.close()
                self._fail(f"{target} via {self._way.server}: {error.strerror}")

    def _answered(self, answer: Connected | ConnectFailed) -> None:
        self._end(answer)

    def _fail(self, why: str) -> None:
        self._end(ConnectFailed(why, is_theirs=self._way is None))

    def _end(self, outcome: Connected | ConnectFailed) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(outcome)

    def cancel(self) -> None:
        """Give up; done is not called any more."""
        self._done = None
        if self._dial is not None:
            self._dial.cancel()
        if self._request is not None:
            self._request.cancel()


class _Request:
    """The conversation with a SOCKS server, up to its reply.

    Raises:
        OSError: the connection cannot be watched; it is the caller's still.
    """

    def __init__(
        self,
        loop: EventLoop,
        sock: socket.socket,
        target: Target,
        way: UpstreamSocks,
        timeout: float,
        done: Callable[[Connected | ConnectFailed], None],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._target = target
        self._way = way
        self._done: Callable[[Connected | ConnectFailed], None] = done
        address = target.address
        self._client = SocksClient(address.host, address.port_number(), user=way.user, password=way.password)
        loop.watch_fd(sock.fileno(), selectors.EVENT_READ, self._readable)
        self._timer = loop.call_later(timeout, lambda: self._fail(f"no answer: waiting for {self._client.phase.value}"))
        self._send(self._client.begin())

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)  # an unused send buffer takes it whole
        except OSError as error:
            self._loop.call_soon(lambda code=error.errno or 0: self._fail(os.strerror(code)))  # type: ignore[misc]

    def _readable(self) -> None:
        try:
            data = self._socket.recv(MAX_REPLY_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error.strerror or str(error))
            return
        if not data:
            self._fail(f"closed by the server while waiting for {self._client.phase.value}")
            return
        try:
            answer = self._client.feed(data)
        except SocksRefusal as refusal:
            self._fail(str(refusal), is_theirs=self._client.phase is Phase.REPLY)
            return
        if answer:
            self._send(answer)
        if self._client.phase is Phase.CONNECTED:
            self._leave()
            self._done(Connected(self._target, self._socket, self._client.rest))

    def _fail(self, why: str, *, is_theirs: bool = False) -> None:
        if self._socket.fileno() < 0:
            return
        self.cancel()
        self._done(ConnectFailed(f"{self._target} via {self._way.server}: {why}", is_theirs))

    def _leave(self) -> None:
        self._timer.cancel()
        self._loop.watch_fd(self._socket.fileno(), 0, self._readable)

    def cancel(self) -> None:
        """Give up, if it has not come to an end."""
        if self._socket.fileno() >= 0 and self._client.phase is not Phase.CONNECTED:
            self._leave()
            self._socket.close()


__all__ = ["ConnectFailed", "Connected", "TargetConnect", "UpstreamSocks"]
