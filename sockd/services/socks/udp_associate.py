# SPDX-License-Identifier: MIT
"""UDP ASSOCIATE: datagrams of one client, for as long as its TCP connection lives (RFC 1928, section 7).

The client's datagrams arrive on a port of their own, from its address alone and, after the first one, from its port
alone. In its request it may announce its source port (RFC 1928, section 4), and is held to that; many clients announce
their destination there instead, or nothing, which is recognised by an address that is not theirs.
"""

from __future__ import annotations

import selectors
import socket
from collections import OrderedDict
from typing import TYPE_CHECKING

from sockd.services.socks.egress import make_endpoint
from sockd.services.socks.rules import parse_ip
from sockd.wire.socks_address import SocksError, encode_datagram, parse_datagram

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.address.sockaddr import SockAddr, SocketAddress
    from sockd.services.socks.egress import Cancellable, Egress, Refusal
    from sockd.services.socks.rules import IPAddress
    from sockd.wire.socks_address import Destination

DATAGRAM_BYTES = 65_536  # more than IP carries
DATAGRAMS_A_TURN = 64
"""So that one client does not hold up the others."""
HOSTS = 1024
"""That one client may speak with at a time; the one it has sent to least lately is forgotten."""
NAMES_ASKED, DATAGRAMS_HELD = 16, 8
"""Names that are being looked up at a time, and datagrams that wait for one."""
KEPT_SECONDS = 60.0
"""Time for which a destination is neither resolved nor checked again."""


class Association:
    """The datagrams of one client.

    Args:
        gate: judges.
        client: the address of its TCP connection.
        named: where it says it will send from, if it is its own address.
        local: our address of that connection; it has a host.
        user: that has logged in.

    Attributes:
        sent, received: bytes that left for hosts, and that were passed on to the client.
        dropped: datagrams.
        why: nothing was passed on, where what the client has named is the reason; else empty.

    Raises:
        OSError: there is no socket to be had.
    """

    def __init__(
        self, gate: Egress, client: IPAddress, named: Destination, local: SocketAddress, user: str | None
    ) -> None:
        self._gate = gate
        self._user = user
        self._client = client
        self._port = named.port if not named.is_name and parse_ip(named.host) == client else 0
        self.why = ""
        self._client_name: SockAddr | None = None
        self._known: OrderedDict[Destination, tuple[float, IPAddress | None]] = OrderedDict()
        self._asked: dict[Destination, tuple[Cancellable | None, list[bytes]]] = {}
        self._hosts: OrderedDict[IPAddress, None] = OrderedDict()
        self._outer: dict[int, socket.socket] = {}
        self.sent = self.received = self.dropped = 0
        inner = parse_ip(local.host)
        name = (str(inner), 0) if inner.version == 4 else (str(inner), 0, 0, local.scope)
        self._inner = self._open(inner.version, name, self._from_client)

    def _open(self, version: int, name: tuple[object, ...], readable: Callable[[], None]) -> socket.socket:
        sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if version == 6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
            sock.bind(name)
            self._gate.loop.watch_fd(sock.fileno(), selectors.EVENT_READ, readable)
        except BaseException:
            sock.close()
            raise
        return sock

    @property
    def name(self) -> tuple[str, int]:
        """Where the client's datagrams are to go."""
        host, port = self._inner.getsockname()[:2]
        return host, port

    # ---- from the client

    def _from_client(self) -> None:
        for _ in range(DATAGRAMS_A_TURN):
            try:
                data, name = self._inner.recvfrom(DATAGRAM_BYTES)
            except OSError:  # EAGAIN; what ICMP tells of an earlier one
                return
            if self._is_client(name):
                self._forward(data)
            else:
                self.dropped += 1

    def _is_client(self, name: SockAddr) -> bool:
        """Tell whether it is the client's; its first datagram settles the port."""
        if isinstance(name, str) or parse_ip(name[0]) != self._client:
            return False
        if self._port not in (0, name[1]):
            if self._client_name is None:
                self.why = f"datagrams came from port {name[1]}, but the client announced port {self._port}"
            return False
        self._port = name[1]
        self._client_name = name
        self.why = ""
        return True

    def _forward(self, data: bytes) -> None:
        try:
            destination, payload = parse_datagram(data)
        except SocksError:
            self.dropped += 1
            return
        expires, address = self._known.get(destination, (0.0, None))
        if expires > self._gate.loop.clock():
            self._send(address, destination.port, payload)
        elif destination in self._asked:
            held = self._asked[destination][1]
            if len(held) < DATAGRAMS_HELD:
                held.append(payload)
            else:
                self.dropped += 1
        elif len(self._asked) < NAMES_ASKED:
            self._ask(destination, payload)
        else:
            self.dropped += 1

    def _ask(self, destination: Destination, payload: bytes) -> None:
        held = [payload]
        self._asked[destination] = None, held

        def found(answer: list[IPAddress] | Refusal) -> None:
            del self._asked[destination]
            address = answer[0] if isinstance(answer, list) else None
            self._known[destination] = self._gate.loop.clock() + KEPT_SECONDS, address
            if len(self._known) > HOSTS:
                self._known.popitem(last=False)
            for one in held:
                self._send(address, destination.port, one)

        question = self._gate.find(destination, self._client, self._user, found)
        if question is not None:
            self._asked[destination] = question, held

    def _send(self, address: IPAddress | None, port: int, payload: bytes) -> None:
        if address is None:
            self.dropped += 1
            return
        self._hosts[address] = None
        self._hosts.move_to_end(address)
        if len(self._hosts) > HOSTS:
            self._hosts.popitem(last=False)
        try:
            self._towards(address).sendto(payload, make_endpoint(address, port, socket.SOCK_DGRAM).sockaddr)
            self.sent += len(payload)
        except OSError:
            self.dropped += 1

    def _towards(self, address: IPAddress) -> socket.socket:
        if address.version not in self._outer:
            any_address = "0.0.0.0" if address.version == 4 else "::"  # noqa: S104 - as an unbound socket has it
            name = (str(self._gate.source or any_address), 0)
            self._outer[address.version] = self._open(address.version, name, lambda: self._from_host(address.version))
        return self._outer[address.version]

    # ---- from the hosts

    def _from_host(self, version: int) -> None:
        sock = self._outer[version]
        for _ in range(DATAGRAMS_A_TURN):
            try:
                data, name = sock.recvfrom(DATAGRAM_BYTES)
            except OSError:  # EAGAIN; what ICMP tells of an earlier one
                return
            host = name[0].partition("%")[0]
            if self._client_name is None or parse_ip(host) not in self._hosts:
                self.dropped += 1
                continue
            try:
                self._inner.sendto(encode_datagram(host, name[1], data), self._client_name)
                self.received += len(data)
            except OSError:
                self.dropped += 1

    def cancel(self) -> None:
        """End: nothing is passed on any more."""
        for question, _ in self._asked.values():
            if question is not None:
                question.cancel()
        for sock in (self._inner, *self._outer.values()):
            if sock.fileno() >= 0:
                self._gate.loop.watch_fd(sock.fileno(), 0, self._from_client)
                sock.close()


__all__ = ["Association"]
