# SPDX-License-Identifier: MIT
"""The socket pair of an encrypted connection: one end for the service, the other for encryption and decryption.

It does not need OpenSSL, so that code without TLS can check what a socket is.
"""

from __future__ import annotations

import enum
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, overload

from sockd.net.loop.state_table import StateTable
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.address.sockaddr import SockAddr


RESET = struct.pack("ii", 1, 0)
"""struct linger, on and 0 seconds: close() sends RST (socket(7), FAQ IV.6)."""


class Input(enum.Enum):
    """How the peer's data has ended."""

    OPEN = "open"
    """More may arrive."""
    ENDED = "ended"
    """close_notify was received (RFC 8446, 6.1)."""
    CUT = "cut"
    """FIN alone: the peer sends no more, but a frame may be truncated."""
    LOST = "lost"
    """A reset, or an invalid record: the peer cannot be reached any more."""


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
        input: of the peer; set before this socket's own end of file comes.
        on_lost: called with an errno when input comes to be LOST; this socket ends behind what came before.
        abort: ends the connection as a reset does.
    """

    outer: socket.socket
    local: SockAddr
    input: Input
    on_lost: Callable[[int], None]
    abort: Callable[[], None]

    def getsockname(self) -> SockAddr:
        """Return the address of the connection itself."""
        return self.local

    @overload
    def getsockopt(self, level: int, optname: int, /) -> int: ...

    @overload
    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...

    def getsockopt(self, level: int, optname: int, buflen: int = 0, /) -> int | bytes:
        """Ask the real socket: on the pair, SO_PEERCRED is this process."""
        return self.outer.getsockopt(level, optname, buflen) if buflen else self.outer.getsockopt(level, optname)


@dataclass(frozen=True)
class SocketPair:
    """Of a socket pair: the service's end, and ours."""

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
    near.on_lost, near.abort = _nobody, _nothing
    for sock in (near, far):
        sock.setblocking(False)
    return SocketPair(near, far)


def close_with_reset(sock: socket.socket) -> None:
    """Close an accepted connection, encrypted or not, so that its peer gets a reset if that applies."""
    if isinstance(sock, TlsSocket):
        sock.abort()
    else:
        with suppress(OSError):  # EINVAL on BSDs, where it is reset already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


__all__ = ["INPUT", "RESET", "Input", "SocketPair", "TlsSocket", "close_with_reset", "pair"]
