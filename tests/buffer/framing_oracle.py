# SPDX-License-Identifier: MIT
"""What every framing means, in plain Python, written from its specification and not from the C core.

`judge` is asked about the first 1, 2, 3, ... bytes of a frame and answers at the
first byte that decides: so it says not only what a stream holds but also when
that must be known.  It is as slow as it is plain.
"""

import re
from dataclasses import dataclass

from sockd.buffer import (
    BlankLine,
    Delimiter,
    DotBlock,
    Fixed,
    Line,
    Netstring,
    Nul,
    OctetCount,
    Prefix,
    StrictLine,
    Varint,
)


@dataclass(frozen=True)
class Whole:
    """A frame, of which the bytes judged are the whole."""

    payload: bytes


TOO_LONG = "too long"


@dataclass(frozen=True)
class Malformed:
    at: int


Verdict = Whole | Malformed | str | None


def judge(framing, data: bytes) -> Verdict:
    """Judge the first bytes of a frame, of which all but the last one decided nothing."""
    match framing:
        case Line(limit):
            return line(data, limit)
        case StrictLine(limit):
            return strict_line(data, limit)
        case Delimiter(limit, delimiter):
            return delimited(data, delimiter, limit)
        case Nul(limit):
            return delimited(data, b"\0", limit)
        case Netstring(limit):
            return counted(data, b":", b",", limit)
        case OctetCount(limit, mixed):
            if mixed and not data[:1].isdigit():
                return line(data, limit)
            return counted(data, b" ", b"", limit)
        case Prefix(limit, width, order, includes_header):
            return prefixed(data, width, order, includes_header, limit)
        case Varint(limit):
            return varint(data, limit)
        case Fixed(size):
            return Whole(data) if len(data) == size else None
        case DotBlock(limit):
            return dot_block(data, limit)
        case BlankLine(limit):
            return blank_line(data, limit)
    raise AssertionError(framing)


def line(data, limit):
    """LF ends it, one CR before that is not part of it."""
    if data.endswith(b"\n"):
        payload = data[:-2] if data.endswith(b"\r\n") else data[:-1]
        return Whole(payload) if len(payload) <= limit else TOO_LONG
    surely_payload = data[:-1] if data.endswith(b"\r") else data
    return TOO_LONG if len(surely_payload) > limit else None


def strict_line(data, limit):
    """RFC 5321 2.3.8: CR LF, and neither of them alone."""
    if data[-2:-1] == b"\r":
        return Whole(data[:-2]) if data.endswith(b"\n") else Malformed(len(data) - 2)
    if data.endswith(b"\n"):
        return Malformed(len(data) - 1)
    if data.endswith(b"\r"):
        return TOO_LONG if len(data) - 1 > limit else None
    return TOO_LONG if len(data) > limit else None


def delimited(data, delimiter, limit):
    """The first occurrence ends it; it must begin within limit bytes."""
    if data.endswith(delimiter):
        return Whole(data[: -len(delimiter)])
    places = [start for start in range(limit + 1) if start <= len(data)]
    still_possible = any(delimiter.startswith(data[start:]) for start in places if len(data) - start < len(delimiter))
    return None if still_possible else TOO_LONG


def counted(data, sign, trailer, limit):
    """Decimal number, sign, payload, trailer; leading zeros are forbidden, and RFC 6587 has no count of 0 at all."""
    if sign == b" " and data.startswith(b"0"):
        return Malformed(0)
    if sign not in data:
        if not data[-1:].isdigit():
            return Malformed(len(data) - 1)
        if re.fullmatch(rb"0\d", data):
            return Malformed(1)
        return TOO_LONG if int(data) > limit else None
    number, rest = data.split(sign, 1)
    if not number:
        return Malformed(0)
    if len(rest) < int(number) + len(trailer):
        return None
    payload = rest[: int(number)]
    return Whole(payload) if rest[int(number) :] == trailer else Malformed(len(data) - 1)


def prefixed(data, width, order, includes_header, limit):
    """Big-endian is network byte order."""
    if len(data) < width:
        return None
    length = int.from_bytes(data[:width], order)
    if includes_header:
        if length < width:
            return Malformed(0)
        length -= width
    if length > limit:
        return TOO_LONG
    return Whole(data[width:]) if len(data) == width + length else None


def varint(data, limit):
    """Base 128, little end first; a length has 32 bits."""
    header = re.match(rb"[\x80-\xff]*[\x00-\x7f]", data)
    if header is None:
        return Malformed(4) if len(data) == 5 else None
    digits = header.group()
    length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(digits))
    if length >= 2**32:
        return Malformed(4)
    if length > limit:
        return TOO_LONG
    return Whole(data[len(digits) :]) if len(data) == len(digits) + length else None


def dot_block(data, limit):
    """RFC 5321 4.5.2: CR LF alone ends a line, a dot that begins one is taken out, a dot alone ends the block."""
    if data == b".\r\n" or data.endswith(b"\r\n.\r\n"):
        return Whole(unstuffed(data[:-3]))
    *lines, last = data.split(b"\r\n")
    known = b"".join(line + b"\r\n" for line in lines)
    if last not in (b"", b".", b".\r"):
        known += last
    return TOO_LONG if len(unstuffed(known)) > limit else None


def unstuffed(block):
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in block.split(b"\r\n"))


def blank_line(data, limit):
    """Postfix, SMTPD_POLICY_README: the request is ended by an empty line."""
    *lines, last = data.split(b"\n")
    if last == b"" and lines and lines[-1] in (b"", b"\r"):
        return Whole(data[: -len(lines[-1]) - 1])
    known = data[: len(data) - len(last)] if last in (b"", b"\r") else data
    return TOO_LONG if len(known) > limit else None


ENDS = {Line: rb"\n", OctetCount: rb"\n", StrictLine: rb"\r\n", DotBlock: rb"\r\n\.\r\n", BlankLine: rb"\n\r?\n"}


def end_of_frame(framing, stream, start):
    """Where a frame that is not wanted ends; None when it does not, ValueError when nobody can know."""
    if isinstance(framing, OctetCount) and not (framing.mixed and not stream[start : start + 1].isdigit()):
        raise ValueError
    pattern = ENDS.get(type(framing))
    if pattern is None:
        pattern = re.escape({Delimiter: lambda: framing.delimiter, Nul: lambda: b"\0"}[type(framing)]())
    found = re.compile(pattern, re.DOTALL).search(stream, start)
    return found.end() if found else None


def events(framing, stream, *, discard=False):
    """What a stream holds: [(bytes after which it is known, what, where or payload)], the end of the stream last.

    With `discard` a frame that is too long or malformed is left out where that can be done.
    """
    found, start, end = [], 0, 1
    while end <= len(stream):
        verdict = judge(framing, stream[start:end])
        if verdict is None:
            end += 1
            continue
        if isinstance(verdict, Whole):
            found.append((end, "frame", verdict.payload))
            start, end = end, end + 1
            continue
        wrong = ("too long", start) if verdict == TOO_LONG else ("malformed", start + verdict.at)
        found.append((end, *wrong))
        if not discard:
            return found
        begun = start
        try:
            start = end_of_frame(framing, stream, begun)
        except (ValueError, KeyError):
            return found
        if start is None:
            return [*found, (len(stream), "truncated", begun)]
        end = start + 1
    if start < len(stream):
        found.append((len(stream), "truncated", start))
    return found


def encoded(framing, payload):
    """The frame that a payload makes if nobody asks whether that is allowed: (bytes, what has to come back)."""
    match framing:
        case Line(_, ending):
            return payload + ending, payload
        case StrictLine():
            return payload + b"\r\n", payload
        case Delimiter(_, delimiter):
            return payload + delimiter, payload
        case Nul():
            return payload + b"\0", payload
        case Netstring():
            return b"%d:%b," % (len(payload), payload), payload
        case OctetCount(_, mixed):
            return (b"\n" if mixed and not payload else b"%d %b" % (len(payload), payload)), payload
        case Prefix(_, width, order, includes_header):
            length = len(payload) + (width if includes_header else 0)
            return length.to_bytes(width, order) + payload, payload
        case Varint():
            digits, number = bytearray(), len(payload)
            while number > 127:
                digits.append(number % 128 + 128)
                number //= 128
            return bytes([*digits, number]) + payload, payload
        case Fixed():
            return payload, payload
        case DotBlock():
            block = payload if not payload or payload.endswith(b"\r\n") else payload + b"\r\n"
            lines = block.split(b"\r\n")
            return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines) + b".\r\n", block
        case BlankLine():
            block = payload if not payload or payload.endswith(b"\n") else payload + b"\n"
            return block + b"\n", block
    raise AssertionError(framing)
