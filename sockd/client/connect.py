# SPDX-License-Identifier: MIT
"""Outgoing connections: every address tried in a race with head starts (FAQ III.5, III.7).

The race itself is sockd.net.connect.happy_eyeballs: it gets the time and the events, opens nothing, and an event loop
can drive it as well.  `connect` drives it with a selector and blocks; it is for the client tool.
"""

from __future__ import annotations

import errno
import queue
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING

from sockd.errors import SystemFault, TemporaryFault
from sockd.net.address.address import resolve_endpoints
from sockd.net.connect.happy_eyeballs import HappyEyeballs, met_itself, new_socket

if TYPE_CHECKING:
    from sockd.net.address.address import Address
    from sockd.net.address.sockaddr import Endpoint


def connect(address: Address, *, timeout: float, source: str | None = None) -> socket.socket:
    """Connect to the first address that answers.  BLOCKS up to `timeout`.

    Args:
        address: a datagram address is connected too, so that ICMP errors are reported; nothing answers there, so the
            first address with a route is used.
        timeout: seconds, for the name's look-up and all attempts together.
        source: numeric local address; the system chooses the port, at connect() and not at bind(), so that it is used
            for this peer only (IP_BIND_ADDRESS_NO_PORT, FAQ III.6).

    Returns:
        A non-blocking, close-on-exec socket, TCP_NODELAY on (FAQ II.16).  A unixgram
        socket has an address of its own (autobind), so that it can be answered.

    Raises:
        TemporaryFault: no address answered; names each address tried with its reason.
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
            raise SystemFault(f"{address}: no address of the same family as {source}")
    race = HappyEyeballs(endpoints, now=time.monotonic(), deadline=deadline, timeout=timeout)
    return _Attempts(race, source).run(str(address))


def look_up(address: Address, *, timeout: float) -> list[Endpoint]:
    """Find the endpoints to connect to, within a time; a resolver that hangs is left in its thread.

    Args:
        address: its host name, if it has one, is looked up.
        timeout: seconds.

    Raises:
        TemporaryFault: no reply within the time, or EAI_AGAIN.
        SystemFault: unknown host, interface or service.

    Source: getaddrinfo(3) has no deadline of its own; FAQ III.1.
    """
    answers: queue.SimpleQueue[list[Endpoint] | BaseException] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolve_endpoints(address, passive=False))
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
    """The open attempts of one Happy Eyeballs race, over a selector."""

    def __init__(self, race: HappyEyeballs, source: str | None) -> None:
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
        """Start the attempts that are due; a Unix, a datagram or a local socket may connect at once."""
        while (endpoint := self._race.start(time.monotonic())) is not None:
            try:
                sock = new_socket(endpoint, self._source)
            except OSError as error:
                self._race.failed(endpoint, error.errno or 0, time.monotonic())
                continue
            code = sock.connect_ex(endpoint.sockaddr)
            if code == errno.EINPROGRESS:
                self._selector.register(sock, selectors.EVENT_WRITE, endpoint)
            elif self._finish_attempt(sock, endpoint, code):
                return sock
        return None

    def _wait(self) -> socket.socket | None:
        for key, _ in self._selector.select(self._race.pause(time.monotonic())):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            self._selector.unregister(sock)
            if self._finish_attempt(sock, key.data, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                return sock
        return None

    def _finish_attempt(self, sock: socket.socket, endpoint: Endpoint, code: int) -> bool:
        """Return whether the attempt has succeeded; close the socket if not."""
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
