"""Functions of text, in the place of functions of bytes: `Service(text="utf-8")`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.services.service import BatchReply, Reply


def _encoded(reply: Reply | str, encoding: str) -> Reply:
    """Return bytes for text; what is none goes on as it is, and is judged where bytes are."""
    return reply.encode(encoding) if isinstance(reply, str) else reply


def function(of_text: Callable[..., Any], encoding: str) -> Callable[..., Reply]:
    """Wrap a function that answers a frame of text; what follows the frame is passed on."""

    def of_bytes(frame: bytes, *more: object) -> Reply:
        return _encoded(of_text(frame.decode(encoding), *more), encoding)

    return of_bytes


def batch(of_texts: Callable[..., Any], encoding: str) -> Callable[[list[bytes]], BatchReply]:
    """Wrap a function that answers a list of frames of text."""

    def of_bytes(frames: list[bytes]) -> BatchReply:
        replies = of_texts([frame.decode(encoding) for frame in frames])
        if isinstance(replies, list):
            return [_encoded(one, encoding) for one in replies]
        return _encoded(replies, encoding)

    return of_bytes
