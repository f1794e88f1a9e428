# SPDX-License-Identifier: MIT
"""How a stream is cut into frames: values that name a framing and its hard limit.

Limits count payload alone, never a delimiter or a header, and a declared length
is compared with them before anything is allocated.  Empty frames are legal, but for octet counts.
The cutting itself is done by the C core (csrc/frame*.c): in a service by the
set of connections, elsewhere by `sockd.buffer`.  `datagram_frame` says what a
line is in one datagram.

Every class raises ValueError for values that describe no framing, and TypeError for values of another type.
"""

from __future__ import annotations

import struct
from typing import Any, Literal, get_args

from sockd.values import dataclass, field, fields

DELIMITER_MAX_BYTES = 8
PREFIX_WIDTHS = (1, 2, 3, 4, 8)
RAW_MAX_BYTES = 64 * 1024


def _check_bytes(name: str, value: object, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number of bytes, such as 8192, not {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be {minimum} or more, not {value}")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")


@dataclass(frozen=True)
class _Bounded:
    """What has a longest payload: `max_bytes`, always the first argument."""

    max_bytes: int

    def __post_init__(self) -> None:
        _check_bytes("max_bytes", self.max_bytes, 0)


@dataclass(frozen=True)
class Line(_Bounded):
    """Lines ended by LF; one CR before it is not part of the line.

    Args:
        max_bytes: longest line, LF and CR not counted; a longer one ends the
            connection with reason frame-too-long.
        ending: what a reply is ended by: LF, CR LF, or "same" for what ended the line that is answered.

    Source: RFC 9112 2.2 (a recipient may take LF alone for a line's end and ignore a CR before it).
    """

    ending: bytes | Literal["same"] = b"\n"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.ending, bytes | str) or self.ending not in (b"\n", b"\r\n", "same"):
            raise ValueError(f"ending must be LF, CR LF or 'same', not {self.ending!r}")


@dataclass(frozen=True)
class StrictLine(_Bounded):
    """Lines ended by CR LF; a CR or an LF alone is malformed.

    Source: RFC 5321 2.3.8, which forbids either alone.
    """


@dataclass(frozen=True)
class Delimiter(_Bounded):
    """Frames ended by the first occurrence of a delimiter of 1 to 8 bytes."""

    delimiter: bytes

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.delimiter, bytes):
            raise TypeError(f'a delimiter is bytes, such as b";", not {self.delimiter!r}')
        if not 1 <= len(self.delimiter) <= DELIMITER_MAX_BYTES:
            raise ValueError(f"a delimiter has 1 to {DELIMITER_MAX_BYTES} bytes, not {len(self.delimiter)}")


@dataclass(frozen=True)
class Nul(_Bounded):
    """Frames ended by a NUL byte, as of `find -print0`."""


@dataclass(frozen=True)
class Netstring(_Bounded):
    """`3:abc,`: decimal length without leading zeros, colon, payload, comma.

    Source: D. J. Bernstein, Netstrings, http://cr.yp.to/proto/netstrings.txt.
    """


@dataclass(frozen=True)
class Prefix(_Bounded):
    """A binary length in front of each payload.

    Args:
        max_bytes: longest payload; what the prefix can say is a limit as well.
        width: bytes of the length: 1, 2, 3, 4 or 8.
        order: "big", which is network byte order, or "little".
        includes_header: whether the length counts its own bytes.

    Source: RFC 1035 4.2.2 (2 bytes: DNS over TCP); Erlang's inet(3) `{packet, 1|2|4}`;
    Twisted's Int8, Int16 and Int32 receivers.
    """

    width: int
    order: Literal["big", "little"] = "big"
    includes_header: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.width) is not int or self.width not in PREFIX_WIDTHS:
            raise ValueError(f"width must be one of {PREFIX_WIDTHS}, not {self.width}")
        if self.order not in ("big", "little"):
            raise ValueError(f"order must be 'big' or 'little', not {self.order!r}")
        _check_flag("includes_header", self.includes_header)


@dataclass(frozen=True)
class Packet(Prefix):
    """Each packet of a socket that keeps them apart is one frame, and each frame is sent as one packet.

    Nothing of this is on the wire: the C core puts the prefix in front of what it receives, and takes it off what it
    sends (csrc/mux_packets.c).  The listener decides on it, no service.

    Source: unix(7), SOCK_SEQPACKET.
    """

    width: int = 4

    @classmethod
    def like(cls, framing: Framing) -> Packet:
        """Return that of a service whose streams are cut by a framing: its frames are as long."""
        return cls(framing.size if isinstance(framing, Fixed | Record) else framing.max_bytes)

    def split(self, sent: bytes) -> list[bytes]:
        """Return the packets of what is sent."""
        packets, at = [], 0
        while at < len(sent):
            end = at + self.width + int.from_bytes(sent[at : at + self.width], self.order)
            packets.append(sent[at + self.width : end])
            at = end
        return packets


@dataclass(frozen=True)
class Varint(_Bounded):
    """A length of 7 bits a byte, low ones first, in up to 5 bytes, before each payload.

    Source: Protocol Buffers, Encoding, "Base 128 Varints"; its length-delimited streams.
    """


@dataclass(frozen=True)
class OctetCount(_Bounded):
    """`3 abc`: decimal length, space, payload; syslog over TCP.

    A length has no leading zero and is not 0: `MSG-LEN = NONZERO-DIGIT *DIGIT`.  So an empty payload cannot be sent,
    but for `mixed`, where it is an empty line.

    Args:
        max_bytes: longest payload.
        mixed: let the first byte of each frame decide: a digit begins an octet
            count, anything else a line ended by LF.

    Source: RFC 6587 3.4.1 (octet counting), 3.4.2 (non-transparent framing).
    """

    mixed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_flag("mixed", self.mixed)


@dataclass(frozen=True)
class Fixed:
    """Every frame has exactly `size` bytes, 1 or more."""

    size: int

    def __post_init__(self) -> None:
        _check_bytes("size", self.size, 1)


@dataclass(frozen=True)
class DotBlock(_Bounded):
    """Lines ended by CR LF up to a line that is a dot alone; a dot that begins a line is doubled on the wire.

    The payload is the lines with their endings, without the doubled dots.

    Source: RFC 5321 4.5.2 (SMTP DATA), RFC 1939 3 (POP3 multi-line responses).
    """


@dataclass(frozen=True)
class BlankLine(_Bounded):
    """Lines ended by LF up to an empty one; the payload is the lines with their endings.

    Source: Postfix, SMTPD_POLICY_README, "Protocol description".
    """


@dataclass(frozen=True)
class Raw(_Bounded):
    """No framing: a frame is what has arrived, a reply is sent as it is.

    Args:
        max_bytes: longest piece handed out at once; longer input comes in several.
    """

    max_bytes: int = RAW_MAX_BYTES

    def __post_init__(self) -> None:
        _check_bytes("max_bytes", self.max_bytes, 1)


@dataclass(frozen=True)
class Datagram(_Bounded):
    """Each datagram is one frame, however short; longer than max_bytes is too long."""


StreamFraming = (
    Line | StrictLine | Delimiter | Nul | Netstring | Prefix | Varint | OctetCount | Fixed | DotBlock | BlankLine | Raw
)
"""Every framing of a stream."""

AnyFraming = StreamFraming | Datagram
"""Every framing there is."""


RecordValues = tuple[Any, ...]
"""What a record says, as struct.unpack() returns it."""


@dataclass(frozen=True)
class Record:
    """Binary records of one size, handed out as tuples; a reply is a tuple that is packed alike.

        sockd.Record("!IHd")    # 14 bytes: unsigned 32 and 16 bits, a double, in network byte order

    Args:
        format: as of the struct module; without `!`, `<`, `>` or `=` it is this machine's, padding included.

    Source: FAQ II.15; struct, "Format Strings".
    """

    format: str
    packer: struct.Struct = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "packer", struct.Struct(self.format))
        except struct.error as error:
            raise ValueError(f"format {self.format!r} is not one of the struct module: {error}") from None
        if self.packer.size < 1:
            raise ValueError(f"format {self.format!r} describes no bytes")

    @property
    def size(self) -> int:
        """Bytes of a record."""
        return self.packer.size

    def pack(self, values: object) -> bytes:
        """Make the bytes of a record.

        Raises:
            TypeError: values is no tuple.
            struct.error: they are not as the format says.
        """
        if not isinstance(values, tuple):
            raise TypeError(f"the reply is {type(values).__name__}, not a tuple or None")
        return self.packer.pack(*values)

    def unpack(self, data: bytes) -> RecordValues:
        """Take a record apart.

        Raises:
            struct.error: it has another size.
        """
        return self.packer.unpack(data)


Framing = StreamFraming | Record
"""What a service can be framed by."""

Frame = bytes | RecordValues
"""What a service is handed: a payload, or what a record says."""


def spell(framing: Framing) -> tuple[str, list[object]]:
    """Return the name and the arguments from which `make_framing` makes a framing again; sizes as plain numbers."""
    values = [getattr(framing, one.name) for one in fields(framing) if one.init]
    return type(framing).__name__, [int(value) if type(value) not in (bool, str, bytes) else value for value in values]


def make_framing(name: str, arguments: list[object]) -> Framing:
    """Make a framing.

    Raises:
        ValueError, TypeError: there is none of this name, or not with these arguments.
    """
    for kind in (*get_args(StreamFraming), Record, Packet):
        if kind.__name__ == name:
            made: Framing = kind(*arguments)
            return made
    raise ValueError(f"there is no framing {name}")


def datagram_frame(datagram: bytes) -> tuple[bytes, bytes]:
    """Take the line ending off a datagram, which is one frame.

    Returns:
        (frame, ending): ending is b"\\r\\n", b"\\n" or b"", and the reply gets the same.
    """
    if datagram.endswith(b"\r\n"):
        return datagram[:-2], b"\r\n"
    if datagram.endswith(b"\n"):
        return datagram[:-1], b"\n"
    return datagram, b""
