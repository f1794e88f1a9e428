"""Outgoing connections: every address tried, raced with a head start (FAQ III.5, III.7).

`Race` is the bookkeeping alone: it is told the time and what happened, opens nothing,
and can be driven by an event loop as well.  `connect` drives it with a selector and
blocks; it is for the client tool.
"""

from __future__ import annotations

import errno
import os
import queue
import selectors
import socket
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from sockd.errors import PermissionFault, SockdError, SystemFault, TemporaryFault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockd.net.address import Address
    from sockd.net.endpoint import Endpoint

HEAD_START_S = 0.25  # RFC 8305, section 5: Connection Attempt Delay
BUSY_RETRY_S = 0.02  # a full Unix backlog gives EAGAIN and no readiness to wait for (unix(7))
IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; for both families
NOT_ALLOWED = (errno.EACCES, errno.EPERM)


class Race:
    """Which address is to be tried when, and what became of each (RFC 8305)."""

    def __init__(self, endpoints: Iterable[Endpoint], *, now: float, deadline: float, timeout: float) -> None:
        """Set it up.

        Args:
            endpoints: at least one, in the resolver's order; the families are interleaved.
            now, deadline: seconds of one monotonic clock.
            timeout: seconds, as the user gave them; only printed.
        """
        self._waiting = deque(interleaved(endpoints))
        self._running: list[Endpoint] = []
        self._failed: dict[Endpoint, int] = {}
        self._next_at = now
        self._deadline = deadline
        self._timeout = timeout

    def start(self, now: float) -> Endpoint | None:
        """Give the address whose turn has come, or None; the next one's comes a head start later."""
        if not self._waiting or now < self._next_at:
            return None
        endpoint = self._waiting.popleft()
        self._running.append(endpoint)
        self._next_at = now + HEAD_START_S
        return endpoint

    def failed(self, endpoint: Endpoint, code: int, now: float) -> None:
        """Note an errno; the next address need not wait any longer (RFC 8305, section 5)."""
        self._running.remove(endpoint)
        self._failed[endpoint] = code
        self._next_at = now

    def busy(self, endpoint: Endpoint, now: float) -> None:
        """Put an address back that could not even be asked (EAGAIN), for a little later."""
        self._running.remove(endpoint)
        self._waiting.appendleft(endpoint)
        self._next_at = now + BUSY_RETRY_S

    def is_lost(self, now: float) -> bool:
        """Tell whether nothing can come of it any more."""
        return now >= self._deadline or not (self._waiting or self._running)

    def pause(self, now: float) -> float:
        """Tell how many seconds may pass before `start` or `is_lost` has news."""
        if self.is_lost(now):
            return 0.0
        until = min(self._next_at, self._deadline) if self._waiting else self._deadline
        return until - now if until > now else 0.0

    def fault(self, subject: str) -> SockdError:
        """Say why it is lost: each address with its reason, in the order they were tried.

        Args:
            subject: the address as the user wrote it.

        Returns:
            PermissionFault if the system forbade every one, else TemporaryFault.
        """
        codes = set(self._failed.values())
        silent = bool(self._running or self._waiting)
        reasons = [f"{_bare(endpoint)}: {os.strerror(code)}" for endpoint, code in self._failed.items()]
        reasons += [f"{_bare(endpoint)}: no answer" for endpoint in self._running]
        reasons += [f"{_bare(endpoint)}: not reached in time" for endpoint in self._waiting]
        if silent:
            headline = f"timed out after {self._timeout:g} s"
        else:
            headline = "connection refused" if codes == {errno.ECONNREFUSED} else "cannot connect"
        kind = PermissionFault if not silent and codes <= set(NOT_ALLOWED) else TemporaryFault
        return kind(f"{headline}: {subject} (tried {'; '.join(reasons)})")


def interleaved(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Alternate between the families, beginning with the first one's (RFC 8305, section 4)."""
    every = list(endpoints)
    if len(every) == 1:
        return every
    families: dict[int, deque[Endpoint]] = {}
    for endpoint in every:
        families.setdefault(endpoint.family, deque()).append(endpoint)
    ordered: list[Endpoint] = []
    while any(families.values()):
        ordered += [members.popleft() for members in families.values() if members]
    return ordered


def connect(address: Address, *, timeout: float, source: str | None = None) -> socket.socket:
    """Connect to the first address that answers.  BLOCKS up to `timeout`.

    Args:
        address: a datagram address is connected too, so that ICMP errors are
            reported; nothing answers there, so the first one that has a route is taken.
        timeout: seconds, for the name's look-up and all attempts together.
        source: our own address in numbers; the port stays the system's to choose, at connect() and not at
            bind(), so that it is taken for this peer only (IP_BIND_ADDRESS_NO_PORT, FAQ III.6).

    Returns:
        A non-blocking, close-on-exec socket, TCP_NODELAY on (FAQ II.16).  A unixgram
        socket has an address of its own (autobind), so that it can be answered.

    Raises:
        TemporaryFault: nobody answered; names each address tried with its reason.
        SystemFault: the host, the interface or the service is unknown, or has no address of the source's family.
        PermissionFault: the system forbids it.

    Source: connect(2), RFC 8305, FAQ III.5, III.6, III.7.
    """
    deadline = time.monotonic() + timeout
    endpoints = look_up(address, timeout=timeout)
    if source is not None:
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        endpoints = [endpoint for endpoint in endpoints if endpoint.family == family]
        if not endpoints:
            raise SystemFault(f"{address}: it has no address of the kind of {source}")
    race = Race(endpoints, now=time.monotonic(), deadline=deadline, timeout=timeout)
    return _Attempts(race, source).run(str(address))


def look_up(address: Address, *, timeout: float) -> list[Endpoint]:
    """Find the endpoints to connect to, within a time; a resolver that hangs is left behind in its thread.

    Args:
        address: whose name, if it has one, is looked up.
        timeout: seconds.

    Raises:
        TemporaryFault: no answer within the time, or EAI_AGAIN.
        SystemFault: unknown host, interface or service.

    Source: getaddrinfo(3) has no deadline of its own; FAQ III.1.
    """
    answers: queue.SimpleQueue[list[Endpoint] | BaseException] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(address.endpoints(passive=False))
        except BaseException as error:  # whatever it is, it is the caller's to hear
            answers.put(error)

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        text = f"timed out after {timeout:g} s: {address} (the resolver gave no answer for {address.host!r})"
        raise TemporaryFault(text) from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


class _Attempts:
    """The open attempts of one race over a selector."""

    def __init__(self, race: Race, source: str | None) -> None:
        self._race = race
        self._source = source
        self._selector = selectors.DefaultSelector()

    def run(self, subject: str) -> socket.socket:
        try:
            while not self._race.is_lost(time.monotonic()):
                winner = self._start_due() or self._wait()
                if winner is not None:
                    return winner
            raise self._race.fault(subject)
        finally:
            self._close()

    def _start_due(self) -> socket.socket | None:
        """Start what is due; a Unix, a datagram or a local socket may connect at once."""
        while (endpoint := self._race.start(time.monotonic())) is not None:
            try:
                sock = new_socket(endpoint, self._source)
            except OSError as error:
                self._race.failed(endpoint, error.errno or 0, time.monotonic())
                continue
            code = sock.connect_ex(endpoint.sockaddr)
            if code == errno.EINPROGRESS:
                self._selector.register(sock, selectors.EVENT_WRITE, endpoint)
            elif self._settle(sock, endpoint, code):
                return sock
        return None

    def _wait(self) -> socket.socket | None:
        for key, _ in self._selector.select(self._race.pause(time.monotonic())):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            self._selector.unregister(sock)
            if self._settle(sock, key.data, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                return sock
        return None

    def _settle(self, sock: socket.socket, endpoint: Endpoint, code: int) -> bool:
        """Tell whether the attempt has won; close the socket if not."""
        if code == 0 and met_itself(sock, endpoint):
            code = errno.ECONNREFUSED
        if code == 0:
            return True
        sock.close()
        if code == errno.EAGAIN:
            self._race.busy(endpoint, time.monotonic())
        else:
            self._race.failed(endpoint, code, time.monotonic())
        return False

    def _close(self) -> None:
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()


def new_socket(endpoint: Endpoint, source: str | None = None) -> socket.socket:
    """Make the socket of one attempt, non-blocking.

    Args:
        source: our own address in numbers, of the endpoint's family.

    Raises:
        OSError: there are no descriptors left, or the source is none of this host's.
    """
    sock = socket.socket(endpoint.family, endpoint.type, endpoint.proto)
    try:
        sock.setblocking(False)
        if endpoint.family == socket.AF_UNIX and endpoint.type == socket.SOCK_DGRAM:
            sock.bind("")  # autobind, unix(7): an abstract name of its own
        if endpoint.proto == socket.IPPROTO_TCP:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        if source is not None:
            if sys.platform == "linux":
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, True)
            sock.bind((source, 0))
    except BaseException:
        sock.close()
        raise
    return sock


def met_itself(sock: socket.socket, endpoint: Endpoint) -> bool:
    """Tell a TCP socket that connected to its own ephemeral port: simultaneous open, RFC 9293, 3.5."""
    if endpoint.family == socket.AF_UNIX or endpoint.type != socket.SOCK_STREAM:
        return False
    try:
        own = sock.getsockname()
        return own[1] == endpoint.sockaddr[1] and bool(own == sock.getpeername())
    except OSError:
        return False


def _bare(endpoint: Endpoint) -> str:
    text = str(endpoint)
    return text.partition("://")[2] or text.partition(":")[2]
