# SPDX-License-Identifier: MIT
"""What a log entry says of a handler that has failed: its own line first, and none of ours above it."""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from types import CodeType, CoroutineType
from typing import TYPE_CHECKING

from sockd.lazy import inspect

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    ErrorInfo = tuple[type[BaseException], BaseException, TracebackType | None]

OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep

when_copied: Callable[[BaseException | None], object] | None = None
"""Ends a process that a handler has forked (sockd.process.forked); None in all others."""


def end_copy(error: BaseException | None = None) -> None:
    """Do not return in a process that a handler has forked: it has raised this, or returned (process/forked.py)."""
    if when_copied is not None:
        when_copied(error)


def error_info(error: BaseException) -> ErrorInfo:
    """Return an exception for `exc_info`, its traceback beginning with the handler; without one where none is its own.

    Not so for what is raised in sockd's own code alone that is no judgement of a reply: that may be a defect of it.
    """
    end_copy(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OURS):
        trace = trace.tb_next
    is_judged = issubclass(type(error), TypeError | ValueError)  # isinstance() asks the error's own __class__
    if trace is None and is_judged:
        error.__suppress_context__ = True  # such as a Close whose last words are no reply
    return type(error), error, trace if trace is not None or is_judged else error.__traceback__


def is_pythons(file: str) -> bool:
    """Return whether a file is of Python's own library."""
    return file.startswith(STANDARD_LIBRARY) and "site-packages" not in file and "dist-packages" not in file


def user_line(error: BaseException, handler: object = None) -> str:
    """Return `file:line name` of the handler's own line, the innermost but for Python's; else where it is defined."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if not (code.co_filename.startswith((OURS, "<frozen")) or is_pythons(code.co_filename)):
            found = f"{code.co_filename}:{trace.tb_lineno} {code.co_qualname}"
        trace = trace.tb_next
    return found or _find_definition(handler)


def _find_definition(handler: object) -> str:
    with suppress(BaseException):  # a handler can be anything
        while isinstance(handler, functools.partial):
            handler = handler.func
        found: object = inspect.unwrap(handler) if callable(handler) else type(handler)
        if isinstance(found, type):
            return f"{inspect.getsourcefile(found)}:{inspect.getsourcelines(found)[1]} {found.__qualname__}"
        method = getattr(type(found), "__call__", None)  # noqa: B004 - of an object that is called
        code = getattr(found, "__code__", None) or getattr(method, "__code__", None)
        if isinstance(code, CodeType):
            return f"{code.co_filename}:{code.co_firstlineno} {code.co_qualname}"
    return ""


def waiting_line(coroutine: object) -> str:
    """Return `file:line name` where a coroutine waits; empty for one that has ended, and for what is none."""
    frame = coroutine.cr_frame if isinstance(coroutine, CoroutineType) else None
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"


__all__ = ["OURS", "end_copy", "error_info", "is_pythons", "user_line", "waiting_line", "when_copied"]
