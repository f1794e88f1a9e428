# SPDX-License-Identifier: MIT
"""Frames as clients send them: commands of storm.handlers in every framing, and what is no frame."""

from __future__ import annotations

from framing_oracle import encoded

from sockd.wire.framing import Fixed, Line, Prefix, Raw, Record
from storm.verbs import CALLBACKS, VERBS

LETTERS = "".join(VERBS)
OFTEN = "sssssbbbbbwwlaazg"
"""Letters that are sent more often than the others."""


def wire_of(framing, payload: bytes) -> bytes:
    """Return a payload as it goes over the wire; cut or filled where its framing has one size."""
    match framing:
        case Raw():
            return payload
        case Fixed(size):
            return payload[:size].ljust(size)
        case Record():
            number = int(payload[1:3]) if payload[1:3].isdigit() else 0
            return framing.packer.pack(payload[0] if payload else 0, number, payload[3:17].ljust(14))
        case Prefix(_, width) if len(payload) >> 8 * width - 1:
            payload = payload[:100]
        case Line(_, "same"):
            return payload + (b"\r\n" if len(payload) % 2 else b"\n")
    return encoded(framing, payload)[0]


def answer_of(kind: str, framing, payload: bytes) -> bytes:
    """Return what an honest question is answered by, on the wire."""
    sent = wire_of(framing, payload)
    return sent.upper() if kind == "upper" else sent


def command(chance, raised: list[int], *, only: str = "") -> bytes:
    """Return one of the commands, at random; `only` names the letter where it has to be that."""
    letter = only or (chance.choice(OFTEN) if chance.random() < 0.6 else chance.choice(LETTERS))
    number = chance.randrange(100) if letter not in "zg" else chance.choice((0, 1, 2, 5, 20, 90))
    if letter in "bla":
        number = chance.choice(raised)
    where = chance.choice([*CALLBACKS]).encode() if letter == "a" else b""
    tail = b"x" * chance.choice((0, 0, 0, 1, 9, 100)) if letter == "s" else b""
    return b"%c%02d%b%b" % (ord(letter), number, where, tail)


def spoiled(chance, stream: bytes) -> bytes:
    """Return a stream with something wrong in it."""
    at = chance.randrange(len(stream) + 1)
    match chance.randrange(8):
        case 0:
            return stream[:at]
        case 1:
            return stream[at:]
        case 2:
            return stream[:at] + chance.randbytes(chance.choice((1, 2, 8, 100))) + stream[at:]
        case 3:
            return stream[:at] + bytes([chance.randrange(256)]) + stream[at + 1 :]
        case 4:
            return chance.randbytes(chance.choice((1, 20, 3000)))
        case 5:
            return stream[:at] + b"\xff" * 9 + stream[at:]
        case 6:
            return stream + b"9" * chance.choice((5, 30, 5000))
        case _:
            return stream + stream[:at]


def stream_of(chance, framing, *, raised: list[int], spoil: bool = True, only: str = "") -> bytes:
    """Return some frames, now and then far too many, too long or spoiled."""
    luck = chance.random()
    if luck < 0.03:
        return wire_of(framing, b"s00") * chance.choice((500, 500, 500, 3000, 20_000))
    if luck < 0.05:
        return wire_of(framing, b"s00" + b"y" * 5000)[:20_000]
    stream = b"".join(
        wire_of(framing, command(chance, raised, only=only)) for _ in range(chance.choice((1, 1, 2, 3, 8)))
    )
    return spoiled(chance, stream) if luck < 0.25 and spoil else stream


def pieces_of(chance, stream: bytes) -> list[bytes]:
    """Cut a stream at random places."""
    if not stream or chance.random() < 0.5:
        return [stream]
    places = sorted(chance.choices(range(len(stream) + 1), k=min(chance.choice((1, 2, 5, 30)), len(stream))))
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]
