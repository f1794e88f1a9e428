# SPDX-License-Identifier: MIT
"""Connecting through a SOCKS 5 server: for the client tool.  BLOCKS.

The server resolves the destination's name.  Its reply is received byte by byte, so that no byte of the destination is
consumed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sockd.client.connect import connect
from sockd.errors import TemporaryFault, UsageError, fault
from sockd.wire.socks_client import Phase, SocksClient, SocksRefusal

if TYPE_CHECKING:
    import socket

    from sockd.net.address.address import Address
    from sockd.settings.relay import SocksUrl


def connect_via(
    via: SocksUrl, address: Address, *, timeout: float, source: str | None = None, password: str | None = None
) -> socket.socket:
    """Connect to an address through a SOCKS server.

    Args:
        address: of tcp.
        timeout: seconds, for the server and its connection together.
        source: numeric local address for the connection to the server.
        password: of the user in `via`.

    Returns:
        As connect().

    Raises:
        UsageError: the name, the user or the password does not fit into a SOCKS message.
        TemporaryFault: the server cannot be reached, or does not connect.
        SystemFault, PermissionFault: as connect().

    Source: RFC 1928, RFC 1929.
    """
    deadline = time.monotonic() + timeout
    subject = f"{address} via {via.address}"
    try:
        client = SocksClient(address.host, address.port_number(), user=via.user, password=password)
    except ValueError as error:
        raise UsageError(f"{subject}: {error}") from None
    sock = connect(via.address, timeout=timeout, source=source)
    try:
        _ask(sock, client, deadline)
    except BaseException as error:
        sock.close()
        if isinstance(error, TimeoutError):
            text = f"timed out after {timeout:g} s: {subject}: waiting for {client.phase.value}"
            raise TemporaryFault(text) from None
        if isinstance(error, OSError):
            raise fault(error, subject) from None
        if isinstance(error, SocksRefusal):
            raise TemporaryFault(f"{subject}: {error}") from None
        raise
    sock.setblocking(False)
    return sock


def _ask(sock: socket.socket, client: SocksClient, deadline: float) -> None:
    sock.setblocking(True)
    answer = client.begin()
    while client.phase is not Phase.CONNECTED:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        if answer:
            sock.sendall(answer)
        byte = sock.recv(1)
        if not byte:
            raise SocksRefusal(f"closed by the server while waiting for {client.phase.value}")
        answer = client.feed(byte)


__all__ = ["connect_via"]
