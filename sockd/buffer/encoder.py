# SPDX-License-Identifier: MIT
"""Payloads in, frames out: what a framing makes of them.

A frame is made in C (sockd/buffer/encoder.c).  What that needs of a framing costs more to make than a frame: so an
encoder is made once for each framing, and found again by the framing's identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sockd._sockbuf import ffi, lib
from sockd.buffer.core import FrameEncoder, description, plain
from sockd.buffer.errors import PayloadError
from sockd.wire.framing import BlankLine, Fixed, Line, OctetCount

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

    from sockd.wire.framing import AnyFraming

    Data = bytes | bytearray | memoryview

KEPT = 64
"""Encoders; a program has one framing or a few, unless it makes one for each connection."""


class PayloadEncoder(FrameEncoder):
    """Makes frames by one framing.

    Args:
        framing: any.
    """

    __slots__ = ("framing",)

    def __init__(self, framing: AnyFraming) -> None:
        self.framing = framing
        self._use(bytes(ffi.buffer(description(framing))))
        if isinstance(framing, Line) and framing.ending == b"\r\n":
            self._end_in_crlf()

    def _as_bytes(self, payload: Any) -> bytes:  # noqa: ANN401 - whatever a caller has
        """Return a payload that is not a bytes object as one (for FrameEncoder)."""
        return bytes(plain(payload))

    def _encode_each(self, payloads: Iterable[Data]) -> bytes:
        """Encode payloads that cannot be encoded all at once: it says which one is wrong (for FrameEncoder)."""
        return b"".join([self.encode(payload) for payload in payloads])

    def _refuse(self, code: int, payload: bytes) -> NoReturn:
        """Raise what a code of the C core means (for FrameEncoder)."""
        if code == lib.SB_ERR_TOO_LONG:
            raise PayloadError(f"{len(payload)} bytes exceed the limit of {self.framing!r}")
        text = f"{payload[:40]!r} cannot be encoded as {self.framing!r}: it would be decoded differently"
        raise PayloadError(f"{text}; {_describe_payload(self.framing)}")


def _describe_payload(framing: AnyFraming) -> str:
    """Say what a payload is, for one that is not."""
    if isinstance(framing, Fixed):
        return f"a payload has exactly {framing.size} bytes"
    if isinstance(framing, OctetCount):
        return "a payload has at least one byte"
    if isinstance(framing, BlankLine):
        return "a payload has no empty line: the one that ends it is added"
    return "a payload does not contain its ending, which is added"


_kept: dict[int, PayloadEncoder] = {}


def encoder_for(framing: AnyFraming) -> PayloadEncoder:
    """Return the encoder of a framing, which is made at the first call.

    Raises:
        ValueError: the limit is larger than memory can be.
        TypeError: it is not a framing.
    """
    made = _kept.get(id(framing))
    if made is None:
        made = PayloadEncoder(framing)
        if len(_kept) >= KEPT:
            _kept.clear()
        _kept[id(framing)] = made  # it holds the framing: as long as it is here, no other object has this id
    return made


def encode(framing: AnyFraming, payload: Data) -> bytes:
    """Encode one frame.  For many frames, use a `SendBuffer`.

    Raises:
        PayloadError: as SendBuffer.append.
    """
    return (_kept.get(id(framing)) or encoder_for(framing)).encode(payload)


def encode_all(framing: AnyFraming, payloads: Iterable[Data]) -> bytes:
    """Encode all payloads, one after the other.

    Raises:
        PayloadError: as SendBuffer.append.
    """
    payloads = payloads if isinstance(payloads, list) else list(payloads)
    return (_kept.get(id(framing)) or encoder_for(framing)).encode_all(payloads)
