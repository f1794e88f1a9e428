# SPDX-License-Identifier: MIT
"""What SOCKS messages have in common: destinations, replies, and the header of a datagram.

A name that is an address, in any notation of inet_aton(3), is returned as an address; what can be neither an address
nor a host name is refused before it is resolved.

Source: RFC 1928, sections 5 to 7; inet_aton(3); RFC 1123, 2.1.
"""

from __future__ import annotations

import enum
import errno
import ipaddress
import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_HOST_NAME_BYTES = 253  # RFC 1035, 255 in wire form
MAX_NUMBER_CHARACTERS = 64  # zeros may stand before it, but a number of kilobytes is not worked out

_PORT = struct.Struct("!H")
_IPV4, _NAME, _IPV6 = 1, 3, 4  # RFC 1928, section 5
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}
_UDP_HEAD_BYTES = 4  # RSV, RSV, FRAG, ATYP
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"0[xX](?P<hex>[0-9A-Fa-f]+)|0(?P<octal>[0-7]*)|(?P<decimal>[1-9][0-9]*)")
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?([0-9]+|0[xX][0-9A-Fa-f]*)")


class Reply(enum.IntEnum):
    """What became of a request (RFC 1928, section 6)."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


ERRNO_REPLIES = {
    errno.ECONNREFUSED: Reply.REFUSED,
    errno.ETIMEDOUT: Reply.TTL_EXPIRED,  # as Dante: the nearest to "no reply in time"
    errno.EHOSTUNREACH: Reply.HOST_UNREACHABLE,
    errno.EHOSTDOWN: Reply.HOST_UNREACHABLE,
    errno.ENETUNREACH: Reply.NETWORK_UNREACHABLE,
    errno.ENETDOWN: Reply.NETWORK_UNREACHABLE,
    errno.EACCES: Reply.NOT_ALLOWED,  # a packet filter, or the broadcast address
    errno.EPERM: Reply.NOT_ALLOWED,
    errno.EAFNOSUPPORT: Reply.ADDRESS_TYPE_NOT_SUPPORTED,
    errno.EPROTONOSUPPORT: Reply.ADDRESS_TYPE_NOT_SUPPORTED,
}
"""Errors of connect(2) and their SOCKS replies; the most specific ones first; all others: general failure."""


def make_reply(codes: list[int]) -> Reply:
    """Choose the reply for attempts that all failed.

    Args:
        codes: their errnos, in any order.
    """
    return next((reply for code, reply in ERRNO_REPLIES.items() if code in codes), Reply.GENERAL_FAILURE)


class SocksError(ValueError):
    """The peer's violation; the text describes it.

    Attributes:
        reply: sent to the peer, None for none.
    """

    def __init__(self, text: str, reply: Reply | None = None) -> None:
        super().__init__(text)
        self.reply = reply


@dataclass(frozen=True)
class Destination:
    """Where to.

    Attributes:
        host: an address as inet_ntop(3) prints it, or the name of a host in lower case and ASCII.
        is_name: which of the two.
    """

    host: str
    port: int
    is_name: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# ---- what stands in a name's place


def parse_destination(name: bytes, port: int) -> Destination:
    """Read a name's field: an address in any notation is one, all else must be able to be the name of a host.

    Args:
        name: as it came, UTF-8.

    Raises:
        SocksError: neither; told as a host that cannot be reached.
    """
    try:
        text = name.decode("utf-8")
        host = text if text.isascii() else text.encode("idna").decode("ascii")  # RFC 3490 makes digits of wide ones
    except UnicodeError:
        raise _no_host(name) from None
    host = host.removesuffix(".").lower()
    address = literal(host)
    if address is not None:
        return Destination(str(address), port)
    if _ENDS_IN_NUMBER.fullmatch(host) or len(host) > MAX_HOST_NAME_BYTES or not _HOST_NAME.fullmatch(host):
        raise _no_host(name)
    return Destination(host, port, is_name=True)


def _no_host(name: bytes) -> SocksError:
    return SocksError(f"{name[:60]!r}"[1:] + " is not a valid host", Reply.HOST_UNREACHABLE)


def literal(text: str) -> IPAddress | None:
    """Read a numeric address; None when it is none.

    Args:
        text: IPv6, in brackets or not, without a scope; IPv4 as inet_aton(3) has it: one to four parts, each
            decimal, octal (0...) or hexadecimal (0x...), the last one filling what is left.
    """
    if ":" in text:
        bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        try:
            return None if "%" in bare else ipaddress.IPv6Address(bare)
        except ValueError:
            return None
    parts = [_number(part) for part in text.split(".", 4)]
    numbers = [part for part in parts if part is not None]
    if len(numbers) != len(parts) or len(parts) > 4:
        return None
    *firsts, last = numbers
    if any(part > 0xFF for part in firsts) or last >> 8 * (4 - len(firsts)):
        return None
    value = last + sum(part << 8 * (3 - index) for index, part in enumerate(firsts))
    return ipaddress.IPv4Address(value)


def _number(part: str) -> int | None:
    if len(part) > MAX_NUMBER_CHARACTERS:
        return None
    found = _NUMBER.fullmatch(part)
    if found is None:
        return None
    if found["hex"] is not None:
        return int(found["hex"], 16)
    return int(found["decimal"]) if found["decimal"] is not None else int(found["octal"] or "0", 8)


# ---- in messages


def read_address(buffer: bytes | bytearray, at: int) -> tuple[Callable[[], Destination], int] | None:
    """Find an address with its type before it and its port after it.

    Args:
        at: where the kind stands.

    Returns:
        What makes the destination, and where the port ends; None while that does not exist.

    Raises:
        SocksError: there is no such kind.
    """
    if len(buffer) <= at:
        return None
    kind, begin = buffer[at], at + 1
    if kind == _NAME:
        if len(buffer) <= begin:
            return None
        begin, size = begin + 1, buffer[begin]
    elif kind in _ADDRESS_BYTES:
        size = _ADDRESS_BYTES[kind]
    else:
        raise SocksError(f"address type {kind} is not one of SOCKS 5", Reply.ADDRESS_TYPE_NOT_SUPPORTED)
    end = begin + size
    if len(buffer) < end + _PORT.size:
        return None
    address, port = bytes(buffer[begin:end]), _PORT.unpack_from(buffer, end)[0]
    if kind == _NAME:
        return lambda: parse_destination(address, port), end + _PORT.size
    return lambda: Destination(format_ip(address), port), end + _PORT.size


@lru_cache(1024)
def format_ip(address: bytes) -> str:
    """Print a packed address."""
    return str(ipaddress.ip_address(address))


def encode_address(host: str, port: int) -> bytes:
    """Encode kind, address and port; `host` is numeric."""
    return _kind_and_address(host) + _PORT.pack(port)


@lru_cache(1024)
def _kind_and_address(host: str) -> bytes:
    address = ipaddress.ip_address(host)
    return bytes((_IPV4 if address.version == 4 else _IPV6,)) + address.packed


# ---- datagrams (RFC 1928, section 7)


def parse_datagram(data: bytes) -> tuple[Destination, bytes]:
    """Read a datagram of a client's.

    Returns:
        Where to, and what.

    Raises:
        SocksError: it is short, a fragment, or of no kind of address; to be dropped.
    """
    if len(data) < _UDP_HEAD_BYTES:
        raise SocksError(f"a datagram of {len(data)} bytes has no header")
    if data[2]:
        raise SocksError(f"fragment {data[2]}; fragments are not reassembled")
    found = read_address(data, _UDP_HEAD_BYTES - 1)
    if found is None:
        raise SocksError(f"a datagram of {len(data)} bytes ends within its header")
    make, end = found
    return make(), data[end:]


def encode_datagram(host: str, port: int, data: bytes) -> bytes:
    """Encode a datagram for a client; `host` is the numeric address it came from."""
    return bytes(3) + encode_address(host, port) + data
