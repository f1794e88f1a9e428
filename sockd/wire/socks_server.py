# SPDX-License-Identifier: MIT
"""SOCKS 4, 4a and 5, the server's side: bytes in, events out.

`Negotiation` gets the received data, in any pieces, and returns each complete message; the caller sends the bytes that
its methods return.  Nothing is connected and no name is resolved here; see sockd.wire.socks_address for valid
destinations.

Source: RFC 1928 (SOCKS 5), RFC 1929 (its passwords), SOCKS.PROTOCOL of Ying-Da Lee (4) and
SOCKS4A.PROTOCOL (4a), both openssh.com/txt.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from typing import TYPE_CHECKING, TypeAlias

from sockd.values import dataclass
from sockd.wire.socks_address import (
    Destination,
    Reply,
    SocksError,
    encode_address,
    format_ip,
    parse_destination,
    read_address,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_USER_ID_BYTES = 255
"""The text of SOCKS 4 knows no limit; that of SOCKS 5 is taken."""
MAX_NAME_BYTES = 255  # one octet of length in SOCKS 5; the same is taken for 4a

_V4_REQUEST = struct.Struct("!BBH4s")
_V4_REPLY_VERSION = 0
_LOGIN_VERSION = 1  # RFC 1929
_V5_HEAD_BYTES = 4


class SocksCommand(enum.IntEnum):
    """What a client wants."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3


class Method(enum.IntEnum):
    """Login methods of SOCKS 5 (RFC 1928, section 3)."""

    NONE = 0x00
    PASSWORD = 0x02
    NO_ACCEPTABLE = 0xFF


@dataclass(frozen=True)
class Greeting:
    """A client of SOCKS 5 offers methods; answer with choose()."""

    methods: bytes


@dataclass(frozen=True)
class Login:
    """Its user and password; answer with logged_in()."""

    user: bytes
    password: bytes


@dataclass(frozen=True)
class SocksRequest:
    """What it wants; answer with reply().

    Attributes:
        user_id: whom a client of SOCKS 4 says it is, which proves nothing.
    """

    version: int
    command: SocksCommand
    destination: Destination
    user_id: bytes = b""


Event: TypeAlias = Greeting | Login | SocksRequest


class State(enum.Enum):
    """Whose turn it is, and with what."""

    VERSION = "the client's first byte"
    REQUEST_4 = "a request of SOCKS 4"
    GREETING = "a greeting of SOCKS 5"
    LOGIN = "a user and a password"
    REQUEST_5 = "a request of SOCKS 5"
    CHOOSE = "choose()"
    VERDICT = "logged_in()"
    REPLY = "reply()"
    REFUSED = "nothing: it was refused"


class Negotiation:
    """One client, from its first byte to its request.

    Attributes:
        version: 4 or 5; 0 while it is not known.
        state: whose turn it is.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.version = 0
        self.state = State.VERSION

    def feed(self, data: bytes) -> Event | None:
        """Take bytes.

        Args:
            data: what has come; nothing to ask for a message that came together with the last one.

        Returns:
            The next message, None while it is not whole or while an answer is due.

        Raises:
            SocksError: this is not SOCKS, whatever follows; its reply, if there is one, must be sent.
        """
        self._buffer += data
        if self.state is State.VERSION:
            self._begin()
        read = _READERS.get(self.state)
        return read(self) if read else None

    @property
    def has_rest(self) -> bool:
        """Whether data follows the last message."""
        return bool(self._buffer)

    def pop_rest(self) -> bytes:
        """Return the data after the request; it is for the destination."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def skip_greeting(self) -> None:
        """Start after a greeting of SOCKS 5 that the C core has answered: no login."""
        self.version = 5
        self.state = State.REQUEST_5

    # ---- answers

    def choose(self, method: Method) -> bytes:
        """Answer a greeting."""
        self._answer(State.CHOOSE)
        after = {Method.NONE: State.REQUEST_5, Method.PASSWORD: State.LOGIN, Method.NO_ACCEPTABLE: State.REFUSED}
        self.state = after[method]
        return bytes((5, method))

    def logged_in(self, *, well: bool) -> bytes:
        """Answer user and password; a client that is refused must be closed (RFC 1929)."""
        self._answer(State.VERDICT)
        self.state = State.REQUEST_5 if well else State.REFUSED
        return bytes((_LOGIN_VERSION, 0 if well else 1))

    def reply(self, reply: Reply, host: str = "0.0.0.0", port: int = 0) -> bytes:  # noqa: S104 - for "no address"
        """Answer a request, or a violation that has a reply.

        Args:
            host: a numeric address, ours (BND.ADDR).
        """
        return encode_reply(self.version, reply, host, port)

    def _answer(self, state: State) -> None:
        if self.state is not state:
            raise RuntimeError(f"expected {self.state.value}, not {state.value}")

    # ---- messages

    def _begin(self) -> None:
        if not self._buffer:
            return
        version = self._buffer[0]
        if version not in (4, 5):
            raise SocksError(f"the first byte is 0x{version:02x}, neither SOCKS 4 nor 5")
        self.version = version
        self.state = State.REQUEST_4 if version == 4 else State.GREETING

    def _pop(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _greeting(self) -> Greeting | None:
        buffer = self._buffer
        if len(buffer) < 2 or len(buffer) < 2 + buffer[1]:
            return None
        self.state = State.CHOOSE
        return Greeting(self._pop(2 + buffer[1])[2:])

    def _login(self) -> Login | None:
        buffer = self._buffer
        if buffer and buffer[0] != _LOGIN_VERSION:
            raise SocksError(f"a login of version {buffer[0]}, not {_LOGIN_VERSION}")
        if len(buffer) < 2 or len(buffer) < 3 + buffer[1]:
            return None
        at = 2 + buffer[1]
        end = at + 1 + buffer[at]
        if len(buffer) < end:
            return None
        self.state = State.VERDICT
        message = self._pop(end)
        return Login(message[2:at], message[at + 1 :])

    def _request_5(self) -> SocksRequest | None:
        buffer = self._buffer
        if buffer and buffer[0] != 5:
            raise SocksError(f"a request of version {buffer[0]}, not 5", Reply.GENERAL_FAILURE)
        command = _command(buffer, self.version)
        found = read_address(buffer, _V5_HEAD_BYTES - 1)
        if command is None or found is None:
            return None
        make, end = found
        self.state = State.REPLY
        del buffer[:end]
        return SocksRequest(5, command, make())

    def _request_4(self) -> SocksRequest | None:
        buffer = self._buffer
        command = _command(buffer, self.version)
        if command is None or len(buffer) < _V4_REQUEST.size:
            return None
        _, _, port, address = _V4_REQUEST.unpack_from(buffer)
        user_end = _find_end(buffer, _V4_REQUEST.size, MAX_USER_ID_BYTES, "user id")
        if user_end is None:
            return None
        has_name = address[:3] == bytes(3) and address[3] != 0  # 0.0.0.x: SOCKS 4a
        end = _find_end(buffer, user_end, MAX_NAME_BYTES, "name") if has_name else user_end
        if end is None:
            return None
        self.state = State.REPLY
        message = self._pop(end)
        where = parse_destination(message[user_end:-1], port) if has_name else Destination(format_ip(address), port)
        return SocksRequest(4, command, where, message[_V4_REQUEST.size : user_end - 1])


_READERS: dict[State, Callable[[Negotiation], Event | None]] = {
    State.GREETING: Negotiation._greeting,  # the table is a part of the class that needs its functions
    State.LOGIN: Negotiation._login,
    State.REQUEST_5: Negotiation._request_5,
    State.REQUEST_4: Negotiation._request_4,
}


_COMMANDS: dict[int, dict[int, SocksCommand]] = {
    4: {1: SocksCommand.CONNECT, 2: SocksCommand.BIND},
    5: {int(command): command for command in SocksCommand},
}


def _command(buffer: bytearray, version: int) -> SocksCommand | None:
    if len(buffer) < 2:
        return None
    command = _COMMANDS[version].get(buffer[1])
    if command is None:
        raise SocksError(f"command {buffer[1]} is not one of SOCKS {version}", Reply.COMMAND_NOT_SUPPORTED)
    return command


def _find_end(buffer: bytearray, begin: int, max_size: int, what: str) -> int | None:
    """Find the end of a text that a NUL ends; None while it does not exist."""
    nul = buffer.find(0, begin, begin + max_size + 1)
    if nul < 0 and len(buffer) > begin + max_size:
        raise SocksError(f"a {what} of more than {max_size} bytes", Reply.GENERAL_FAILURE)
    return None if nul < 0 else nul + 1


# ---- what is sent


def encode_reply(version: int, reply: Reply, host: str, port: int) -> bytes:
    """Encode the answer to a request.

    Args:
        version: 4 or 5; 4 has two codes, and no place for an IPv6 address.
        host: numeric.
    """
    if version == 4:
        address = ipaddress.ip_address(host)
        code = 90 if reply is Reply.SUCCEEDED else 91  # request granted; rejected or failed
        packed = address.packed if address.version == 4 else bytes(4)
        return _V4_REQUEST.pack(_V4_REPLY_VERSION, code, port, packed)
    return bytes((5, reply, 0)) + encode_address(host, port)
