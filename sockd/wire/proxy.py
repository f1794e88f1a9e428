# SPDX-License-Identifier: MIT
"""The PROXY protocol, versions 1 and 2: what a proxy says of the client, before the client's first byte.

`parse` gets the bytes received so far and returns how much of it is the header, that more is needed, or that it is not
one.  It never guesses: a connection either has a header from its first byte on, or is refused.  Its time is linear in
the header's size, whatever it contains.

Source: The PROXY protocol, versions 1 & 2, HAProxy Technologies, 2020/03/05
(doc/proxy-protocol.txt of HAProxy); "section" below means of this text.
"""

from __future__ import annotations

import ipaddress
import struct
from functools import cache

from sockd.values import dataclass

V1_SIGNATURE = b"PROXY "
V1_MAX_BYTES = 107  # section 2.1: the longest line, CR LF included
V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2_FIXED_BYTES = 16
MAX_BYTES = V2_FIXED_BYTES + 0xFFFF

_V2_FIXED = struct.Struct("!12sBBH")
_TLV = struct.Struct("!BH")
_PORTS = struct.Struct("!HH")
_V2_ADDRESS_BYTES = {0: 0, 1: 12, 2: 36, 3: 216}  # of the families UNSPEC, INET, INET6, UNIX
_UNIX_PATH_BYTES = 108
_STREAM, _DATAGRAM = 1, 2
_LOCAL, _PROXY = 0, 1

ALPN = 0x01
AUTHORITY = 0x02
CRC32C = 0x03
NOOP = 0x04
UNIQUE_ID = 0x05
SSL = 0x20
SSL_CN = 0x22
NETNS = 0x30
UNIQUE_ID_MAX_BYTES = 128
MAX_TLVS = 128  # those within SSL included; the protocol names 12 types, and leaves 32 to be agreed on
_SSL_FIXED_BYTES = 5  # section 2.2.6: client (1), verify (4), then TLVs
_SUM_BYTES = 4

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Endpoint = tuple[str, int] | bytes
"""A numeric address and a port; the name of a Unix socket as the kernel has it: a path, or NUL and an abstract one."""


class ProxyError(ValueError):
    """The bytes are no header; the text says at which of them and why."""


@dataclass(frozen=True)
class Header:
    """What a proxy said.

    Attributes:
        size: bytes of the header; what follows is the client's.
        version: 1 or 2.
        source: the client; None where the proxy speaks for itself (LOCAL) or does not know (UNKNOWN, UNSPEC, UDP).
            An abstract name of a Unix socket begins with NUL, that of an unnamed one is empty.
        destination: whom the client had connected to; None as source.
        local: the connection of the proxy itself, a health check as a rule.
        tlvs: (type, value) of version 2, in their order; those inside SSL are listed behind it.  None of LOCAL and
            UNSPEC, where it cannot be known what of the block is an address.
    """

    size: int
    version: int
    source: Endpoint | None = None
    destination: Endpoint | None = None
    local: bool = False
    tlvs: tuple[tuple[int, bytes], ...] = ()

    def tlv(self, kind: int) -> bytes | None:
        """Return the first value of a type, None if there is none."""
        return next((value for found, value in self.tlvs if found == kind), None)


def parse(data: bytes) -> Header | None:
    """Read a header from the beginning of a connection's bytes.

    Returns:
        The header, or None while more bytes are needed.

    Raises:
        ProxyError: this is not a header, whatever follows.
    """
    if not data:
        return None
    if data[:1] == V2_SIGNATURE[:1]:
        return _parse_v2(data)
    return _parse_v1(data)


def least(data: bytes) -> int:
    """Return the minimum size of a header that begins so, for callers that have these bytes when parse() needs
    more.
    """
    if data[:1] == V2_SIGNATURE[:1] and len(data) >= V2_FIXED_BYTES:
        return V2_FIXED_BYTES + int(_V2_FIXED.unpack_from(data)[3])
    return len(data) + 1


def _expect(data: bytes, signature: bytes) -> bool:
    """Return whether the signature is complete; raise as soon as it cannot be one."""
    head = data[: len(signature)]
    if not signature.startswith(head):
        at = next(i for i, byte in enumerate(head) if byte != signature[i])
        raise ProxyError(f"byte {at} is {head[at : at + 1]!r}, which does not begin a PROXY header")
    return len(head) == len(signature)


# ---- version 1: a line


def _parse_v1(data: bytes) -> Header | None:
    if not _expect(data, V1_SIGNATURE):
        return None
    end = data.find(b"\r\n", 0, V1_MAX_BYTES)
    if end < 0:
        if len(data) >= V1_MAX_BYTES:
            raise ProxyError(f"no CR LF within {V1_MAX_BYTES} bytes")
        return None
    size = end + 2
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return Header(size, 1)  # section 2.1: whatever follows on the line is to be ignored
    if words[1] not in (b"TCP4", b"TCP6"):
        raise ProxyError(f"{_shown(words[1])} is not TCP4, TCP6 or UNKNOWN")
    if len(words) != 6:
        raise ProxyError(f"{len(words) - 2} words after {words[1].decode()}, not two addresses and two ports")
    version = 4 if words[1] == b"TCP4" else 6
    source, destination = (_address(word, version) for word in words[2:4])
    return Header(size, 1, (source, _port(words[4])), (destination, _port(words[5])))


def _address(word: bytes, version: int) -> str:
    try:
        text = word.decode("ascii")
        address = ipaddress.IPv4Address(text) if version == 4 else ipaddress.IPv6Address(text)
    except ValueError:
        raise ProxyError(f"{_shown(word)} is not an IPv{version} address") from None
    if "%" in text:
        raise ProxyError(f"{_shown(word)} has a scope, which is valid only on the proxy's host")
    return _text(address)


def _text(address: IPAddress) -> str:
    """Print an address as inet_ntop(3): one that is IPv4-mapped with dots."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return f"::ffff:{mapped}" if mapped else str(address)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (word[:1] == b"0" and word != b"0") or int(word) > 0xFFFF:
        raise ProxyError(f"{_shown(word)} is not a port")
    return int(word)


def _shown(word: bytes) -> str:
    return repr(word[:40])[1:]


# ---- version 2: binary


def _parse_v2(data: bytes) -> Header | None:
    if not _expect(data, V2_SIGNATURE):
        return None
    if len(data) > len(V2_SIGNATURE):
        _check_command(data[12])
    if len(data) < V2_FIXED_BYTES:
        return None
    _, command, kind, length = _V2_FIXED.unpack_from(data)
    size = V2_FIXED_BYTES + length
    local = command & 0x0F == _LOCAL
    family, protocol = kind >> 4, kind & 0x0F
    if not local and (family not in _V2_ADDRESS_BYTES or protocol > _DATAGRAM):
        raise ProxyError(f"byte 13 is 0x{kind:02x}, which is not a family and transport")
    addresses = 0 if local else _V2_ADDRESS_BYTES[family]
    if length < addresses:
        raise ProxyError(f"a length of {length} bytes is too short for the {addresses} of its addresses")
    if len(data) < size:
        return None
    if local or family == 0:
        # section 2.2: of LOCAL the receiver must skip the whole block, the family included; of UNSPEC it must
        # ignore whatever addresses there are, whose size nobody tells
        return Header(size, 2, local=local)
    tlvs = _tlvs(data[:size], V2_FIXED_BYTES + addresses)
    if protocol != _STREAM:
        return Header(size, 2, tlvs=tlvs)
    source, destination = _endpoints(data[V2_FIXED_BYTES : V2_FIXED_BYTES + addresses], family)
    return Header(size, 2, source, destination, tlvs=tlvs)


def _check_command(byte: int) -> None:
    if byte >> 4 != 2:
        raise ProxyError(f"byte 12 is 0x{byte:02x}: version {byte >> 4}, not 2")
    if byte & 0x0F not in (_LOCAL, _PROXY):
        raise ProxyError(f"byte 12 is 0x{byte:02x}: command {byte & 0x0F}, neither LOCAL nor PROXY")


def _endpoints(block: bytes, family: int) -> tuple[Endpoint, Endpoint]:
    if family == 3:
        paths = block[:_UNIX_PATH_BYTES], block[_UNIX_PATH_BYTES:]
        return _unix_name(paths[0]), _unix_name(paths[1])
    width = 4 if family == 1 else 16
    source, destination = (_text(ipaddress.ip_address(block[at : at + width])) for at in (0, width))
    ports = _PORTS.unpack_from(block, 2 * width)
    return (source, ports[0]), (destination, ports[1])


def _unix_name(block: bytes) -> bytes:
    """Return the path of a block, or NUL and an abstract name, which cannot be told from its padding."""
    return block.rstrip(b"\0") if block[:1] == b"\0" else block.partition(b"\0")[0]


def _tlvs(header: bytes, at: int) -> tuple[tuple[int, bytes], ...]:
    """Cut the end of a header into (type, value), in one pass; those within an SSL TLV lie behind its fixed part."""
    found: list[tuple[int, bytes]] = []
    ssl_end = sum_at = 0
    while at < len(header):
        is_inside = at < ssl_end
        kind, begin, end = _tlv(header, at, ssl_end if is_inside else len(header))
        if len(found) == MAX_TLVS:
            raise ProxyError(f"more than {MAX_TLVS} TLVs, the next one at {at}")
        if kind == SSL and is_inside:
            raise ProxyError(f"the SSL TLV at {at} is inside another")
        if kind == CRC32C and not is_inside:
            if sum_at or end - begin != _SUM_BYTES:
                raise ProxyError(f"the CRC32C at {at} is the second one, or not of {_SUM_BYTES} bytes")
            sum_at = begin
        found.append((kind, header[begin:end]))
        ssl_end = end if kind == SSL else ssl_end
        at = begin + _SSL_FIXED_BYTES if kind == SSL else end
    if sum_at:
        _check_sum(header, sum_at)
    return tuple(found)


def _tlv(header: bytes, at: int, limit: int) -> tuple[int, int, int]:
    """Return the type of a TLV, and where its value begins and ends."""
    if limit - at < _TLV.size:
        raise ProxyError(f"{limit - at} bytes at {at} are not a TLV")
    kind, length = _TLV.unpack_from(header, at)
    begin = at + _TLV.size
    if begin + length > limit:
        raise ProxyError(f"the TLV at {at} is longer than what contains it")
    if kind == UNIQUE_ID and length > UNIQUE_ID_MAX_BYTES:
        raise ProxyError(f"a unique id of {length} bytes, at most {UNIQUE_ID_MAX_BYTES} are allowed")
    if kind == SSL and length < _SSL_FIXED_BYTES:
        raise ProxyError(f"an SSL TLV of {length} bytes, at least {_SSL_FIXED_BYTES} are needed")
    return kind, begin, begin + length


def _check_sum(header: bytes, at: int) -> None:
    """Check the CRC32C of the whole header, computed with its own value as zero (section 2.2.3)."""
    said = int.from_bytes(header[at : at + _SUM_BYTES], "big")
    computed = crc32c(header[:at] + bytes(_SUM_BYTES) + header[at + _SUM_BYTES :])
    if said != computed:
        raise ProxyError(f"the CRC32C is 0x{said:08x}, not 0x{computed:08x}")


def _crc_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


@cache
def _crc_table() -> tuple[int, ...]:
    return tuple(map(_crc_entry, range(256)))


def crc32c(data: bytes) -> int:
    """Return the CRC32C of RFC 3720, appendix B.4, polynomial 0x1EDC6F41 reflected."""
    crc, table = 0xFFFFFFFF, _crc_table()
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# ---- what a client or a relay says


def encode(version: int, source: Endpoint | None, destination: Endpoint | None) -> bytes:
    """Encode a header for a connection; without addresses UNKNOWN or UNSPEC.

    Args:
        version: 1 or 2.
        source, destination: numeric addresses; of two families both become IPv6, IPv4-mapped.
            A Unix socket's is not told.
    """
    if not isinstance(source, tuple) or not isinstance(destination, tuple):
        return b"PROXY UNKNOWN\r\n" if version == 1 else _V2_FIXED.pack(V2_SIGNATURE, 0x20 | _PROXY, 0, 0)
    addresses = [ipaddress.ip_address(host.partition("%")[0]) for host, _ in (source, destination)]
    if addresses[0].version != addresses[1].version:
        addresses = [*map(_mapped, addresses)]
    is_v4 = addresses[0].version == 4
    if version == 1:
        texts = " ".join(map(_text, addresses))
        return f"PROXY TCP{4 if is_v4 else 6} {texts} {source[1]} {destination[1]}\r\n".encode("ascii")
    block = addresses[0].packed + addresses[1].packed + _PORTS.pack(source[1], destination[1])
    kind = (1 if is_v4 else 2) << 4 | _STREAM
    return _V2_FIXED.pack(V2_SIGNATURE, 0x20 | _PROXY, kind, len(block)) + block


def encode_local(version: int) -> bytes:
    """Return the header of a proxy's own connection, such as a health check; version 1 only has UNKNOWN for it."""
    return b"PROXY UNKNOWN\r\n" if version == 1 else _V2_FIXED.pack(V2_SIGNATURE, 0x20 | _LOCAL, 0, 0)


def _mapped(address: IPAddress) -> ipaddress.IPv6Address:
    return address if isinstance(address, ipaddress.IPv6Address) else ipaddress.IPv6Address(0xFFFF << 32 | int(address))
