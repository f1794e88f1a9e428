# SPDX-License-Identifier: MIT
"""Outgoing connections of a SOCKS server: a name is resolved once, the result is checked, and only that is connected
to.

Names are looked up in threads with a deadline.  There is no second look-up between judging and connecting, so an
answer that changes changes nothing.
"""

from __future__ import annotations

import errno
import socket
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

from sockd.net.address.sockaddr import Endpoint
from sockd.net.connect.dialer import Dialer
from sockd.net.loop.blocking_calls import Overloaded
from sockd.net.loop.shares import ip_source_key
from sockd.services.socks.rules import AccessRequest, IPAddress, parse_ip
from sockd.values import dataclass
from sockd.wire.socks_address import Destination, Reply, make_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.net.loop.blocking_calls import BlockingCalls
    from sockd.net.loop.loop import EventLoop
    from sockd.services.socks.rules import Rules

    LookUp = Callable[[str], Sequence[str]]

KEPT_SECONDS = 10.0
"""RFC 2308, 7.1 and 7.2: a server that failed or did not answer may be passed over for 5 minutes at most; here as long
as both tries of the stub resolver take (resolv.conf(5)), so that a name that comes to be is soon found."""
KEPT = 4096


class Cancellable(Protocol):
    """A step in progress that can be cancelled; nothing is called then."""

    def cancel(self) -> None:
        """Take it back."""


@dataclass(frozen=True)
class Refusal:
    """Why a request fails: the reply, and the reason in the log."""

    reply: Reply
    why: str


def look_up(name: str) -> list[str]:
    """Look a name up.  BLOCKS.

    Returns:
        Its addresses in the resolver's order (RFC 6724), in numbers.

    Raises:
        OSError: there are none (gaierror), or none could be had.
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in found))


class Failures:
    """Why names were not found lately, so that a slow one holds up a thread once, and not whoever asks again.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rows: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def get(self, name: str) -> str:
        """Return why a name was not found; empty where nothing is known."""
        until, why = self._rows.get(name, (0.0, ""))
        return why if until > self._clock() else ""

    def put(self, name: str, why: str) -> None:
        """Remember that a name was not found."""
        self._rows[name] = self._clock() + KEPT_SECONDS, why
        self._rows.move_to_end(name)
        if len(self._rows) > KEPT:
            self._rows.popitem(last=False)


class Egress:
    """Looks up, judges, connects.

    Args:
        rules: of the service.
        workers: look names up.
        source: our own address, None for the system's choice.
        timeout: seconds, for the look-up and all attempts together.
        names: from a name to its addresses.
    """

    def __init__(
        self,
        rules: Rules,
        workers: BlockingCalls,
        loop: EventLoop,
        *,
        source: IPAddress | None,
        timeout: float,
        names: LookUp = look_up,
    ) -> None:
        self.rules = rules
        self.loop = loop
        self.source = source
        self.timeout = timeout
        self._workers = workers
        self._names = names
        self._failed = Failures(loop.clock)

    def find(
        self,
        destination: Destination,
        source: IPAddress | None,
        user: str | None,
        done: Callable[[list[IPAddress] | Refusal], None],
    ) -> Cancellable | None:
        """Find the addresses that a client may be connected to.

        Args:
            done: is called once, maybe at once: with at least one address, or with why there is none.

        Returns:
            What is under way, None when it is done already.
        """
        port = destination.port
        if not destination.is_name:
            asked = AccessRequest(source, user, None)
            done(self._judged([parse_ip(destination.host)], asked, port))
            return None
        name = destination.host
        asked = AccessRequest(source, user, name)
        if why := self.rules.forbids_name(asked, port):
            done(Refusal(Reply.NOT_ALLOWED, why))
            return None

        if failed := self._failed.get(name):
            done(Refusal(Reply.HOST_UNREACHABLE, f"{name}: {failed}"))
            return None

        def answered(found: Sequence[str] | BaseException) -> None:
            if isinstance(found, BaseException):
                if not isinstance(found, Overloaded):
                    self._failed.put(name, _reason(found))
                done(Refusal(Reply.HOST_UNREACHABLE, f"{name}: {_reason(found)}"))
            else:
                done(self._judged([parse_ip(text) for text in found], asked, port))

        return self._workers.ask(lambda: self._names(name), answered, self.timeout, ip_source_key(source))

    def _judged(self, addresses: list[IPAddress], asked: AccessRequest, port: int) -> list[IPAddress] | Refusal:
        verdicts = [(address, self.rules.forbids(asked, address, port)) for address in addresses]
        allowed = [address for address, why in verdicts if not why]
        if not allowed:
            return Refusal(Reply.NOT_ALLOWED, "; ".join(dict.fromkeys(why for _, why in verdicts)) or "no address")
        if self.source is None:
            return allowed
        reachable = [address for address in allowed if address.version == self.source.version]
        return reachable or Refusal(Reply.NETWORK_UNREACHABLE, f"no address of the family of {self.source}")

    def connect(
        self,
        addresses: list[IPAddress],
        port: int,
        done: Callable[[socket.socket | Refusal], None],
        *,
        since: float,
    ) -> Dialer:
        """Connect to the first address that answers.

        Args:
            addresses: as find() gave them.
            done: is called once, later: with the connected socket, or with why there is none.
            since: when the request began, for its deadline.
        """

        def dialed(sock: socket.socket | None, codes: list[int]) -> None:
            done(sock if sock is not None else make_refusal(codes))

        left = max(0.0, since + self.timeout - self.loop.clock())
        endpoints = [make_endpoint(address, port, socket.SOCK_STREAM) for address in addresses]
        source = None if self.source is None else str(self.source)
        return Dialer(self.loop, endpoints, timeout=left, source=source, done=dialed)


def make_endpoint(address: IPAddress, port: int, kind: socket.SocketKind) -> Endpoint:
    """Return what connect(2) and sendto(2) want."""
    proto = socket.IPPROTO_TCP if kind == socket.SOCK_STREAM else socket.IPPROTO_UDP
    if address.version == 4:
        return Endpoint(socket.AF_INET, kind, proto, (str(address), port))
    return Endpoint(socket.AF_INET6, kind, proto, (str(address), port, 0, 0))


def _reason(error: BaseException) -> str:
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)


def make_refusal(codes: list[int]) -> Refusal:
    """Say why no attempt to connect succeeded, from their errnos."""
    return Refusal(make_reply(codes), ", ".join(dict.fromkeys(errno.errorcode.get(code, str(code)) for code in codes)))


__all__ = ["Cancellable", "Egress", "LookUp", "Refusal", "look_up", "make_endpoint", "make_refusal"]
