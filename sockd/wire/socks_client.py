# SPDX-License-Identifier: MIT
"""SOCKS 5, the client's side of CONNECT: bytes in, bytes out.

The destination's name goes to the server as it is, so that it is looked up there.

Source: RFC 1928, RFC 1929.
"""

from __future__ import annotations

import enum
import ipaddress
import struct

MAX_NAME_BYTES = 255
MAX_REPLY_BYTES = 4 + 1 + MAX_NAME_BYTES + 2

_NO_LOGIN, _PASSWORD, _NO_ACCEPTABLE = 0x00, 0x02, 0xFF
_V4, _NAME, _V6 = 1, 3, 4
_ADDRESS_BYTES = {_V4: 4, _V6: 16}
_REASONS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}


class SocksRefusal(Exception):
    """The server does not connect us, or is none; the text says why."""


class Phase(enum.Enum):
    """What is waited for."""

    METHOD = "the method selection"
    LOGIN = "the reply to the login"
    REPLY = "the reply to the request"
    CONNECTED = "nothing: connected"


class SocksClient:
    """One request to connect.

    Args:
        host: a name, or an address in numbers.
        port: of the destination.
        user, password: who we are; a server that does not ask is not told.

    Attributes:
        phase: the message that is awaited.
        rest: data received after the reply: the destination's first bytes.

    Raises:
        ValueError: the name, the user or the password does not fit in a message.
    """

    def __init__(self, host: str, port: int, *, user: str | None = None, password: str | None = None) -> None:
        self._request = b"\5\1\0" + _address(host) + struct.pack("!H", port)
        self._login = None if user is None else _login(user, password or "")
        self._buffer = bytearray()
        self.phase = Phase.METHOD
        self.rest = b""

    def begin(self) -> bytes:
        """Return the first message."""
        return bytes((5, 1, _NO_LOGIN)) if self._login is None else bytes((5, 2, _NO_LOGIN, _PASSWORD))

    def feed(self, data: bytes) -> bytes:
        """Take what the server says, however it was cut.

        Returns:
            What is to be sent now; empty while more is needed, and once `phase` is CONNECTED.

        Raises:
            SocksRefusal: it does not connect us.
        """
        self._buffer += data
        answer = b""
        if self.phase is Phase.METHOD and len(self._buffer) >= 2:
            answer = self._method(self._pop(2))
        if self.phase is Phase.LOGIN and len(self._buffer) >= 2:
            answer = self._verdict(self._pop(2))
        if self.phase is Phase.REPLY:
            self._reply()
        return answer

    def _pop(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _method(self, message: bytes) -> bytes:
        version, method = message
        if version != 5:
            raise SocksRefusal(f"it answers with 0x{version:02x}, which is not SOCKS 5")
        if method == _NO_LOGIN:
            self.phase = Phase.REPLY
            return self._request
        if method == _PASSWORD and self._login is not None:
            self.phase = Phase.LOGIN
            return self._login
        wants = "it accepts none of the offered methods" if method == _NO_ACCEPTABLE else f"it requires method {method}"
        raise SocksRefusal(wants if self._login else f"{wants}; add a user")

    def _verdict(self, message: bytes) -> bytes:
        if message[1] != 0:
            raise SocksRefusal("it rejects user and password")
        self.phase = Phase.REPLY
        return self._request

    def _reply(self) -> None:
        buffer = self._buffer
        if buffer and buffer[0] != 5:
            raise SocksRefusal(f"it replies with 0x{buffer[0]:02x}, which is not SOCKS 5")
        if len(buffer) >= 2 and buffer[1] != 0:
            raise SocksRefusal(_REASONS.get(buffer[1], f"reply {buffer[1]}"))
        if len(buffer) < 5:
            return
        kind = buffer[3]
        if kind != _NAME and kind not in _ADDRESS_BYTES:
            raise SocksRefusal(f"it replies with an address of type {kind}")
        size = 4 + (1 + buffer[4] if kind == _NAME else _ADDRESS_BYTES[kind]) + 2
        if len(buffer) >= size:
            self.phase = Phase.CONNECTED
            self.rest = bytes(buffer[size:])


def _address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        name = host.encode("idna" if not host.isascii() else "ascii")
        if not 1 <= len(name) <= MAX_NAME_BYTES:
            raise ValueError(f"a name of {len(name)} bytes; SOCKS allows 1 to {MAX_NAME_BYTES}") from None
        return bytes((_NAME, len(name))) + name
    return bytes((_V4 if address.version == 4 else _V6,)) + address.packed


def _login(user: str, password: str) -> bytes:
    words = [word.encode("utf-8", "surrogateescape") for word in (user, password)]
    for what, word in zip(("user", "password"), words, strict=True):
        if not 1 <= len(word) <= MAX_NAME_BYTES:
            raise ValueError(f"a {what} of {len(word)} bytes; SOCKS allows 1 to {MAX_NAME_BYTES}")
    return b"\1" + b"".join(bytes((len(word),)) + word for word in words)


__all__ = ["MAX_REPLY_BYTES", "Phase", "SocksClient", "SocksRefusal"]
