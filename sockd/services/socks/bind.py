# SPDX-License-Identifier: MIT
"""BIND: a port of ours on which the client's own server connects back to it (RFC 1928, section 4).

One connection is accepted, from the address in the client's request; if that is 0.0.0.0, the rules are applied to each
peer.  Others are closed, and the wait continues until its deadline.
"""

from __future__ import annotations

import selectors
import socket
from typing import TYPE_CHECKING

from sockd.net.loop.deadline import Deadline
from sockd.services.socks.egress import Refusal, make_endpoint
from sockd.services.socks.rules import parse_ip
from sockd.wire.socks_address import Reply, make_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.services.socks.egress import Egress
    from sockd.services.socks.rules import AccessRequest, IPAddress

BACKLOG = 8
_DISCARD_PORT = 9  # nothing is sent; connect(2) of a datagram socket only chooses the route


class Bind:
    """Waits for one connection.

    Args:
        gate: its rules judge whoever comes where `wanted` is empty; its timeout is the deadline.
        wanted: who may come; empty: whom the rules allow.
        local: our address towards the client, on which is waited where no route says otherwise.
        done: is called once in the loop, later: with the connection and its peer, or with why there is none.

    Raises:
        OSError: there is no socket to be had.
    """

    def __init__(
        self,
        gate: Egress,
        asked: AccessRequest,
        wanted: list[IPAddress],
        local: IPAddress,
        done: Callable[[tuple[socket.socket, IPAddress, int] | Refusal], None],
    ) -> None:
        self._gate = gate
        self._asked = asked
        self._wanted = wanted
        self._done = done
        host = gate.source if gate.source is not None else _towards(wanted[0]) if wanted else local
        endpoint = make_endpoint(host, 0, socket.SOCK_STREAM)
        self._socket = socket.socket(endpoint.family, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(endpoint.sockaddr)
            self._socket.listen(BACKLOG)
            gate.loop.watch_fd(self._socket.fileno(), selectors.EVENT_READ, self._accept)
        except BaseException:
            self._socket.close()
            raise
        late = Refusal(Reply.TTL_EXPIRED, f"no peer connected within {gate.timeout:g} s")
        self._timer = Deadline(gate.loop, gate.timeout, lambda: self._end(late))

    @property
    def name(self) -> tuple[str, int]:
        """Where it waits."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def _accept(self) -> None:
        try:
            sock, peer = self._socket.accept()
        except BlockingIOError:
            return
        except OSError as error:
            self._end(Refusal(make_reply([error.errno or 0]), str(error)))
            return
        address, port = parse_ip(peer[0]), peer[1]
        if not self._is_welcome(address, port):
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._end((sock, address, port))

    def _is_welcome(self, address: IPAddress, port: int) -> bool:
        if self._wanted:
            return address in self._wanted
        return not self._gate.rules.forbids(self._asked, address, port)

    def _end(self, what: tuple[socket.socket, IPAddress, int] | Refusal) -> None:
        self.cancel()
        self._done(what)

    def cancel(self) -> None:
        """Wait no longer."""
        self._timer.cancel()
        if self._socket.fileno() >= 0:
            self._gate.loop.watch_fd(self._socket.fileno(), 0, self._accept)
            self._socket.close()


def _towards(address: IPAddress) -> IPAddress:
    """Return our address on the way to another.  OSError: there is no way."""
    endpoint = make_endpoint(address, _DISCARD_PORT, socket.SOCK_DGRAM)
    with socket.socket(endpoint.family, socket.SOCK_DGRAM) as probe:
        probe.connect(endpoint.sockaddr)
        return parse_ip(probe.getsockname()[0])


__all__ = ["Bind"]
