# SPDX-License-Identifier: MIT
"""The transport of handlers that are written for asyncio: for isinstance(), and for asyncio's loop, one of its own.

`loop.start_tls()`, `loop.sendfile()` and other functions of asyncio on transports use a few undocumented names; they
are all here.
"""

from __future__ import annotations

from asyncio import constants, transports, trsock
from socket import socket
from typing import TYPE_CHECKING

from sockd.services.handlers.trace import TracedConnection
from sockd.services.handlers.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable


class AsyncioTransport(Transport):
    """A Transport for which `isinstance(transport, asyncio.Transport)` holds.

    It cannot be a subclass: both have attributes in slots.  (And super() cannot be used, for it needs the name that
    isinstance() asks for.)
    """

    __slots__ = ()

    kept = ("sockname", "sslcontext", "ssl_object", "cipher", "peercert", "compression")
    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.FALLBACK

    @property  # type: ignore[misc]  # object's is writable
    def __class__(self) -> type:
        """What isinstance() asks where the type itself is not the one."""
        return transports._FlowControlMixin  # an asyncio.Transport

    @property
    def _protocol_paused(self) -> bool:
        return self._is_high

    def _force_close(self, exc: Exception | None) -> None:
        if self._error is None:
            self._error = exc
        self.abort()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Answer as Connection does; a socket is asyncio's TransportSocket."""
        if name == "socket" and self._ended and self._socket is not None:
            return trsock.TransportSocket(self._socket)  # which is closed
        value = Transport.get_extra_info(self, name, default)
        return trsock.TransportSocket(value) if name == "socket" and isinstance(value, socket) else value


class SessionTransport(AsyncioTransport):
    """The same, of a coroutine.

    Attributes:
        switched: called with the connection's number when set_protocol() is.
    """

    __slots__ = ("switched",)

    switched: Callable[[int], object]

    def set_protocol(self, protocol: object) -> None:
        """Speak to another protocol object from the next callback on."""
        Transport.set_protocol(self, protocol)
        self.switched(self.id)


class TracedAsyncioTransport(TracedConnection, AsyncioTransport):
    """The same with --trace."""

    __slots__ = ()


__all__ = ["AsyncioTransport", "SessionTransport", "TracedAsyncioTransport"]
