# SPDX-License-Identifier: MIT
"""What handlers of the storm raise, and what they return that is no reply; each by its number.

Copied beside the daemon's configuration, and imported by its handlers as well as by clients, which name what is asked
for.  `RAISED[n]()` raises, `RETURNED[n]()` returns.
"""

from __future__ import annotations

import array
import asyncio
import os
import re
import ssl
import sys

import sockd
from sockd import errors

SPARED = os.environ.get("STORM_SPARED")
"""A pattern of names: these are left out, to see what comes behind them."""


class OwnBase(BaseException):
    """Neither an Exception nor one that Python knows."""


class NoText(Exception):
    """Can be turned into text by nobody."""

    def __str__(self):
        raise ValueError("no text")

    __repr__ = __str__


class NoTextAtAll(BaseException):
    """Raises what is no Exception when it is to be text."""

    def __str__(self):
        raise SystemExit(3)

    __repr__ = __str__


class Lies(Exception):
    """Raises when somebody asks for its class, as isinstance does."""

    @property
    def __class__(self):
        raise ValueError("no class")


class FalseNotes(Exception):
    """Has notes that are none (PEP 678)."""

    __notes__ = 7


class NoConstructor(Exception):
    """Cannot be made twice."""

    def __init__(self):
        super().__init__()
        self.args = (object(), self)


class Unhashable(Exception):
    """Equal to everything, and not hashable."""

    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError("not comparable")


class OddBytes(bytes):
    """Bytes that say wrong things of themselves."""

    def __len__(self):
        return -1  # noqa: PLE0303 - that is what is odd

    def __add__(self, other):
        raise RuntimeError("not added")

    def __bytes__(self):
        raise KeyboardInterrupt


class OddBuffer:
    """Claims to be bytes and raises."""

    def __bytes__(self):
        raise OwnBase("bytes")

    def __str__(self):
        raise OwnBase("text")

    __repr__ = __str__


class OddTuple(tuple):
    """A tuple that cannot be gone through."""

    def __iter__(self):
        raise SystemExit("iterated")

    __slots__ = ()


def _raising(error, *arguments):
    def raises():
        raise error(*arguments)

    raises.__name__ = f"{error.__module__}.{error.__qualname__}{arguments!r:.40}"
    return raises


def recursion():
    return recursion()


def memory():
    return bytearray(sys.maxsize)


def deep_group():
    error = ValueError("innermost")
    for _ in range(2000):
        error = ExceptionGroup("group", [error])
    raise error


def base_group():
    raise BaseExceptionGroup("group", [SystemExit(1), KeyboardInterrupt()])


def chain():
    error = ValueError(0)
    for number in range(3000):
        later = ValueError(number)
        later.__cause__ = error
        error = later
    raise error


def circle():
    one, two = ValueError(1), ValueError(2)
    one.__cause__, two.__cause__ = two, one
    raise one


def long_text():
    raise ValueError("x" * 300_000)


def control_text():
    raise ValueError('\x1b[2J\n{"level": "info"}\r\0\udc80 2028')


def no_class():
    raise 7  # noqa: B016 - a TypeError, as users make them


def from_generator():
    yield_nothing = (one for one in ())
    next(yield_nothing)


def in_finally():
    try:
        raise SystemExit(1)
    finally:
        raise asyncio.CancelledError


def closing(*words):
    def closes():
        raise sockd.Close(*words)

    closes.__name__ = f"Close{words!r:.40}"
    return closes


def changed_words():
    error = sockd.Close(b"words")
    error.last_words = OddBuffer()
    raise error


def odd_words():
    raise sockd.Close(OddBytes(b"odd"))


def odd_tuple():
    raise sockd.Close(OddTuple((1, 2)))


class CloseNoText(sockd.Close):
    """A Close that has no words to give."""

    def __init__(self):
        pass


def close_without():
    raise CloseNoText


RAISED = (
    _raising(ValueError, "plain"),
    _raising(SystemExit),
    _raising(SystemExit, "text"),
    _raising(SystemExit, 0),
    _raising(KeyboardInterrupt),
    _raising(GeneratorExit),
    _raising(asyncio.CancelledError),
    _raising(OwnBase, "own"),
    _raising(NoText),
    _raising(NoTextAtAll),
    _raising(Lies),
    _raising(FalseNotes),
    _raising(NoConstructor),
    _raising(Unhashable),
    _raising(MemoryError),
    memory,
    recursion,
    _raising(StopIteration),
    _raising(StopIteration, 7),
    _raising(StopAsyncIteration),
    _raising(asyncio.IncompleteReadError, b"", 7),
    _raising(asyncio.LimitOverrunError, "long", 7),
    _raising(asyncio.InvalidStateError),
    _raising(BlockingIOError, 11, "again"),
    _raising(InterruptedError, 4, "interrupted"),
    _raising(ConnectionResetError, 104, "reset"),
    _raising(BrokenPipeError, 32, "pipe"),
    _raising(OSError, 24, "EMFILE"),
    _raising(OSError, -7, "no such number"),
    _raising(TimeoutError),
    _raising(ssl.SSLWantReadError),
    _raising(ssl.SSLError, 1, "ssl"),
    _raising(errors.SockdError, "sockd"),
    _raising(errors.ConfigurationError, "sockd"),
    _raising(LookupError),
    _raising(BufferError),
    _raising(EOFError),
    _raising(SyntaxError, "text", ("file", 1, 1, "line", 1, 1)),
    _raising(UnicodeDecodeError, "utf-8", b"\xff", 0, 1, "reason"),
    _raising(AssertionError),
    deep_group,
    base_group,
    chain,
    circle,
    long_text,
    control_text,
    no_class,
    from_generator,
    in_finally,
    closing(),
    closing(b"bye"),
    closing(b""),
    closing(b"two\nlines"),
    closing(b"\r\n.\r\n"),
    closing(b"x" * 200_000),
    closing("text"),
    closing(7),
    closing([b"list"]),
    closing((1, 2)),
    closing(("a", None, b"")),
    closing(memoryview(b"abcdef")[::2]),
    closing(bytearray(b"array")),
    changed_words,
    odd_words,
    odd_tuple,
    close_without,
)
"""Every class of exception, and every oddity of one."""
if SPARED:
    RAISED = tuple(RAISED[0] if re.search(SPARED, one.__name__) else one for one in RAISED)


def released():
    view = memoryview(bytearray(b"released"))
    view.release()
    return view


def coroutine():
    async def nothing():
        return None

    made = nothing()
    made.close()
    return made


def cancelled():
    raised = asyncio.CancelledError()
    raised.__traceback__ = None
    return raised


RETURNED = (
    lambda: "text",
    lambda: 7,
    lambda: 1.5,
    lambda: True,
    lambda: [b"list", b"of", b"bytes"],
    lambda: ["a", 1, None],
    lambda: (1, 2, 3),
    lambda: ("s", 300, b"too long for its field, by far"),
    lambda: ("s", -1, b""),
    lambda: {b"a": b"b"},
    lambda: bytearray(b"array"),
    lambda: memoryview(b"abcdef")[::2],
    lambda: memoryview(array.array("I", [1, 2, 3])),
    released,
    lambda: OddBytes(b"odd"),
    OddBuffer,
    lambda: OddTuple((b"s", 1, b"")),
    lambda: b"two\nlines",
    lambda: b"\n\r\n\r\r\n",
    lambda: b"\r\n.\r\n..",
    lambda: b"\0;;\n\n",
    lambda: b"",
    lambda: b"x" * 5000,
    lambda: "\udc80",
    coroutine,
    cancelled,
    lambda: Exception,
    lambda: RAISED,
    lambda: NotImplemented,
    lambda: (one for one in ()),
    object,
    lambda: [b"right"] * 1000,
    lambda: [OddBytes(b"odd")],
    lambda: [released()],
)
"""What is no reply, or a questionable one."""


def text_of(number: int) -> str:
    """Name what RAISED has under a number, for reports."""
    return RAISED[number % len(RAISED)].__name__
