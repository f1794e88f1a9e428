# SPDX-License-Identifier: MIT
"""How a function that answers frames answers datagrams: one datagram is one frame.

Its payload is the frame alone, but that a line's ending is taken off and put back, and that a record is unpacked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.connection.codec import bytes_of
from sockd.wire.framing import Line, Record, datagram_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.services.api import BatchFunction, Reply
    from sockd.wire.framing import Frame, Framing

    Answer = Callable[[bytes], bytes | None]


def answer_of(function: Callable[..., Reply], framing: Framing) -> Answer:
    """Return what answers a datagram by a function of frames."""

    def answer_line(datagram: bytes) -> bytes | None:
        frame, ending = datagram_frame(datagram)
        reply = function(frame)
        return None if reply is None else bytes_of(reply) + ending

    def answer_record(datagram: bytes) -> bytes | None:
        assert isinstance(framing, Record)
        reply = function(framing.unpack(datagram))
        return None if reply is None else framing.pack(reply)

    def answer_payload(datagram: bytes) -> bytes | None:
        reply = function(datagram)
        return None if reply is None else bytes_of(reply)

    if isinstance(framing, Line):
        return answer_line
    return answer_record if isinstance(framing, Record) else answer_payload


def batch_of_one(function: BatchFunction, frame: Frame) -> Reply:
    """Answer one frame by a function of lists.

    Raises:
        ValueError: it returned another number of replies.
    """
    replies = function([frame])
    if not isinstance(replies, list):
        return replies or None
    if len(replies) != 1:
        raise ValueError(f"the handler returned {len(replies)} replies to 1 frames")
    return replies[0]


__all__ = ["answer_of", "batch_of_one"]
