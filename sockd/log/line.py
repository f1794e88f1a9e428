# SPDX-License-Identifier: MIT
"""Shortens what is too long for a line of the log.

No part of a line of text is longer than MAX_TEXT, whatever its target is: an exception can quote what a client has
sent, and a collector of logs gets a message for each line of a traceback.

Where several processes write to one pipe, what is written at once stays in one piece up to PIPE_BUF bytes (pipe(7)),
and a longer line may have another's in its middle.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TEXT = 16_384
"""Characters of a message or a field."""
MAX_TRACE, MAX_TRACE_LINES = 65_536, 400
"""Characters and lines of a traceback; a recursion of Python's limit has a tenth of these lines."""
LEFT_OUT = " [...] "
LEAST = 64
"""Parts of no more characters than this are not cut."""


def shortened(
    record: logging.LogRecord, trace: str, max_bytes: int, write: Callable[[logging.LogRecord], bytes]
) -> bytes:
    """Return a record's line, in at most that many bytes: the middle of its longest parts is left out.

    Args:
        trace: its traceback, as text.
        max_bytes: bytes, with the newline.
        write: from a record to the bytes of its line.
    """
    short = logging.makeLogRecord(record.__dict__)
    short.msg, short.args = record.getMessage(), None
    short.exc_info, short.stack_info = None, trace or None
    event = getattr(record, "event", None)
    if isinstance(event, dict):
        short.event = event = dict(event)
    while len(data := write(short)) > max_bytes:
        if not _cut_longest(short, event if isinstance(event, dict) else {}):
            return data[: max_bytes - 1] + b"\n"
    return data


def bounded(text: str) -> str:
    """Return a message or the value of a field; of a long one the beginning and the end."""
    return text if len(text) <= MAX_TEXT else _without_middle(text, MAX_TEXT)


def bounded_trace(text: str) -> str:
    """Return a traceback; of a long one the beginning and the end."""
    if len(text) > MAX_TRACE:
        text = _without_middle(text, MAX_TRACE)
    lines = text.split("\n")
    if len(lines) > MAX_TRACE_LINES:
        half = (MAX_TRACE_LINES - 1) // 2
        text = "\n".join([*lines[:half], LEFT_OUT, *lines[-half:]])
    return text


def _without_middle(text: str, limit: int) -> str:
    half = (limit - len(LEFT_OUT)) // 2
    return text[:half] + LEFT_OUT + text[-half:]


def _cut_longest(record: logging.LogRecord, event: dict[object, object]) -> bool:
    """Halve the longest part; False when all are short."""
    texts = {key: text for key, value in event.items() if len(text := _text(value)) > LEAST}
    key = max(texts, key=lambda one: len(texts[one]), default=None)
    longest = len(texts[key]) if key in texts else 0
    trace, message = record.stack_info or "", record.msg
    if max(longest, len(trace), len(message)) <= LEAST:
        return False
    if longest >= max(len(trace), len(message)):
        event[key] = _cut(texts[key])
    elif len(trace) >= len(message):
        record.stack_info = _cut(trace)
    else:
        record.msg = _cut(message)
    return True


def _text(value: object) -> str:
    return bytes(value).decode("utf-8", "backslashreplace") if isinstance(value, (bytes, bytearray)) else str(value)


def _cut(text: str) -> str:
    """Leave out the middle: the beginning of a traceback and the exception at its end say most."""
    quarter = len(text) // 4
    return text[:quarter].removesuffix(LEFT_OUT) + LEFT_OUT + text[-quarter:]


__all__ = ["MAX_TEXT", "bounded", "bounded_trace", "shortened"]
