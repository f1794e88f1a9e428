# SPDX-License-Identifier: MIT
"""Handlers of text: `Service(text="utf-8")` decodes their input, and encodes their results.

Input that cannot be decoded is an error of the handler, as if it had decoded it itself.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from sockd.errors import Close
from sockd.lazy import inspect
from sockd.net.connection.codec import wrong_reply
from sockd.services.handlers.adapters import ProtocolAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.services.api import BatchReply, Reply
    from sockd.services.handlers.transport import Transport

    OnText = Callable[..., Any]


def _encoded(reply: Reply | str, encoding: str) -> Reply:
    """Encode text; bytes and None are returned unchanged.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(reply, str):
        return reply.encode(encoding)
    if reply is None or isinstance(reply, (bytes, bytearray, memoryview)):
        return reply
    raise wrong_reply(reply, is_text=True)


def _encode_last_words(close: Close, encoding: str) -> Close:
    close.last_words = _encoded(close.last_words, encoding)
    return close


def text_function(on_text: OnText, encoding: str) -> Callable[..., Reply]:
    """Wrap a function that answers a frame of text; what follows the frame is passed on."""

    @functools.wraps(on_text)
    def on_bytes(frame: bytes, *more: object) -> Reply:
        try:
            return _encoded(on_text(frame.decode(encoding), *more), encoding)
        except Close as close:
            raise _encode_last_words(close, encoding)  # noqa: B904 - it is the same one

    return on_bytes


def text_coroutine(on_text: OnText, encoding: str) -> OnText:
    """Wrap a coroutine function that answers a frame of text."""

    @functools.wraps(on_text)
    async def on_bytes(frame: bytes, *more: object) -> Reply:
        try:
            returned = on_text(frame.decode(encoding), *more)
            return _encoded(await returned if inspect.isawaitable(returned) else returned, encoding)
        except Close as close:
            raise _encode_last_words(close, encoding)  # noqa: B904 - it is the same one

    return on_bytes


def text_batch(on_texts: OnText, encoding: str) -> Callable[[list[bytes]], BatchReply]:
    """Wrap a function that answers a list of frames of text."""

    @functools.wraps(on_texts)
    def on_bytes(frames: list[bytes]) -> BatchReply:
        try:
            replies = on_texts([frame.decode(encoding) for frame in frames])
        except Close as close:
            raise _encode_last_words(close, encoding)  # noqa: B904 - it is the same one
        if isinstance(replies, list):
            return [_encoded(one, encoding) for one in replies]
        return _encoded(replies, encoding)

    return on_bytes


class TextFactory:
    """Makes protocol objects that are given text.

    Args:
        make: called once for each connection.
        encoding: of their frames, and of what they reply.
    """

    def __init__(self, make: Callable[[], object], encoding: str) -> None:
        self.make = make
        self.encoding = encoding

    def __call__(self) -> object:
        """Make one."""
        return self.make()

    def make_receiver(self, protocol: object) -> TextAdapter:
        """Return what speaks to a protocol object."""
        return TextAdapter(protocol, self.encoding)

    def text_transport(self, kind: type[Transport]) -> type[Transport]:
        """Return a class of connections that take text as replies."""
        encoding = self.encoding

        def reply(self: Transport, frame: object) -> None:
            kind.reply(self, frame.encode(encoding) if isinstance(frame, str) else frame)

        made: Any = type(kind.__name__, (kind,), {"__slots__": (), "reply": reply})
        return made  # type: ignore[no-any-return]


class TextAdapter(ProtocolAdapter):
    """Speaks to a protocol object that takes text."""

    __slots__ = ()

    def __init__(self, protocol: object, encoding: str) -> None:
        super().__init__(protocol)
        on_text = self.frame
        self.frame = lambda frame: on_text(frame.decode(encoding))


__all__ = ["TextFactory", "text_batch", "text_coroutine", "text_function"]
