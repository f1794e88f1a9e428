# SPDX-License-Identifier: MIT
"""The socket pair of an encrypted connection: one end is the service's, at the other bytes are encrypted and decrypted.

OpenSSL is not needed for it, so that whoever is handed such a socket can ask what it is.
"""

from __future__ import annotations

import enum
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from sockd.net.loop.state_table import StateTable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from sockd.net.address.sockaddr import SockAddr


RESET = struct.pack("ii", 1, 0)
"""struct linger, on and 0 seconds: close() sends RST (socket(7), FAQ IV.6)."""


class Input(enum.Enum):
    """What is known of the end of the peer's data."""

    OPEN = "open"
    """More may come."""
    ENDED = "ended"
    """Its close_notify has come (RFC 8446, 6.1)."""
    CUT = "cut"
    """TCP's FIN alone: it sends no more, but whether it was done with a frame nobody knows."""
    LOST = "lost"
    """A reset, or a record that is not in order: there is no way to it any more."""


INPUT = StateTable(
    {
        Input.OPEN: (Input.ENDED, Input.CUT, Input.LOST),
        Input.ENDED: (Input.LOST,),
        Input.CUT: (Input.LOST,),
        Input.LOST: (),
    }
)


class TlsSocket(socket.socket):
    """The service's end of an encrypted connection.

    Attributes:
        outer: the connection itself.
        local: our address, of the connection itself.
        ssl_object: for what it tells of the connection; None until the handshake is done.
        input: of the peer; set before this socket's own end of file comes.
        on_lost: called with an errno when input comes to be LOST; this socket ends behind what came before.
        abort: ends the connection as a reset does.
    """

    outer: socket.socket
    local: SockAddr
    ssl_object: ssl.SSLObject | None
    input: Input
    on_lost: Callable[[int], None]
    abort: Callable[[], None]

    def getsockname(self) -> SockAddr:
        """Return the address of the connection itself."""
        return self.local

    def getsockopt(self, *arguments: int) -> Any:  # noqa: ANN401 - as socket
        """Ask the connection itself: of its other end the kernel would tell us of ourselves (SO_PEERCRED)."""
        return self.outer.getsockopt(*arguments)


class SocketPair(NamedTuple):
    """Of a socket pair: the service's, and ours."""

    near: TlsSocket
    far: socket.socket


def _nobody(_error: int) -> None:
    return None


def _nothing() -> None:
    return None


def pair(outer: socket.socket) -> SocketPair:
    """Make a socket pair for a connection.

    Raises:
        OSError: no descriptors, no memory, or the connection has no address any more.
    """
    local = outer.getsockname()
    one, far = socket.socketpair()
    near = TlsSocket(fileno=one.detach())
    near.outer, near.local, near.input = outer, local, Input.OPEN
    near.ssl_object, near.on_lost, near.abort = None, _nobody, _nothing
    for sock in (near, far):
        sock.setblocking(False)
    return SocketPair(near, far)


def close_with_reset(sock: socket.socket) -> None:
    """Close a connection that was accepted, encrypted or not, so that its peer hears of a reset where there is one."""
    if isinstance(sock, TlsSocket):
        sock.abort()
    else:
        with suppress(OSError):  # EINVAL on BSDs, where it is reset already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


__all__ = ["RESET", "Input", "SocketPair", "TlsSocket", "close_with_reset", "pair"]
