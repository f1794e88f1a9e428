"""How a stream is cut into frames: values that name a framing and its hard limit.

The cutting itself is done by the C core (csrc/frame.c); `datagram_frame` and
`encode` say what the same framing means for one datagram and for a reply.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """Lines ended by LF; one CR before it is not part of the line.

    Args:
        max_bytes: longest line, LF and CR not counted; a longer one ends the
            connection with reason frame-too-long.
        ending: what a reply is ended by.
    """

    max_bytes: int
    ending: bytes = b"\n"


@dataclass(frozen=True)
class Raw:
    """No framing: a frame is what has arrived, a reply is sent as it is."""


Framing = Line | Raw


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
